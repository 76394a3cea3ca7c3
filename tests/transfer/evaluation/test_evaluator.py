"""The scorer around an engine's predictor: exact detections score 100, in one process and in two."""

import dataclasses
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.runtime import distributed, spawn
from pretrain.runtime.hangs import clock
from pretrain.runtime.signals import Stopped, StopRequest
from transfer.data import catalog
from transfer.errors import TransferError
from transfer.evaluation import evaluator
from transfer.evaluation.coco.evaluators import choose_evaluator
from transfer.predictions import Detections, Predictor

# Where the tests have fewer cores than workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Oracle:
    """Predicts what is annotated; `lost` in [0, 1] is the share of images where it sees nothing."""

    def __init__(self, lost: float = 0.0) -> None:
        self.lost = lost

    def __call__(self, records: list[dict[str, Any]]) -> list[Detections]:
        return [self._see(record) for record in records]

    def _see(self, record: dict[str, Any]) -> Detections:
        objects = record["annotations"]
        if np.random.default_rng(sum(map(ord, str(record["image_id"])))).random() < self.lost:
            objects = []
        boxes = torch.tensor([item["bbox"] for item in objects], dtype=torch.float32).reshape(-1, 4)
        classes = torch.tensor([item["category_id"] for item in objects], dtype=torch.int64)
        masks = None
        if all("segmentation" in item for item in objects):
            size = (record["height"], record["width"])
            masks = torch.from_numpy(np.array([_mask(item["segmentation"], *size) for item in objects], dtype=bool))
            masks = masks.reshape(-1, *size)
        return Detections(boxes, torch.ones(len(objects)), classes, masks)


def _mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    import pycocotools.mask

    if isinstance(segmentation, dict):
        return pycocotools.mask.decode(segmentation)
    return pycocotools.mask.decode(pycocotools.mask.merge(pycocotools.mask.frPyObjects(segmentation, height, width)))


def test_exact_detections_score_100_on_coco(scenes: Path, tmp_path: Path) -> None:
    scorer = evaluator.Scorer(catalog.load_dataset(["coco_2017_val"], scenes), masks=True, folder=tmp_path)
    metrics = scorer(Oracle()).metrics
    assert metrics["bbox"]["AP"] == pytest.approx(100)
    assert metrics["segm"]["AP"] == pytest.approx(100)
    rows = json.loads((tmp_path / "coco_instances_results.json").read_text())
    images = json.loads((tmp_path / "images.json").read_text())
    assert {str(row["image_id"]) for row in rows} <= set(images)
    assert all(Path(file).is_file() for file in images.values())


def test_the_program_that_scores_is_the_users_choice(scenes: Path, tmp_path: Path) -> None:
    coco, voc = (catalog.load_dataset([name], scenes) for name in ("coco_2017_val", "voc_2007_trainval"))
    scored = [evaluator.Scorer(coco, True, tmp_path, evaluator=name)(Oracle(0.5)) for name in (None, "pycocotools")]
    assert (scored[0].metrics, scored[0].per_class) == (scored[1].metrics, scored[1].per_class)
    assert [str(scores.evaluator).split()[0] for scores in scored] == [choose_evaluator(), "pycocotools"]
    with pytest.raises(TransferError, match="--evaluator pycocotools: only COCO's AP has a choice of programs"):
        evaluator.Scorer(voc, False, tmp_path, evaluator="pycocotools")


def test_exact_detections_score_100_on_voc_classes_that_occur(scenes: Path, tmp_path: Path) -> None:
    dataset = catalog.load_dataset(["voc_2007_trainval"], scenes)
    scorer = evaluator.Scorer(dataset, masks=True, folder=tmp_path)  # VOC has no masks to score
    scores = scorer(Oracle())
    counted = {
        dataset.class_names[item["category_id"]]
        for record in dataset.records
        for item in record["annotations"]
        if not item["difficult"]
    }
    assert set(scores.metrics) == {"bbox"}
    assert {name for name, ap in scores.per_class["bbox"].items() if ap == pytest.approx(100)} == counted
    assert scores.metrics["bbox"]["AP"] == scores.voc_metrics["11-point"]["AP"]  # 2007


