"""The evaluation of DensePose data as a run uses it."""

from pathlib import Path

import pytest
from PIL import Image

from tests.support.body import found_person, person, prism, write_body, write_people
from transfer.data import catalog
from transfer.evaluation.kinds import evaluation_of


def test_the_program_of_the_box_ap_can_be_chosen(tmp_path: Path) -> None:
    write_people(tmp_path / "coco" / "annotations", person())
    (tmp_path / "coco" / "val2014").mkdir()
    Image.new("RGB", (80, 80)).save(tmp_path / "coco" / "val2014" / "1.jpg")
    write_body(tmp_path / "densepose", prism())
    data = catalog.load_dataset(["densepose_coco_2014_minival"], tmp_path)
    evaluation = evaluation_of("densepose")
    parts = evaluation.parts(data, False, False)
    own, record = (evaluation.scored_by(name)(data, [found_person()], parts) for name in (None, "pycocotools"))
    assert str(record.evaluator).startswith("pycocotools ")
    assert record.metrics == own.metrics
    assert record.metrics["bbox"]["AP"] == pytest.approx(100)
    assert record.metrics["densepose_gps"]["AP"] == pytest.approx(100)
