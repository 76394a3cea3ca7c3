"""Score a model on a data set: every rank runs its share of the images, rank 0 scores them all.

Workers read the images ahead. Predictions go to rank 0 alone, a few images at a time: beside what it scores, no rank
holds more of the others' than these.
"""

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pretrain.runtime import distributed, files
from pretrain.runtime.errors import UserError
from pretrain.runtime.hangs import clock
from pretrain.runtime.progress import track
from pretrain.runtime.signals import Stopped, StopRequest
from transfer.data.common.dataset import Dataset
from transfer.data.shared.loader_workers import load_ahead
from transfer.evaluation.common.data_kind import Rows
from transfer.evaluation.kinds import evaluation_of
from transfer.predictions import Predict, Predictor
from transfer.results import Scores

IMAGES_FILE = "images.json"
PIECE = 32  # images of a rank whose predictions travel at a time
T = TypeVar("T")

log = logging.getLogger(__name__)


class Scorer:
    """A function that runs a model on every rank and scores it.

    Args:
        dataset: the data to score on.
        masks, keypoints: True if a detector predicts them; they are scored where this kind of data has them.
        folder: where rank 0 writes the predictions, in the kind's `results_file`, and IMAGES_FILE (image id -> file).
        stop: looked at before each image.
        evaluator: the program that computes the scores, where the kind of data has a choice; None: the kind's own.
        workers: processes of each rank that read images, where the model is a Predictor; 0: read in this one.

    Raises:
        Stopped: when called, on every rank: one of them was asked to stop before its images were through.
        TransferError: data that cannot be scored so, such as objects without a mask: before anything is run. When
            called, on every rank: an image that cannot be read, or of another size than its record says.
    """

    def __init__(
        self,
        dataset: Dataset,
        masks: bool,
        folder: Path,
        keypoints: bool = False,
        stop: StopRequest | None = None,
        evaluator: str | None = None,
        workers: int = 0,
    ) -> None:
        self.dataset, self.stop, self.workers = dataset, stop or StopRequest(), workers
        self._evaluation = evaluation_of(dataset.kind.name)
        self._score = self._evaluation.scored_by(evaluator)
        self._parts = self._evaluation.parts(dataset, masks, keypoints)
        self.folder = folder
        self._logged: set[str] = set()

    def in_folder(self, folder: Path) -> "Scorer":
        """Return a scorer by the same data, checked already, that writes into another folder."""
        other = copy.copy(self)
        other.folder, other._logged = folder, set()
        return other

    def __call__(self, predict: Predict) -> Scores:
        """Return the scores of the model: the same on every rank."""
        share = range(len(self.dataset.records))[distributed.rank() :: distributed.world_size()]
        own: list[tuple[int, Rows]] = []
        fault: Exception | None = None
        with clock.within("evaluation"):
            try:
                own = list(self._run(predict, share))
            except Exception as error:  # a rank that ended alone would leave the others waiting for it
                fault = error
            clock.wait_for_others()
            (cut_short,) = distributed.agree(fault, len(own) < len(share))
        if cut_short:
            raise Stopped("in an evaluation, of which nothing is saved")
        # In the order of the images, whoever ran them: VOC AP breaks tied scores by it.
        numbered = sorted(gather_on_main(own), key=lambda pair: pair[0])
        rows = [row for _, of_image in numbered for row in of_image]
        return distributed.on_main(lambda: self._save_and_score(rows))

    def _run(self, predict: Predict, share: range) -> Iterator[tuple[int, Rows]]:
        """Yield (position, rows) of this rank's images, run one by one as in Detectron2, until asked to stop."""
        records = self.dataset.records[share.start : share.stop : share.step]
        model = predict if isinstance(predict, Predictor) else Predictor(_as_it_is, predict)
        with load_ahead(records, model.read, self.workers if model is predict else 0) as images:
            clock.expect("the first image")
            for position in track(share, "evaluate", shown=distributed.is_main()):
                if self.stop.name is not None:
                    return
                image = next(images)
                if isinstance(image, UserError):
                    raise image
                (predicted,) = model.run([image])
                clock.came_further(f"image {position}")
                yield position, self._evaluation.rows(self.dataset, self.dataset.records[position], predicted)

    def _save_and_score(self, rows: Rows) -> Scores:
        self.folder.mkdir(parents=True, exist_ok=True)
        images = {str(record["image_id"]): record["file_name"] for record in self.dataset.records}
        files.save_text(self.folder / self._evaluation.results_file, json.dumps(rows))
        files.save_text(self.folder / IMAGES_FILE, json.dumps(images))
        scores = self._score(self.dataset, rows, self._parts)
        for remark in scores.remarks:
            if remark not in self._logged:  # an evaluation every few thousand iterations would repeat it
                log.warning("%s: %s", ", ".join(self.dataset.names), remark)
                self._logged.add(remark)
        return scores


def gather_on_main(values: Sequence[T], piece: int = PIECE) -> list[T]:
    """Gather the values of all ranks on rank 0, in rank order; the other ranks get none. Every rank calls it.

    Args:
        piece: values of a rank that travel at a time.
    """
    pieces = -(-max(distributed.all_gather_object(len(values))) // piece)
    gathered: list[list[T]] = [[] for _ in range(distributed.world_size())]
    for first in range(0, pieces * piece, piece):
        parts = distributed.gather_object([] if distributed.is_main() else list(values[first : first + piece]))
        for of_rank, part in zip(gathered, parts, strict=False):
            of_rank += part
    if distributed.is_main():
        gathered[0] = list(values)
    return [value for of_rank in gathered for value in of_rank]


def _as_it_is(record: T) -> T:
    return record