def test_nothing_detected_scores_nothing(scenes: Path, tmp_path: Path) -> None:
    scorer = evaluator.Scorer(catalog.load_dataset(["coco_2017_val"], scenes), masks=True, folder=tmp_path)
    assert scorer(Oracle(lost=1.0)).metrics["segm"]["AP"] == 0


def _score(root: Path, folder: Path) -> dict[str, Any]:
    scorer = evaluator.Scorer(catalog.load_dataset(["coco_2017_train"], root), masks=False, folder=folder)
    return scorer(Oracle(lost=0.5)).metrics


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_score_as_one(processes: int, scenes: Path, tmp_path: Path) -> None:
    alone = _score(scenes, tmp_path / "one")
    assert 0 < alone["bbox"]["AP"] < 100
    assert spawn.run_on_ranks(_score, processes, scenes, tmp_path / "several") == alone
    one, several = (tmp_path / name / "coco_instances_results.json" for name in ("one", "several"))
    assert one.read_bytes() == several.read_bytes()


def _gathered(length: int, piece: int) -> list[list[int]]:
    own = [10 * distributed.rank() + number for number in range(length + distributed.rank())]
    return distributed.all_gather_object(evaluator.gather_on_main(own, piece))


@pytest.mark.parametrize(("length", "piece"), [(0, 2), (3, 1), (3, 2), (3, 4), (4, 2)])
def test_rank_zero_alone_gets_what_all_have(length: int, piece: int) -> None:
    whole = [10 * rank + number for rank in range(3) for number in range(length + rank)]
    assert spawn.run_on_ranks(_gathered, 3, length, piece) == [whole, [], []]


def _peak_of_gathering() -> float:
    """The most memory that gathering took at a time, in sizes of what rank 0 gets."""
    values = [bytes(100_000) for _ in range(64)] if distributed.rank() else []
    tracemalloc.start()
    evaluator.gather_on_main(values, piece=4)
    return tracemalloc.get_traced_memory()[1] / (64 * 100_000)


def test_gathering_takes_a_piece_beside_what_it_gets() -> None:
    assert 1 < spawn.run_on_ranks(_peak_of_gathering, 2) < 1.3


def _in_this_process(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "process": os.getpid()}


class Read(Oracle):
    """Knows which process has read the records."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.processes: set[int] = set()

    def _see(self, record: dict[str, Any]) -> Detections:
        self.processes.add(record["process"])
        return super()._see(record)


def test_workers_read_and_the_scores_are_the_same(scenes: Path, tmp_path: Path) -> None:
    data, rows = catalog.load_dataset(["coco_2017_val"], scenes), []
    for workers in (0, 2):
        oracle = Read()
        evaluator.Scorer(data, True, tmp_path, workers=workers)(Predictor(_in_this_process, oracle))
        rows.append((tmp_path / "coco_instances_results.json").read_bytes())
        assert len(oracle.processes) == max(workers, 1)
        assert (os.getpid() in oracle.processes) == (workers == 0)
    assert rows[0] == rows[1]


def _refuse(record: dict[str, Any]) -> dict[str, Any]:
    raise TransferError(f"{record['file_name']}: not an image")


def test_the_fault_of_an_image_comes_out_of_its_worker(scenes: Path, tmp_path: Path) -> None:
    data = catalog.load_dataset(["coco_2017_val"], scenes)
    with pytest.raises(TransferError) as met:
        evaluator.Scorer(data, True, tmp_path, workers=2)(Predictor(_refuse, Oracle()))
    assert str(met.value) == f"{data.records[0]['file_name']}: not an image"


def test_a_signal_is_obeyed_while_workers_read_ahead(scenes: Path, tmp_path: Path) -> None:
    stop = StopRequest()
    data = catalog.load_dataset(["coco_2017_train"], scenes)
    oracle = Interrupted(stop)
    with pytest.raises(Stopped):
        evaluator.Scorer(data, False, tmp_path / "out", stop=stop, workers=2)(Predictor(_in_this_process, oracle))
    assert oracle.seen == 2


class Interrupted(Oracle):
    """A signal comes while the second image is looked at."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__()
        self.stop, self.seen = stop, 0

    def _see(self, record: dict[str, Any]) -> Detections:
        self.seen += 1
        if self.seen == 2:
            self.stop.name = "SIGTERM"
        return super()._see(record)


