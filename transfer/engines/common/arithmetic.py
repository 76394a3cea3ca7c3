"""The arithmetic of a run in either engine: TF32, cuDNN's choice of algorithms, the loss scale of half precision."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from transfer.errors import TransferError

# Below it a gradient is scaled to less than the smallest normal number of float16 unless it is larger than 1.
SMALLEST_LOSS_SCALE = 2.0**-14


@contextlib.contextmanager
def arithmetic(cfg: Any) -> Iterator[None]:
    """Compute in the block as CUDNN_BENCHMARK and FLOAT32_PRECISION say; torch is left as it was.

    As in Detectron2's default_setup, FLOAT32_PRECISION concerns GPUs only: "highest" turns TF32 off, in convolutions
    too; "high" and "medium" turn it on; "" leaves torch's defaults, which are TF32 in convolutions alone.
    """
    cudnn = torch.backends.cudnn
    matmul, tf32, benchmark = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    try:
        cudnn.benchmark = cfg.CUDNN_BENCHMARK
        if cfg.FLOAT32_PRECISION and torch.device(cfg.MODEL.DEVICE).type == "cuda":
            torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
            cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.allow_tf32, cudnn.benchmark = tf32, benchmark


def check_loss_scale(scaler: torch.amp.GradScaler, iteration: int) -> None:
    """Refuse to go on where every step overflows: each is left out, and nothing would be learned to the end.

    Raises:
        TransferError: the loss scale has been halved so often that gradients have no digits left in float16.
    """
    if scaler.is_enabled() and scaler.get_scale() < SMALLEST_LOSS_SCALE:
        raise TransferError(
            f"iteration {iteration}: every step overflows in half precision, at a loss scale of "
            f"{scaler.get_scale():.1e} too, and is left out. Train with SOLVER.AMP.ENABLED False"
        )


def diverged(cfg: Any, iteration: int, found: str) -> TransferError:
    """Return the error of a loss that is not finite, with what may help.

    Args:
        found: what was not finite, as a clause.
    """
    if iteration == 0:
        advice = (
            "No step has been done yet, so it is not the learning rate: look for numbers that are not finite, or are "
            "huge, in the weights that the run began with"
        )
    else:
        advice = "Lower SOLVER.BASE_LR or raise SOLVER.WARMUP_ITERS"
    if cfg.SOLVER.AMP.ENABLED:
        advice += "; with SOLVER.AMP.ENABLED False you see whether half precision overflows"
    return TransferError(f"iteration {iteration}: {found}. {advice}")
