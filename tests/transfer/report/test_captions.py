"""The sentences of a report are true of its data: ties, single trials, detectors that find nothing, missing numbers."""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.transfer.synthetic_runs import make_result, make_run
from transfer import results
from transfer.errors import TransferError
from transfer.evaluation.common import tide
from transfer.evaluation.common.tide import MatchedErrors
from transfer.evaluation.kinds import evaluation_of
from transfer.report import content as report_content
from transfer.report import page as report
from transfer.report import saved_detections
from transfer.report.content import Options

QUICK = Options(images=3, resamples=20)

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

Rows = list[dict[str, Any]]


def scored(folder: Path, scenes: Path, start: str, seed: int, change: Callable[[Rows], Rows]) -> Path:
    """A run on the scenes in COCO layout whose detections are changed, scored again by what they are then."""
    made = make_run(folder, make_result("coco", start, seed, 60.0), scenes)
    rows = json.loads((made / "inference/coco_instances_results.json").read_text())
    result = results.read_result(made / "result.json")
    dataset = saved_detections.read_test_set(result.task, made)
    rows = change(rows)
    (made / "inference/coco_instances_results.json").write_text(json.dumps(rows))
    scores = evaluation_of("coco").score(dataset, rows, tuple(result.metrics))
    again = dataclasses.replace(
        result, metrics=scores.metrics, per_class=scores.per_class, remarks=scores.remarks, voc_metrics={}
    )
    results.write_result(made / "result.json", again, overwrite=True)
    return made


def same(rows: Rows) -> Rows:
    return rows


def weak(rows: Rows) -> Rows:
    return [row | {"score": row["score"] * 0.2} for row in rows]


def nothing_found(rows: Rows) -> Rows:
    return [row | {"bbox": [0, 0, 0.5, 0.5]} for row in rows]


def no_rows(rows: Rows) -> Rows:
    return []


def written(root: Path, runs: Sequence[Path], options: Options = QUICK) -> tuple[dict[str, Any], str]:
    content = report.write_report(runs, root / "report", options)
    text = re.sub(r"base64,[^\"]*", "", (root / "report/index.html").read_text())
    assert "nan" not in text.lower().replace("banan", "")
    return content, text


def test_no_image_differs_and_the_caption_says_so(scenes: Path, tmp_path: Path) -> None:
    runs = [scored(tmp_path / start, scenes, start, 0, same) for start in ("random", "MoCo")]
    content, text = written(tmp_path, runs)
    (table,) = content["tables"]
    sentence = "Evenly spaced test images: MoCo and random make equally many mistakes in every annotated one."
    assert table["strip_caption"].startswith(sentence)
    assert "in favour" not in text
    (summary,) = content["summary"]
    sentence = (
        "With 4 labelled images no difference between MoCo and a random start is shown (+0.0 box AP, 95 % interval "
    )
    assert summary["first"].startswith(sentence + "over test images alone ")
    assert summary["more"] == "The same holds for mask AP."


def test_differences_are_counted_on_their_sides(scenes: Path, tmp_path: Path) -> None:
    runs = [scored(tmp_path / "a", scenes, "random", 0, no_rows), scored(tmp_path / "b", scenes, "MoCo", 0, same)]
    (table,) = written(tmp_path, runs)[0]["tables"]
    gains = [row["mistakes"]["random"] - row["mistakes"]["MoCo"] for row in table["strip"]]
    sides = [("in favour of MoCo", 1), ("against MoCo", -1), ("with equally many", 0)]
    counts = [(sum(np.sign(gain) == sign for gain in gains), where) for where, sign in sides]
    assert ", then ".join(f"{count} {where}" for count, where in counts if count) in table["strip_caption"]
    assert "random has no detection at all." in table["strip_caption"]


def test_a_weak_detector_is_shown_from_its_own_best_f1(scenes: Path, tmp_path: Path) -> None:
    runs = [scored(tmp_path / "a", scenes, "random", 0, weak), scored(tmp_path / "b", scenes, "MoCo", 0, same)]
    content, text = written(tmp_path, runs)
    (table,) = content["tables"]
    assert 0 < table["min_scores"]["random"] < 0.25 < table["min_scores"]["MoCo"]
    assert all(any(row["drawn"][label] for row in table["strip"]) for label in ("random", "MoCo"))
    limit = f"where each has its best F1 over the test set: random {table['min_scores']['random']:.2g}, MoCo "
    assert limit in table["strip_caption"]
    asked, text = written(tmp_path / "asked", runs, dataclasses.replace(QUICK, min_score=0.99))
    assert "as asked for: random 0.99, MoCo 0.99." in asked["tables"][0]["strip_caption"]
    assert "nothing scores 0.99 or more" in text  # below each picture that is empty


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nothing_found, "No detection of random finds an object: its highest score is taken."),
        (no_rows, "random has no detection at all."),
    ],
)
def test_a_start_that_finds_nothing_is_said(
    scenes: Path, tmp_path: Path, change: Callable[[Rows], Rows], said: str
) -> None:
    runs = [scored(tmp_path / "a", scenes, "random", 0, change), scored(tmp_path / "b", scenes, "MoCo", 0, same)]
    content, text = written(tmp_path, runs)
    (table,) = content["tables"]
    assert said in table["strip_caption"]
    assert said in text
    assert any("AP is 0: " in note and "(random, seed 0)" in note for note in table["notes"])


