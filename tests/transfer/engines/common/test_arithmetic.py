"""TF32, cuDNN's choice and the loss scale: as Detectron2 sets them, in both engines, and only for the run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain.runtime.provenance import arithmetic_flags
from tests.support.transfer import small_models
from tests.support.transfer.small_models import FPN
from transfer import engines
from transfer.engines.common.arithmetic import SMALLEST_LOSS_SCALE, arithmetic, check_loss_scale, diverged
from transfer.errors import TransferError
from transfer.predictions import Predict
from transfer.results import Scores

# FLOAT32_PRECISION: of matrix products, and TF32 in convolutions
ON_A_GPU = {"": ("highest", True), "highest": ("highest", False), "high": ("high", True), "medium": ("medium", True)}


def now() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", ON_A_GPU)
def test_float32_precision_is_obeyed_on_a_gpu(precision: str) -> None:
    before = arithmetic_flags()
    with arithmetic(small_models.config({"FLOAT32_PRECISION": precision, "MODEL.DEVICE": "cuda:1"})):
        assert now() == ON_A_GPU[precision]
    assert arithmetic_flags() == before
    with arithmetic(small_models.config({"FLOAT32_PRECISION": precision, "MODEL.DEVICE": "cpu"})):
        assert now() == ON_A_GPU[""]  # where "medium" would make matrix products of bfloat16


def test_torch_is_left_as_it_was_after_a_failure() -> None:
    before, context = arithmetic_flags(), arithmetic(small_models.config({"FLOAT32_PRECISION": "medium"}))
    context.__enter__()
    assert arithmetic_flags() != before
    assert not context.__exit__(TransferError, TransferError("a failure"), None)
    assert arithmetic_flags() == before


@pytest.mark.detectron2
@pytest.mark.parametrize("precision", [name for name in ON_A_GPU if name])
def test_float32_precision_is_detectron2s(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = pytest.importorskip("detectron2.engine.defaults", reason="Detectron2 is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # it only sets flags, which a CPU's torch has, too
    before = now()
    try:
        defaults._set_float32_precision(precision)
        assert now() == ON_A_GPU[precision]
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.*:FutureWarning")
@pytest.mark.parametrize("name", ["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def test_an_engine_computes_so_and_leaves_torch_alone(name: str, tmp_path: Path) -> None:
    if name == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    engine, seen = engines.load_engine(name), []
    settings = {"CUDNN_BENCHMARK": True, "OUTPUT_DIR": str(tmp_path), "SOLVER.MAX_ITER": 1}
    settings |= {"MODEL.RESNETS.NORM": "BN", "MODEL.FPN.NORM": "BN"}
    cfg = engine.load_config(None, small_models.overrides(FPN, settings))

    def evaluate(predict: Predict) -> Scores:
        seen.append(torch.backends.cudnn.benchmark)
        return Scores({"bbox": {"AP": 1.0}}, per_class={})

    before = arithmetic_flags()
    names = {"class_names": ["bright", "dark", "red"], "category_ids": [1, 2, 3]}
    data = small_models.dataset(tmp_path / "images", count=2)
    engine.train(cfg, data, {}, evaluate, False, names)
    assert seen == [True]
    assert arithmetic_flags() == before
    predict = engine.load_predictor(cfg, tmp_path / "model_final.pth")
    assert arithmetic_flags() == before
    assert len(predict(data.records[:1])) == 1
    assert arithmetic_flags() == before


def test_overflow_in_every_step_ends_the_run() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer, scaler = torch.optim.SGD([weight], 0.1), torch.amp.GradScaler("cpu")
    while scaler.get_scale() >= SMALLEST_LOSS_SCALE:
        check_loss_scale(scaler, 0)
        scaler.scale((weight * torch.inf).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert weight.tolist() == [1, 1]
    with pytest.raises(TransferError, match=r"iteration 31: every step overflows .* SOLVER.AMP.ENABLED False"):
        check_loss_scale(scaler, 31)
    check_loss_scale(torch.amp.GradScaler("cpu", enabled=False), 0)


@pytest.mark.parametrize(
    ("iteration", "amp", "advised", "not_advised"),
    [
        (0, False, "the weights that the run began with", "BASE_LR"),
        (0, True, "SOLVER.AMP.ENABLED False", "BASE_LR"),
        (7, False, "Lower SOLVER.BASE_LR", "AMP"),
        (7, True, "SOLVER.AMP.ENABLED False", "weights"),
    ],
)
def test_a_loss_that_is_not_finite_has_fitting_advice(
    iteration: int, amp: bool, advised: str, not_advised: str
) -> None:
    cfg: Any = small_models.config({"SOLVER.AMP.ENABLED": amp})
    message = str(diverged(cfg, iteration, "the loss is not finite (loss_cls nan)"))
    assert message.startswith(f"iteration {iteration}: the loss is not finite (loss_cls nan). ")
    assert advised in message
    assert not_advised not in message
