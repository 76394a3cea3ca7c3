"""The recipe for another number of GPUs or of labelled images.

GPUs: by the linear scaling rule (arXiv 1706.02677, section 2.1).
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from transfer.errors import TransferError
from transfer.results import Scaled

LEAST_SHARE = Fraction(1, 10)  # of the iterations, that stays with however few labels
REFERENCE_GPUS = 8  # every published recipe was run on as many, with 2 images each


def scaled_settings(config: Any, gpus: int) -> tuple[dict[str, Any], Scaled]:
    """Return the settings of the recipe `config` on `gpus` GPUs, as Detectron2's DefaultTrainer.auto_scale_workers.

    Batch and learning rate grow with the GPUs; iterations, drops, warm-up and the periods of tests and checkpoints
    shrink, so that the run sees as many images. SOLVER.REFERENCE_WORLD_SIZE, the GPUs a configuration is meant for (0:
    REFERENCE_GPUS), becomes `gpus`.

    Returns:
        Values by full names, and the two numbers of GPUs.

    Raises:
        TransferError: no such number of GPUs, or a batch that cannot be scaled to it.
    """
    solver = config.SOLVER
    reference = solver.REFERENCE_WORLD_SIZE or REFERENCE_GPUS
    if gpus < 1:
        raise TransferError(f"--scale-to {gpus}: a number of GPUs from 1 up is expected")
    factor = Fraction(gpus, reference)
    if (solver.IMS_PER_BATCH * factor).denominator != 1:
        raise TransferError(
            f"--scale-to {gpus}: SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH} on {reference} GPUs is "
            f"{float(solver.IMS_PER_BATCH * factor):g} images on {gpus}"
        )
    settings = {
        "SOLVER.IMS_PER_BATCH": int(solver.IMS_PER_BATCH * factor),
        "SOLVER.BASE_LR": solver.BASE_LR * float(factor),
        "SOLVER.MAX_ITER": _divided(solver.MAX_ITER, factor),
        "SOLVER.WARMUP_ITERS": _divided(solver.WARMUP_ITERS, factor),
        "SOLVER.CHECKPOINT_PERIOD": _divided(solver.CHECKPOINT_PERIOD, factor),
        "SOLVER.STEPS": type(solver.STEPS)(_divided(step, factor) for step in solver.STEPS),
        "SOLVER.REFERENCE_WORLD_SIZE": gpus,
        "TEST.EVAL_PERIOD": _divided(config.TEST.EVAL_PERIOD, factor),
    }
    return settings, Scaled(reference, gpus)


def refuse_implicit_scaling(config: Any) -> None:
    """Refuse a configuration that Detectron2 would scale to the number of processes it finds, though nobody asked."""
    reference = config.SOLVER.REFERENCE_WORLD_SIZE
    if reference:
        raise TransferError(
            f"SOLVER.REFERENCE_WORLD_SIZE {reference}: say with --scale-to how many GPUs the run is for "
            f"(--scale-to {reference} changes nothing)"
        )


def shortened_settings(config: Any, fraction: Fraction, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the schedule of a recipe for a fraction of its labelled images.

    Iterations, drops, warm-up and the periods of tests and checkpoints shrink by the fraction, so that each image is
    seen as often as in the recipe, but never below LEAST_SHARE of them: a detector needs some iterations however few
    its images are, and a schedule that is too short favours the better start.

    Args:
        fraction: above 0, at most 1.
        overrides: the user's KEY VALUE pairs. What they name stays, and with SOLVER.MAX_ITER everything does.

    Returns:
        Values by full names; {} where nothing changes.
    """
    if fraction == 1 or "SOLVER.MAX_ITER" in overrides[::2]:
        return {}
    factor, solver = 1 / max(fraction, LEAST_SHARE), config.SOLVER
    settings = {
        "SOLVER.MAX_ITER": _divided(solver.MAX_ITER, factor),
        "SOLVER.WARMUP_ITERS": _divided(solver.WARMUP_ITERS, factor),
        "SOLVER.STEPS": type(solver.STEPS)(_divided(step, factor) for step in solver.STEPS),
        "SOLVER.CHECKPOINT_PERIOD": _divided(solver.CHECKPOINT_PERIOD, factor),
        "TEST.EVAL_PERIOD": _divided(config.TEST.EVAL_PERIOD, factor),
    }
    return {key: value for key, value in settings.items() if key not in overrides[::2]}


def _divided(iterations: int, factor: Fraction) -> int:
    return max(1, round(iterations / factor)) if iterations else 0  # 0 means never
