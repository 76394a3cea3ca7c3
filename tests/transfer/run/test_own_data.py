"""A run on own data: its own name in the configuration, the result and the report, from paths alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.support.transfer.layouts import SIZE, voc_object
from transfer import results
from transfer.data.shared.packed_records import PackedRecords
from transfer.errors import TransferError
from transfer.report import page
from transfer.report.content import Options
from transfer.report.published.rows import find_recipe
from transfer.report.saved_detections import read_test_set
from transfer.run.execute import execute
from transfer.run.options import RunOptions
from transfer.run.plan import plan_run

TINY = (
    "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "[]", "SOLVER.IMS_PER_BATCH", "1", "INPUT.MIN_SIZE_TRAIN", "[32]",
    "INPUT.MIN_SIZE_TEST", "32", "TEST.EVAL_PERIOD", "0", "TEST.PRECISE_BN.ENABLED", "False",
)  # fmt: skip


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """The folder `cells` with train/ and valid/, images and XML files side by side as Roboflow writes VOC."""
    for number, part in enumerate(("train", "valid")):
        folder = tmp_path / "cells" / part
        folder.mkdir(parents=True)
        for name in ("a", "b"):
            (folder / f"{name}.xml").write_text(
                f"<annotation>{SIZE}{voc_object('red')}{voc_object('white')}</annotation>"
            )
            Image.new("RGB", (40, 30), (90 * number, ord(name), 0)).save(folder / f"{name}.jpg")
    return tmp_path / "cells"


def options(cells: Path, output: Path, **changes: object) -> RunOptions:
    made = RunOptions(
        ROOT / "configs/transfer/demo_voc.yaml",
        (*TINY, "OUTPUT_DIR", str(output)),
        engine="torchvision",
        init="random",
        auto_resume=True,
        train=(str(cells / "train"),),
        test=(str(cells / "valid"),),
    )
    return replace(made, **changes)


@pytest.mark.parametrize("engine", ["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def test_the_name_of_own_data_goes_from_path_to_report(engine: str, cells: Path, tmp_path: Path) -> None:
    if engine == "detectron2":
        pytest.importorskip("detectron2.data", reason="Detectron2 is not installed")
    plan = plan_run(options(cells, tmp_path / "runs", engine=engine))
    assert [type(part.records) for part in (plan.train, plan.test) if part] == [PackedRecords] * 2
    execute(plan)
    result = results.read_result(tmp_path / "runs/result.json")
    task = result.task
    assert (task.train, task.test, task.class_names) == (("cells_train",), ("cells_valid",), ("red", "white"))
    described = {"format": "voc", "images": str(cells / "valid"), "annotations": str(cells / "valid")}
    assert task.data["cells_valid"] == described
    assert result.metrics["bbox"] == result.voc_metrics["area"]  # not the rule of 2007
    assert [record["image_id"] for record in read_test_set(task, tmp_path / "runs").records] == ["a", "b"]
    page.write_report([tmp_path / "runs"], tmp_path / "report", Options(resamples=20))
    text = (tmp_path / "report/report.md").read_text()
    assert "demo_voc on cells_valid" in text
    assert "On cells_valid: " in text
    assert "voc_2007" not in text
    assert "cells_valid" in (tmp_path / "report/csv/scores.csv").read_text()


def test_published_rows_never_stand_beside_own_data() -> None:
    recipe = find_recipe("configs/transfer/voc_r50_c4_24k.yaml")
    assert recipe is not None
    (train, test), counts = (("cells_train",), ("cells_test",)), {"train_images": 16551, "test_images": 4952}
    task = results.Task("voc", train, test, f"{recipe.name}.yaml", "", ("a",) * 20, **counts)
    assert "test sets cells_test, published voc_2007_test" in recipe.differences(task, recipe.iterations, recipe.batch)


def test_a_run_resumes_on_the_same_data_at_another_place(cells: Path, tmp_path: Path) -> None:
    execute(plan_run(options(cells, tmp_path / "runs")))
    moved = shutil.move(cells, tmp_path / "elsewhere" / "cells")
    assert plan_run(options(Path(moved), tmp_path / "runs")).finished
    (Path(moved) / "valid/b.xml").write_text(f"<annotation>{SIZE}{voc_object('red')}</annotation>")
    with pytest.raises(TransferError, match=r"the test data changed: .* b\.jpg has another id, size or other objects"):
        plan_run(options(Path(moved), tmp_path / "runs"))


def test_a_yaml_file_alone_names_the_data_of_a_run(cells: Path, tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("blood: {train: cells/train, val: cells/valid}\n")
    plan = plan_run(options(cells, tmp_path / "runs", data=file, train=(), test=()))
    assert (plan.config.DATASETS.TRAIN, plan.config.DATASETS.TEST) == (("blood_train",), ("blood_val",))
    assert plan.test.files[0].images == cells / "valid"


def test_copies_of_the_training_images_are_no_test_data(cells: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(cells / f"train/{name}.jpg", cells / f"valid/{name}.jpg")
    with pytest.raises(TransferError, match="all 2 test images are training images too"):
        plan_run(options(cells, tmp_path / "runs"))


def test_joined_test_data_must_have_names_of_their_own(cells: Path, tmp_path: Path) -> None:
    shutil.copytree(cells / "train", cells / "more")
    joined = (str(cells / "valid"), str(cells / "more"))
    assert plan_run(options(cells, tmp_path / "runs", train=joined[1:], test=joined[:1]))
    with pytest.raises(TransferError, match=r"cells_valid, more: 2 images have the name of another \(a, b\)"):
        plan_run(options(cells, tmp_path / "runs", test=joined))


def test_a_detector_of_masks_needs_them_in_own_data(cells: Path, tmp_path: Path) -> None:
    asked = options(cells, tmp_path / "runs", config_file=ROOT / "configs/transfer/demo_coco.yaml")
    with pytest.raises(TransferError, match=r"cells_train has boxes and no masks; add MODEL\.MASK_ON False"):
        plan_run(asked)
    assert plan_run(replace(asked, overrides=(*asked.overrides, "MODEL.MASK_ON", "False"))).train


def test_a_detector_of_keypoints_needs_them_in_own_data(cells: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="cells_train has objects without the 17 keypoints of a person"):
        plan_run(options(cells, tmp_path / "runs", config_file=ROOT / "configs/transfer/coco_r50_keypoint_1x.yaml"))
