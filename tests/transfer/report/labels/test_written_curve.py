"""The label-efficiency curve in a written report, from run folders with detections."""

from pathlib import Path

import pytest
import yaml

from tests.support.transfer.synthetic_runs import make_result, make_run
from transfer import results
from transfer.report import page
from transfer.report.content import Options

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
SKILLS = {"random": (5.0, 40.0, 90.0), "MoCo": (60.0, 85.0, 95.0)}  # of the made-up detections


def test_a_report_draws_and_says_what_labels_are_saved(scenes: Path, tmp_path: Path) -> None:
    for start, skills in SKILLS.items():
        for images, skill in zip((4, 8, 40), skills, strict=True):
            labels = results.Labels(f"{100 * images / 40:g}%", images / 40, images, 40, 9, 0, f"{images}")
            task = {"labels": labels if images < 40 else None, "train_images": images, "config_sha256": str(images)}
            for seed in (0, 1):
                folder = tmp_path / "runs" / f"{start}_{images}_{seed}"
                make_run(folder, make_result("voc", start, seed, skill, task=task), scenes)
                solver = {"MAX_ITER": images * 10, "BASE_LR": 0.02}
                (folder / "config.yaml").write_text(yaml.safe_dump({"SOLVER": solver, "SEED": seed}))
    content = page.write_report([tmp_path / "runs"], tmp_path / "report", Options(images=0, resamples=100))
    (curve, *_) = content["label_curves"]
    assert curve["metric"] == "bbox/AP"
    assert curve["counts"] == [4, 8, 40]
    scored = {row["label"]: [point["mean"] for point in row["points"]] for row in curve["rows"]}
    for table in content["tables"]:
        for row in table["rows"]:
            place = curve["counts"].index(table["task"]["train_images"])
            assert scored[row["label"]][place] == row["scores"]["bbox/AP"]["mean"]
    assert all(point["low"] <= point["mean"] <= point["high"] for row in curve["rows"] for point in row["points"])
    (sentence,) = curve["sentences"]
    text, markdown = ((tmp_path / "report" / name).read_text() for name in (page.PAGE, page.MARKDOWN))
    assert sentence in text
    assert "## Label efficiency" in markdown
    assert text.index("Label efficiency") < text.index(content["tables"][0]["title"])
    (drawn, *_) = sorted((tmp_path / "report/figures").glob("labels_*.svg"))
    svg = drawn.read_text()
    for words in ("labelled images", "20 %", "100 %", "MoCo", "random"):
        assert words in svg
    assert not any("must not be compared" in warning for warning in content["warnings"])


def test_a_report_without_parts_of_labels_has_no_curve(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/random", make_result("coco", "random", 0, 10.0))
    content = page.write_report([tmp_path / "runs"], tmp_path / "report", Options(images=0, resamples=0))
    assert content["label_curves"] == []
    assert "Label efficiency" not in (tmp_path / "report" / page.PAGE).read_text()
