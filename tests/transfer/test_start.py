"""Where a run may start from: exactly one start, read whole, or one message that says what is wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from transfer import convert
from transfer.engines import torchvision as engine
from transfer.errors import TransferError
from transfer.settle import settle_classes, settle_device, settle_seed
from transfer.start import choose_start
from transfer.weights import read_detector

R18_FPN = Path(__file__).parents[2] / "configs/transfer/voc_r18_fpn_cpu.yaml"


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torchvision ResNet-18 file."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def backbone(resnet18: Path) -> Path:
    """The same, converted."""
    path = resnet18.with_name("backbone.pth")
    convert.write(convert.convert(resnet18), path)
    return path


def config(*overrides: str):
    return engine.load_config(R18_FPN, list(overrides))


def start(*overrides: str, init=None, file=None, download=False, eval_only=False, resume=False):
    return choose_start(config(*overrides), init, file, download, eval_only, resume)


def test_no_start_is_no_run() -> None:
    with pytest.raises(TransferError, match=r"no start is given: --init random"):
        start()


def test_two_starts_are_one_too_many(backbone: Path) -> None:
    with pytest.raises(TransferError, match="one start"):
        start("MODEL.WEIGHTS", str(backbone), init="random")


def test_a_backbone_given_as_weights_is_a_backbone(backbone: Path) -> None:
    by_flag, by_key = start(init=str(backbone)), start("MODEL.WEIGHTS", str(backbone))
    assert by_flag.init == by_key.init
    assert by_key.init.kind == "file"
    assert by_key.path is None


def test_a_backbone_fills_the_backbone_and_nothing_else(backbone: Path) -> None:
    model = engine.model_state(config())
    placed = start(init=str(backbone)).tensors(model)
    assert set(placed) == {name for name in model if name.startswith("backbone.bottom_up.")}


def test_supervised_takes_a_torchvision_file(resnet18: Path, backbone: Path) -> None:
    supervised, file = start(init="supervised", file=resnet18), start(init=str(backbone))
    assert (supervised.init.kind, supervised.init.label) == ("supervised", "supervised")
    for name, tensor in file.backbone.state.items():
        assert torch.equal(tensor, supervised.backbone.state[name]), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "supervised"}, "--supervised-weights FILE .* or --download"),
        ({"init": "random", "file": Path("x.pth")}, "belong to --init supervised"),
        ({"init": "moco.pth"}, "moco.pth: no such file"),
        ({"init": "random", "eval_only": True}, "--eval-only scores a whole detector"),
        ({"eval_only": True}, "name the detector to score"),
        ({"resume": True}, "give --init"),
    ],
)
def test_contradictions_are_refused(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=message):
        start("OUTPUT_DIR", str(tmp_path), **arguments)


def test_a_backbone_is_no_detector(backbone: Path) -> None:
    with pytest.raises(TransferError, match="needs a whole detector"):
        start("MODEL.WEIGHTS", str(backbone), eval_only=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INPUT.FORMAT", "BGR"),
        ("MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"),
        ("MODEL.PIXEL_MEAN", "[103.53, 116.28, 123.675]"),
    ],
)
def test_a_config_that_feeds_the_backbone_other_pixels_is_refused(backbone: Path, key: str, value: str) -> None:
    settings = config(key, value)
    with pytest.raises(TransferError, match=key):
        start(init=str(backbone)).check(settings, engine.model_state(settings))


def test_a_detector_must_fit_name_by_name(tmp_path: Path) -> None:
    model = {"a": torch.zeros(2), "b": torch.zeros(3)}
    torch.save({"model": {"a": torch.ones(4), "c": torch.ones(1)}}, tmp_path / "w.pth")
    with pytest.raises(TransferError) as caught:
        read_detector(tmp_path / "w.pth", model)
    for fault in ("missing: b", "unknown: c", "wrong shape: a is (2,) in the model, (4,) in the file"):
        assert fault in str(caught.value)


def test_a_detector_of_numpy_arrays_is_read_as_tensors(tmp_path: Path) -> None:
    torch.save({"model": {"a": np.ones((2, 3), "float32"), "n": np.array(1)}}, tmp_path / "w.pth")
    state = read_detector(tmp_path / "w.pth", {"a": torch.zeros(2, 3), "n": torch.tensor(0)})
    assert torch.equal(state["a"], torch.ones(2, 3))
    assert state["n"].dtype == torch.int64


def test_a_negative_seed_is_drawn_and_another_kept() -> None:
    assert settle_seed(7) == 7
    assert {settle_seed(-1) >= 0 for _ in range(10)} == {True}
    assert len({settle_seed(-1) for _ in range(10)}) > 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_the_default_device_gives_way_and_a_wish_does_not() -> None:
    assert settle_device("cuda", asked_for=False) == "cpu"
    with pytest.raises(TransferError, match="no CUDA device"):
        settle_device("cuda", asked_for=True)


def test_the_number_of_classes_is_the_datas() -> None:
    settings = config().clone()
    settings.defrost()
    settle_classes(settings, ("cat", "dog"), asked_for=False)
    assert settings.MODEL.ROI_HEADS.NUM_CLASSES == 2
    with pytest.raises(TransferError, match="the data have 1 classes"):
        settle_classes(settings, ("cat",), asked_for=True)
