"""The arithmetic of a run: TF32 or not, and whether a GPU may choose algorithms whose bits differ from run to run."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch

from pretrain.engine.step import PRECISIONS

WORKSPACE, WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")  # cuBLAS is deterministic with these values
MEANINGS = {
    "fp32": "float32; TF32 is off",
    "tf32": "float32; convolutions in TF32 on GPUs that have it (Ampere and later)",
    "bf16": "autocast of the encoders to bfloat16",
    "fp16": "autocast of the encoders to float16, with loss scaling",
}
log = logging.getLogger(__name__)


@contextlib.contextmanager
def arithmetic(precision: str, deterministic: bool) -> Iterator[None]:
    """Compute in the block as the settings say; torch is left as it was.

    Matrix products of float32 numbers, which are in the heads and in the loss, never use TF32: its 10 bits are too few
    for logits. With `deterministic` an operation of which torch has no deterministic form runs all the same, with a
    warning by its name. The block must begin before the process's first matrix product on a GPU.

    Args:
        precision: one of PRECISIONS.
        deterministic: only algorithms that give the same bits again; else those that cuDNN finds to be quickest.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"{precision}: no such precision")
    cudnn: Any = torch.backends.cudnn
    filled: Any = torch.utils.deterministic
    matmul, tf32, fill = torch.get_float32_matmul_precision(), cudnn.allow_tf32, filled.fill_uninitialized_memory
    choice, workspace = (cudnn.deterministic, cudnn.benchmark), os.environ.get(WORKSPACE)
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.set_float32_matmul_precision("highest")
        cudnn.allow_tf32 = precision == "tf32"
        cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        filled.fill_uninitialized_memory = False  # it costs time, and nothing here reads such memory
        if deterministic and os.environ.setdefault(WORKSPACE, WORKSPACES[0]) not in WORKSPACES:
            log.warning(
                "%s is %s, with which the sums of cuBLAS may differ from run to run; %s is deterministic",
                WORKSPACE, workspace, " or ".join(WORKSPACES),
            )  # fmt: skip
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.allow_tf32, filled.fill_uninitialized_memory = tf32, fill
        cudnn.deterministic, cudnn.benchmark = choice
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        if workspace is None:
            os.environ.pop(WORKSPACE, None)


def describe(precision: str, deterministic: bool) -> str:
    """Return what `arithmetic` does, for the user."""
    bits = "deterministic algorithms" if deterministic else "cuDNN's quickest algorithms, bits may differ between runs"
    return f"{precision}: {MEANINGS[precision]}; {bits}"