def test_single_trials_have_no_deviation_in_any_caption(scenes: Path, tmp_path: Path) -> None:
    runs = [scored(tmp_path / start, scenes, start, 0, same) for start in ("random", "MoCo")]
    content, text = written(tmp_path, runs)
    lead = "AP in points (0 to 100), one trial in each row; then the differences, with 95 % intervals."
    assert content["lead"] == lead
    assert "one sample standard deviation" not in text
    assert "mean over trials" not in text
    assert "One trial each" in text
    assert "First trial" not in text


def test_a_report_of_one_row_claims_no_difference(scenes: Path, tmp_path: Path) -> None:
    runs = [scored(tmp_path / str(seed), scenes, "MoCo", seed, same) for seed in (0, 1)]
    content, text = written(tmp_path, runs)
    assert content["lead"] == "AP in points (0 to 100), mean ± sample standard deviation over n trials."
    assert content["tables"][0]["strip_caption"].startswith("Evenly spaced test images. Least score")
    assert "First trial of each row." in text
    assert "A 95 % interval" not in text
    (summary,) = content["summary"]
    start = (
        "Nothing is compared, because there is neither a random nor a supervised start: with 4 labelled images MoCo "
    )
    assert summary["first"].startswith(f"{start}reaches ")
    assert summary["more"] == ""


def test_without_detections_nothing_speaks_of_them(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / start, make_result("coco", start, 0, 10.0)) for start in ("random", "MoCo")]
    content, text = written(tmp_path, runs)
    assert content["lead"] == "AP in points (0 to 100), one trial in each row; then the differences."
    assert "TIDE" not in text
    assert "A 95 % interval" not in text
    (summary,) = content["summary"]
    sentence = "MoCo scores 0.0 box AP more than a random start, without an interval that tells this from chance."
    assert summary["first"] == f"With 4 labelled images {sentence}"
    assert "there are no intervals, curves of precision, costs of errors and pictures: " in text


def test_images_that_are_gone_leave_intervals_and_no_pictures(scenes: Path, tmp_path: Path) -> None:
    runs = [scored(tmp_path / start, scenes, start, 0, same) for start in ("random", "MoCo")]
    broken = pytest.MonkeyPatch()
    with broken.context() as patch:
        patch.setattr(report_content, "draw_picture_grid", _no_image)
        content, text = written(tmp_path, runs)
    (table,) = content["tables"]
    assert table["differences"][0]["intervals"]
    assert "There are no pictures: x.jpg: no such image" in text
    assert "no intervals" not in text


def _no_image(*_: object) -> None:
    raise TransferError("x.jpg: no such image")


def test_scoring_again_does_not_claim_a_training(scenes: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_result("coco", "MoCo", 0, 10.0, eval_only=True, task={"train_images": 0}))
    text = written(tmp_path, [run])[1]
    assert "Trained before, here only tested on coco_2017_val" in text
    assert "(0 images" not in text
    assert "1 run," in text


def test_a_mean_over_fewer_trials_says_how_many(tmp_path: Path) -> None:
    whole, half = (make_result("coco", "random", seed, 10.0) for seed in (0, 1))
    half = dataclasses.replace(half, metrics={"bbox": {"AP": 20.0, "AP50": None}})
    runs = [make_run(tmp_path / str(place), one) for place, one in enumerate((whole, half))]
    text = written(tmp_path, runs)[1]
    assert "(1 of 2 trials)" in text
    assert "(1 of 2 trials)" in (tmp_path / "report/report.md").read_text()


def test_nothing_to_score_is_a_note_and_no_number(tmp_path: Path) -> None:
    blank = {"AP": None, "AP50": None, "AP75": None}
    remark = "box AP: nothing to score, the test set has no object to find"
    runs = [
        make_run(tmp_path / start, make_result("coco", start, 0, 0.0, metrics={"bbox": blank}, remarks=(remark,)))
        for start in ("random", "MoCo")
    ]
    content, text = written(tmp_path, runs)
    assert f"{remark}." in content["tables"][0]["notes"]
    assert remark in text
    assert content["summary"] == []


@pytest.mark.parametrize(
    ("outcomes", "objects", "expected"),
    [
        (["true", "background", "true", "background", "background"], 2, 0.7),
        (["true", "background", "background"], 1, 0.9),
        (["ignored", "true"], 1, 0.8),
        (["background"], 3, None),
        ([], 3, None),
    ],
)
def test_the_best_f1_is_at_the_least_score_that_is_kept(
    outcomes: list[str], objects: int, expected: float | None
) -> None:
    n = len(outcomes)
    found = np.array([True] * outcomes.count("true") + [False] * (objects - outcomes.count("true")))
    image = MatchedErrors(
        0.9 - 0.1 * np.arange(n),
        np.zeros(n, dtype=int),
        np.array(outcomes, dtype="<U12"),
        np.full(n, -1),
        np.zeros(objects, dtype=int),
        found,
    )
    best = tide.best_f1_score([image])
    assert best == (None if expected is None else pytest.approx(expected))
