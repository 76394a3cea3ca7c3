"""The remarks on a mean IoU: classes that it leaves out, classes that are predicted and do not occur."""

from collections.abc import Sequence

from pretrain.runtime.errors import listed
from transfer.evaluation.common.remarks import SHOWN
from transfer.evaluation.semantic.iou import PixelCounts


def label_map_remarks(counts: PixelCounts, class_names: Sequence[str]) -> tuple[str, ...]:
    """Return what a reader of a mean IoU must know.

    Args:
        counts: (K,) the pixels of all images.
        class_names: of the K classes.
    """
    if not counts.objects.any():
        return ("mIoU: nothing to score, every pixel of the ground truth is ignored",)
    absent = [name for name, there in zip(class_names, counts.objects > 0, strict=True) if not there]
    found = dict(zip(class_names, counts.predicted > 0, strict=True))
    remarks = []
    if left_out := [name for name in absent if not found[name]]:
        remarks.append(
            f"mIoU is the mean over {len(class_names) - len(left_out)} of {len(class_names)} classes; neither in the "
            f"ground truth nor predicted: {listed(left_out, SHOWN)}"
        )
    if counted := [name for name in absent if found[name]]:
        remarks.append(
            "predicted, not in the ground truth, and counted with IoU 0 as in cityscapesscripts (Detectron2's "
            f"evaluator leaves such classes out): {listed(counted, SHOWN)}"
        )
    missed = int(counts.objects.sum() - counts.predicted.sum())
    if missed:
        remarks.append(f"{missed} pixels are predicted as no class, and are wrong")
    return tuple(remarks)
