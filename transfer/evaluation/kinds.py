"""The evaluation of every kind of data, by the kind's name.

A new kind is a file with its `KindEvaluation` and a line in `_EVALUATIONS` (and one in transfer.data.catalog);
`register_kind` adds one from outside the project.
"""

from transfer.data import catalog
from transfer.data.cityscapes.dataset import CITYSCAPES
from transfer.data.coco.dataset import COCO
from transfer.data.common.dataset import DataKind
from transfer.data.densepose.dataset import DENSEPOSE
from transfer.data.lvis.dataset import LVIS
from transfer.data.semantic.cityscapes import CITYSCAPES_LABEL_MAPS
from transfer.data.semantic.folder import LABEL_MAPS
from transfer.data.semantic.voc import VOC_LABEL_MAPS
from transfer.data.voc.dataset import VOC
from transfer.evaluation.cityscapes.kind import CITYSCAPES_EVALUATION
from transfer.evaluation.coco import evaluators
from transfer.evaluation.coco.kind import COCO_EVALUATION
from transfer.evaluation.common.data_kind import KindEvaluation
from transfer.evaluation.densepose.kind import DENSEPOSE_EVALUATION
from transfer.evaluation.lvis.kind import LVIS_EVALUATION
from transfer.evaluation.semantic.kind import LABEL_MAP_EVALUATION
from transfer.evaluation.voc.kind import VOC_EVALUATION

EVALUATOR_FLAG, EVALUATOR_HELP, EVALUATORS = evaluators.FLAG, evaluators.FLAG_HELP, evaluators.EVALUATORS

_EVALUATIONS = {
    VOC.name: VOC_EVALUATION,
    COCO.name: COCO_EVALUATION,
    CITYSCAPES.name: CITYSCAPES_EVALUATION,
    LVIS.name: LVIS_EVALUATION,
    DENSEPOSE.name: DENSEPOSE_EVALUATION,
    **{kind.name: LABEL_MAP_EVALUATION for kind in (VOC_LABEL_MAPS, CITYSCAPES_LABEL_MAPS, LABEL_MAPS)},
}


def register_kind(kind: DataKind, evaluation: KindEvaluation) -> None:
    """Add a kind of data, with its loader, evaluator, matcher and report columns.

    Call it where the module of `kind.load` is imported: processes that are started for a run import that module.

    Raises:
        ValueError: another kind has this name, or one of its data sets does.
    """
    catalog.register_kind(kind)
    _EVALUATIONS[kind.name] = evaluation


def evaluation_of(kind_name: str) -> KindEvaluation:
    """Return the evaluation of a kind of data.

    Raises:
        TransferError: no kind has this name; the message lists those there are.
    """
    return _EVALUATIONS[catalog.kind_named(kind_name).name]
