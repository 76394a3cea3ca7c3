"""What `optim.precision` and `deterministic` set: all flags, for the run alone."""

import os

import pytest
import torch

from pretrain.engine.arithmetic import MEANINGS, WORKSPACE, WORKSPACES, arithmetic, describe
from pretrain.engine.step import PRECISIONS
from pretrain.runtime.provenance import arithmetic_flags

FLAGS = ("cudnn_deterministic", "deterministic_algorithms")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_tf32_uses_tf32_and_only_in_convolutions(precision: str) -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    with arithmetic(precision, deterministic=True):
        flags = arithmetic_flags()
    assert flags["tf32_in_convolutions"] is (precision == "tf32")
    assert flags["tf32_in_matrix_products"] is False
    assert flags["float32_matmul_precision"] == "highest"
    assert torch.backends.cudnn.allow_tf32
    assert describe(precision, True).startswith(f"{precision}: {MEANINGS[precision]}")


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_sets_every_flag_and_none_stays(deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    before = arithmetic_flags()
    with arithmetic("fp32", deterministic):
        flags = arithmetic_flags()
        assert not deterministic or torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert {flags[name] for name in FLAGS} == {deterministic}
    assert flags["cudnn_benchmark"] is not deterministic
    assert flags[WORKSPACE] == (WORKSPACES[0] if deterministic else None)
    assert arithmetic_flags() == before
    assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize(("given", "said"), [(":16:8", False), (":0:0", True)])
def test_a_users_cublas_workspace_is_kept(
    given: str, said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(WORKSPACE, given)
    with arithmetic("bf16", deterministic=True):
        assert os.environ[WORKSPACE] == given
    assert os.environ[WORKSPACE] == given
    assert ("may differ from run to run" in caplog.text) is said
