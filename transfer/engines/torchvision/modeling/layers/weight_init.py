"""The initialisation of weights as in Detectron2; every bias becomes 0."""

from torch import nn

Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def init_normal(layer: Layer, std: float) -> None:
    """Draw the weights from N(0, std): for the predictors."""
    nn.init.normal_(layer.weight, std=std)
    _zero_bias(layer)


def init_he(layer: Layer) -> None:
    """Draw from He's normal distribution over the outputs (arXiv 1502.01852): for convolutions before a ReLU.

    Caffe2 calls it MSRA.
    """
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    _zero_bias(layer)


def init_xavier(layer: Layer) -> None:
    """Draw uniformly with variance 1 / inputs: for the pyramid and fully connected layers.

    Caffe2 calls it Xavier.
    """
    nn.init.kaiming_uniform_(layer.weight, a=1)
    _zero_bias(layer)


def _zero_bias(layer: Layer) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
