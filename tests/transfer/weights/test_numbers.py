"""Numbers that no trained network has, in every file of weights that is read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.transfer.pretrained import resnet, saved
from transfer.errors import TransferError
from transfer.weights import detector_file, source
from transfer.weights.numbers import check_numbers

VARIANCE, WEIGHT = "layer4.1.bn2.running_var", "layer3.0.conv1.weight"
Change = Callable[[dict[str, Tensor]], None]


def put(name: str, value: float) -> Change:
    return lambda state: state[name].view(-1).__setitem__(3, value)


def half(state: dict[str, Tensor]) -> None:
    """A cast to half precision that overflows in one place."""
    state[VARIANCE][3] = 1e6
    state |= {name: tensor.half() for name, tensor in state.items() if tensor.is_floating_point()}


def clamped(state: dict[str, Tensor]) -> None:
    state[WEIGHT] = state[WEIGHT].mul(1e7).clamp(-65504, 65504).half()


def unset(state: dict[str, Tensor]) -> None:
    state[VARIANCE].zero_()


def integers(state: dict[str, Tensor]) -> None:
    state[WEIGHT] = state[WEIGHT].to(torch.int8)


FAULTS: dict[str, tuple[Change, str]] = {
    "NaN": (put(WEIGHT, float("nan")), f"{WEIGHT}: 1 of 294912 NaN"),
    "infinite weight": (put(WEIGHT, float("-inf")), f"{WEIGHT}: 1 of 294912 infinite"),
    "infinite variance": (put(VARIANCE, float("inf")), f"{VARIANCE}: 1 of 512 infinite"),
    "negative variance": (put(VARIANCE, -0.5), f"{VARIANCE}: 1 of 512 negative, of a variance"),
    "zero variance": (put(VARIANCE, 0.0), f"{VARIANCE}: 1 of 512 zero, a variance with a mean"),
    "no variance": (unset, f"{VARIANCE}: .*512 of 512 zero, all variances of the layer"),
    "overflow": (half, f"{VARIANCE}: 1 of 512 infinite"),
    "clamped overflow": (clamped, f"{WEIGHT}: .* at the end of float16's range"),
    "integers": (integers, f"{WEIGHT}: of type int8, where floating-point numbers are expected"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_numbers_that_no_trained_network_has_are_refused(name: str, tmp_path: Path) -> None:
    """An infinite variance makes a channel 0, in the source as in the result: their features agree."""
    change, message = FAULTS[name]
    state = resnet()
    change(state)
    with pytest.raises(TransferError, match=rf"(?s)source\.pth\.tar: .* tensors? hold.*{message}"):
        source.read_pretrained(
            saved(tmp_path, {"state_dict": {f"module.{key}": value for key, value in state.items()}})
        )
    model = {key: torch.empty(value.shape, device="meta") for key, value in state.items()}
    with pytest.raises(TransferError, match=rf"(?s)detector\.pth: .*{message}"):
        detector_file.read_detector(saved(tmp_path, {"model": state}, "detector.pth"), model)


def test_a_dead_channel_is_no_fault() -> None:
    state = resnet()
    state[VARIANCE][3] = state["layer4.1.bn2.running_mean"][3] = 0.0
    check_numbers(state, "x")
