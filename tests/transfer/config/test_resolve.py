"""The resolved configuration: what is changed of it, and that it stays frozen."""

from pathlib import Path

import pytest
import torch

from transfer.config import resolve
from transfer.engines import torchvision as engine
from transfer.errors import TransferError

R18_FPN = Path(__file__).resolve().parents[3] / "configs/transfer/voc_r18_fpn_cpu.yaml"


def config(*overrides: str):
    return engine.load_config(R18_FPN, overrides)


def test_a_loaded_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        config().SEED = 3


def test_other_settings_make_a_frozen_copy() -> None:
    before = config()
    after = resolve.with_settings(before, {"MODEL.DEVICE": "cpu", "SEED": 3})
    assert (after.MODEL.DEVICE, after.SEED) == ("cpu", 3)
    assert (before.MODEL.DEVICE, before.SEED) != ("cpu", 3)
    with pytest.raises(AttributeError, match="immutable"):
        after.MODEL.DEVICE = "cuda"
    with pytest.raises(KeyError, match=r"MODEL\.DEVISE"):
        resolve.with_settings(before, {"MODEL.DEVISE": "cpu"})


def test_a_negative_seed_is_drawn_and_another_kept() -> None:
    assert resolve.choose_seed(7) == 7
    assert {resolve.choose_seed(-1) >= 0 for _ in range(10)} == {True}
    assert len({resolve.choose_seed(-1) for _ in range(10)}) > 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_the_default_device_gives_way_and_a_wish_does_not() -> None:
    assert resolve.choose_device("cuda", given=False) == "cpu"
    with pytest.raises(TransferError, match="no CUDA device"):
        resolve.choose_device("cuda", given=True)


def test_the_gpu_of_a_mac_is_refused_by_its_name() -> None:
    with pytest.raises(TransferError, match=r"MODEL\.DEVICE mps: MPS, .* is not supported"):
        resolve.choose_device("mps", given=True)


def test_the_number_of_classes_is_the_datas() -> None:
    assert resolve.with_classes_of_data(config(), ("cat", "dog"), ()).MODEL.ROI_HEADS.NUM_CLASSES == 2
    with pytest.raises(TransferError, match="the data have 1 classes"):
        resolve.with_classes_of_data(config(), ("cat",), ("MODEL.ROI_HEADS.NUM_CLASSES", "20"))