def test_each_image_is_a_sign_of_life_and_scoring_may_last(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, noted, seen = catalog.load_dataset(["voc_2007_trainval"], scenes), clock.Clock(60), []

    def predict(records: list[dict[str, Any]]) -> list[Detections]:
        seen.append((noted.part.steps, noted.part.watched))
        return Oracle()(records)

    def score(self: evaluator.Scorer, rows: Any) -> str:
        seen.append(noted.part.name)
        return str(noted.part.watched)

    monkeypatch.setattr(evaluator.Scorer, "_save_and_score", score)
    with clock.started(noted):
        assert evaluator.Scorer(dataset, False, tmp_path)(predict) == "False"
    assert seen == [*((done, True) for done in range(len(dataset.records))), "start"]


def test_a_signal_is_obeyed_before_the_next_image(scenes: Path, tmp_path: Path) -> None:
    stop = StopRequest()
    scorer = evaluator.Scorer(catalog.load_dataset(["coco_2017_train"], scenes), False, tmp_path / "out", stop=stop)
    oracle = Interrupted(stop)
    with pytest.raises(Stopped):
        scorer(oracle)
    assert oracle.seen == 2
    assert not (tmp_path / "out").exists()


def _stopped_on_rank_one(root: Path, folder: Path) -> list[bool]:
    stop = StopRequest()
    scorer = evaluator.Scorer(catalog.load_dataset(["coco_2017_train"], root), False, folder, stop=stop)
    try:
        scorer(Interrupted(stop) if distributed.rank() == 1 else Oracle())
        stopped = False
    except Stopped:
        stopped = True
    return distributed.all_gather_object(stopped)


def test_all_ranks_stop_where_one_is_asked(scenes: Path, tmp_path: Path) -> None:
    assert spawn.run_on_ranks(_stopped_on_rank_one, 2, scenes, tmp_path / "out") == [True, True]


def _unreadable_on_rank_one(root: Path, folder: Path) -> list[str]:
    def fail(records: list[dict[str, Any]]) -> list[Detections]:
        raise (TransferError("00003.jpg: not an image"), KeyError("a bug"))[folder.name == "bug"]

    scorer = evaluator.Scorer(catalog.load_dataset(["coco_2017_train"], root), False, folder)
    try:
        scorer(fail if distributed.rank() == 1 else Oracle())
        met = "nothing"
    except (TransferError, KeyError) as error:
        met = str(error)
    return distributed.all_gather_object(met)


@pytest.mark.parametrize(("folder", "words"), [("data", "00003.jpg: not an image"), ("bug", "'a bug'")])
def test_all_ranks_end_where_one_meets_an_error(folder: str, words: str, scenes: Path, tmp_path: Path) -> None:
    assert spawn.run_on_ranks(_unreadable_on_rank_one, 2, scenes, tmp_path / folder) == [words, words]


def test_a_signal_after_the_last_image_loses_no_score(scenes: Path, tmp_path: Path) -> None:
    stop, data = StopRequest(), catalog.load_dataset(["coco_2017_train"], scenes)
    data = dataclasses.replace(data, records=data.records[:2])
    assert "bbox" in evaluator.Scorer(data, False, tmp_path, stop=stop)(Interrupted(stop)).metrics


def test_coco_is_scored_on_one_file(scenes: Path, tmp_path: Path) -> None:
    both = catalog.load_dataset(["coco_2017_train", "coco_2017_val"], scenes)
    with pytest.raises(Exception, match="one annotation file"):
        evaluator.Scorer(both, masks=False, folder=tmp_path)
