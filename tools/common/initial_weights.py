"""The file of the setting `model.weights`: any that tools/convert.py reads, checked as it checks it."""

from pathlib import Path

from pretrain.models.initial_weights import InitialWeights
from pretrain.runtime.errors import PretrainError


def read_initial_weights(path: Path) -> InitialWeights:
    """Read the backbone in a pretrained file.

    Raises:
        UserError: the reasons of transfer.conversion.convert.convert.
    """
    from transfer.conversion import convert, equivalence  # a second; most runs, and all loader workers, need neither
    from transfer.weights.locate import SeveralNetworksError
    from transfer.weights.renaming import detectron2_name

    try:
        found = convert.convert(path)
    except SeveralNetworksError as error:
        raise PretrainError(
            f"{error}\nWrite the one that is meant with tools/convert.py, and give its output"
        ) from error
    image = equivalence.random_image()
    maps = equivalence.detectron2_features(found.state, image)
    record = {
        "path": str(path),
        "sha256": found.sha256,
        "label": found.metadata["label"],
        "epoch": found.metadata["epoch"],
        "engine": found.check.engine,
        "difference": found.check.difference,
    }
    state = {name: found.state[detectron2_name(name)] for name in found.source.state}
    return InitialWeights(record, found.arch, state, image, maps["res5"].mean((2, 3)))
