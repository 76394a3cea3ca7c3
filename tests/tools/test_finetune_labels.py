"""tools/finetune.py --labels: a part of the labels, the same for all trials, in the run's folder and its result."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import finetune
from tests.conftest import ROOT
from tests.support.in_process import refusal
from transfer import results
from transfer.errors import TransferError
from transfer.run import trials
from transfer.run.execute import execute
from transfer.run.options import RunOptions
from transfer.run.plan import Plan, plan_run

CONFIGS = ROOT / "configs/transfer"
TINY = (
    "SOLVER.IMS_PER_BATCH", "2", "INPUT.MIN_SIZE_TRAIN", "[64]", "INPUT.MIN_SIZE_TEST", "64",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "20", "TEST.PRECISE_BN.ENABLED", "False", "DATALOADER.NUM_WORKERS", "0",
)  # fmt: skip
ENGINES = ["torchvision", *(["detectron2"] if importlib.util.find_spec("detectron2") else [])]
KEEP = {"class_without_label": "keep"}


def options(data: Path, output: Path, kind: str = "coco", engine: str = "torchvision", **more: Any) -> RunOptions:
    """Options of a run of two iterations, which are named: so the schedule stays."""
    words = (*TINY, "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "[1]", "OUTPUT_DIR", str(output))
    config = CONFIGS / f"{kind}_r18_fpn_cpu.yaml"
    return RunOptions(config, words, engine, data, **{"init": "random", "data_rules": KEEP, "seed": 3, **more})


def plan(data: Path, output: Path, *args: Any, **more: Any) -> Plan:
    return plan_run(options(data, output, *args, **more))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_a_run_learns_from_its_list_alone(kind: str, engine: str, scenes: Path, tmp_path: Path) -> None:
    planned = plan(scenes, tmp_path / "run", kind, engine, labels="50%", labels_seed=2)
    result = results.read_result(execute(planned))
    said = result.task.labels
    assert said is not None
    assert (said.asked, said.fraction, said.images, said.of, said.seed) == ("50%", 0.5, 4, 8, 2)
    assert (result.task.train_images, result.iterations) == (4, 2)
    text = (tmp_path / "run" / "labels.txt").read_bytes()
    assert hashlib.sha256(text).hexdigest() == said.sha256
    assert planned.train is not None
    assert text.decode().split() == [str(record["image_id"]) for record in planned.train.records]
    assert said.objects == sum(len(record["annotations"]) for record in planned.train.records)
    with pytest.raises(TransferError, match=r"--labels: begun with 50% \(4 of 8 .*now 100%") as caught:
        plan(scenes, tmp_path / "run", kind, engine, labels="100%", auto_resume=True)
    assert "training data changed" not in str(caught.value)
    with pytest.raises(TransferError, match=r"--labels: begun with 50% .*now all images"):
        plan(scenes, tmp_path / "run", kind, engine, auto_resume=True)
    with pytest.raises(TransferError, match=r"--labels: begun with 50% .*draw seed 2.*now 50% .*draw seed 5"):
        plan(scenes, tmp_path / "run", kind, engine, labels="50%", labels_seed=5, auto_resume=True)
    given = str(tmp_path / "run" / "labels.txt")
    assert plan(scenes, tmp_path / "run", kind, engine, labels=given, auto_resume=True).finished


def test_all_labels_are_the_run_without_the_option(scenes: Path, tmp_path: Path) -> None:
    whole, part = plan(scenes, tmp_path / "a"), plan(scenes, tmp_path / "b", labels="100%")
    assert whole.train is not None
    assert part.train is not None
    assert list(whole.train.records) == list(part.train.records)
    assert results.config_hash(whole.config) == results.config_hash(part.config)


def test_trials_differ_in_seed_and_share_the_list(scenes: Path, tmp_path: Path) -> None:
    asked = options(scenes, tmp_path, labels="50%", trials=3)
    planned = trials.plan_runs(trials.plan_base(asked), asked)
    assert [one.config.SEED for one in planned] == [3, 4, 5]
    assert len({one.labelled.text for one in planned if one.labelled}) == 1
    other = plan(scenes, tmp_path / "supervised", init="random", seed=9, labels="50%").labelled
    assert other is not None
    assert planned[0].labelled is not None
    assert other.text == planned[0].labelled.text


def test_the_schedule_shrinks_unless_it_is_named(scenes: Path, tmp_path: Path) -> None:
    words = (*TINY, "OUTPUT_DIR", str(tmp_path / "run"))
    base = RunOptions(CONFIGS / "voc_r18_fpn_cpu.yaml", words, "torchvision", scenes, KEEP, labels="50%", init="random")
    planned = plan_run(base)
    assert (planned.config.SOLVER.MAX_ITER, list(planned.config.SOLVER.STEPS)) == (150, [125])
    assert plan(scenes, tmp_path / "run", labels="50%").config.SOLVER.MAX_ITER == 2


def test_bad_parts_are_one_message_and_write_nothing(scenes: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    words = ["--config-file", CONFIGS / "voc_r18_fpn_cpu.yaml", "--dataset-root", scenes, "--engine", "torchvision"]
    words += ["--init", "random", "OUTPUT_DIR", output]
    unknown = tmp_path / "list.txt"
    unknown.write_text("nothing\n")
    for part, said in [
        ("1%", "less than 1 of 8 images; 13% is 1 image"),
        ("17%", "--data-rule class_without_label=keep"),
        (unknown, "1 of 1 lines name no image of the training data"),
        ("1000-per-class", "the training data have fewer objects of"),
        ("nowhere.txt", "no such file; expected: a percentage"),
    ]:
        assert said in refusal(finetune.main, *words, "--labels", part)
    assert not output.exists()


def test_a_class_that_is_kept_without_label_is_remarked(scenes: Path, tmp_path: Path) -> None:
    planned = plan(scenes, tmp_path / "run", labels="17%")
    (remark,) = planned.data_remarks
    assert remark.startswith("no labelled image shows ")
    assert any(remark in notice for notice in planned.image_notices())


def test_the_dry_run_says_labels_and_iterations(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan(scenes, tmp_path / "run", labels="50%")
    finetune.print_plans(planned, [planned])
    assert "# labels 50% (4 of 8 images, " in (said := capsys.readouterr().out)
    assert "draw seed 0" in said
    assert yaml.safe_load(said)["SOLVER"]["MAX_ITER"] == 2


def test_images_without_keypoints_are_not_drawn(tmp_path: Path) -> None:
    """Six images of one person each, two of whom have no labelled keypoint: four are there to draw from."""
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").mkdir()
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        for number in range(1, 7):
            points = [20, 15, 2] * 17 if number > 2 else [0, 0, 0] * 17
            content["images"].append({"id": number, "file_name": f"{number}.jpg", "height": 30, "width": 40})
            content["annotations"].append(
                {
                    **{"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400},
                    **{"iscrowd": 0, "keypoints": points, "num_keypoints": 17 * (number > 2)},
                }
            )
            Image.new("RGB", (40, 30)).save(tmp_path / f"{split}2017" / f"{number}.jpg")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/person_keypoints_{split}2017.json").write_text(json.dumps(content))
    words = ("OUTPUT_DIR", str(tmp_path / "run"))
    planned = plan_run(
        RunOptions(
            CONFIGS / "coco_r50_keypoint_1x.yaml",
            words,
            "torchvision",
            tmp_path,
            scale_to=1,
            init="random",
            labels="50%",
        )
    )
    assert planned.labelled is not None
    assert (planned.labelled.labels.images, planned.labelled.labels.of) == (2, 4)
    assert set(planned.labelled.names) < {"3", "4", "5", "6"}
