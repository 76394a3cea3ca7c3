"""Fresh weights as Detectron2 draws them; every bias is 0."""

from torch import nn

Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def init_normal(layer: Layer, std: float) -> None:
    """Normal with standard deviation `std`: the predictors."""
    nn.init.normal_(layer.weight, std=std)
    _zero_bias(layer)


def init_he(layer: Layer) -> None:
    """He's normal over the outputs (arXiv 1502.01852): convolutions before a ReLU. Caffe2 calls it MSRA."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    _zero_bias(layer)


def init_xavier(layer: Layer) -> None:
    """Uniform with variance 1 / inputs: the pyramid and fully connected layers. Caffe2 calls it Xavier."""
    nn.init.kaiming_uniform_(layer.weight, a=1)
    _zero_bias(layer)


def _zero_bias(layer: Layer) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
