"""The machine of a run: its name, the counted cost of an encoder, and estimates that follow from both."""

import pytest
import torch

from pretrain.config import machine
from pretrain.config.machine import Machine, count_cost, hours, memory, named_machine
from pretrain.models.encoders import build_encoder
from pretrain.runtime.errors import PretrainError

GPU = Machine(24, 6, "bf16")


def test_a_machine_is_named_by_its_memory_or_as_a_cpu() -> None:
    assert named_machine("11") == Machine(11, 6, "fp16")
    assert named_machine("24") == GPU
    assert str(GPU) == "one GPU of 24 GB"
    cpu = named_machine("cpu")
    assert (cpu.gpu_gb, cpu.precision in ("fp32", "bf16")) == (0, True)
    assert str(cpu) == f"a CPU of {cpu.cores} cores"


@pytest.mark.parametrize("name", ["", "large", "3", "0", "-24", "nan", "24GB", "2000"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(PretrainError, match="give cpu, auto, or the memory of a GPU in GB such as 11, 24 or 80"):
        named_machine(name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_counted_bytes_are_those_that_a_real_pass_keeps(precision: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder("resnet18").train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*encoder.parameters(), *encoder.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        features = encoder(torch.zeros(6, 3, 32, 32))
    cost = count_cost("resnet18", 32, precision)
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert features.shape == (6, 128)
    assert 6 * cost.bytes_of_image + cost.bytes_once == pytest.approx(real, rel=0.01)
    assert cost.parameters == sum(tensor.numel() for tensor in encoder.parameters())


def test_resnet50_costs_what_is_known_of_it() -> None:
    fp32, bf16 = (count_cost("resnet50", 224, precision) for precision in ("fp32", "bf16"))
    assert fp32.parameters == 27_966_656
    assert 4 * fp32.operations == pytest.approx(32.7e9, rel=0.01)  # a pair: two forward passes, one backward
    assert fp32.bytes_of_image == pytest.approx(85.9e6, rel=0.01)
    assert bf16.bytes_of_image == pytest.approx(43.8e6, rel=0.01)


def test_memory_of_the_published_run_is_the_published_one() -> None:
    """32 images a GPU, fp32, 65,536 keys: 5.0 GB (arXiv 2003.04297, table 3)."""
    assert memory(count_cost("resnet50", 224, "fp32"), 32, 65536) == pytest.approx(5.0, abs=0.3)


def test_hours_contain_those_of_the_published_run() -> None:
    """200 epochs of ImageNet on 8 V100 of 900 GB/s took 53 hours: 424 on one."""
    cost = count_cost("resnet50", 224, "fp32")
    _, most, source = hours(GPU, cost, 1_000_800, 256, "fp32")
    assert most == pytest.approx(424 * 900 / 936, rel=0.01)
    assert "V100, fp32: 168 pairs/s" in source


def test_hours_follow_operations_cores_and_launches() -> None:
    small, large = (count_cost("resnet18", size, "fp32") for size in (64, 128))
    two, four = (Machine(0, cores, "fp32") for cores in (2, 4))
    fewest, most, _ = hours(two, small, 1000, 64, "fp32")
    assert (fewest, most) == pytest.approx((64_000 / 116 / 3600, 64_000 / 64 / 3600))
    assert hours(four, small, 1000, 64, "fp32")[0] == pytest.approx(fewest / 2)
    assert hours(two, large, 1000, 64, "fp32")[0] == pytest.approx(4 * fewest, rel=0.01)
    assert hours(GPU, small, 1000, 8, "bf16")[0] == 1000 * machine.LAUNCHES / 3600
