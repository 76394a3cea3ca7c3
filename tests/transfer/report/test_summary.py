"""The first sentences of a report claim what the intervals and the trials allow, for any starts and label counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.transfer.synthetic_runs import make_result, make_run
from transfer.report import page as report
from transfer.report.content import Options
from transfer.report.summary import summarize

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

Ends = tuple[float, float]
# Row, baseline, box AP minus the baseline's, its interval.
Difference = tuple[str, str, float, Ends | None]
KINDS = {"random": "random", "supervised": "supervised"}


def table(images: int, trials: dict[str, int], differences: list[Difference], **fields: Any) -> dict[str, Any]:
    """A table of report.json, with what a summary reads of it."""
    task: dict[str, Any] = {"kind": "voc", "test": ["own_test"], "class_names": ["cell"], "labels": None, "data": {}}
    task |= {"test_images": 9, "config_file": "x.yaml"}
    return {
        "title": "x on own_test (torchvision)",
        "data": "own_test",
        "task": task | {"train_images": images} | fields.pop("task", {}),
        "eval_only": False,
        "engine": {"name": "torchvision"},
        "shown": [
            {"key": "bbox/AP", "title": "AP", "headline": True},
            {"key": "bbox/AP50", "title": "AP50", "headline": False},
        ],
        "rows": [
            {
                "label": label,
                "init": {"kind": KINDS.get(label, "file")},
                "scores": {"bbox/AP": {"mean": 45.26, "values": [45.26] * n}},
            }
            for label, n in trials.items()
        ],
        "differences": [
            {
                "row": row,
                "baseline": base,
                "scores": {"bbox/AP": points},
                "intervals": {"bbox/AP": list(ends)} if ends else {},
            }
            for row, base, points, ends in differences
        ],
        **fields,
    }


FIVE = {"random": 5, "MoCo": 5}
BETTER: list[Difference] = [("MoCo", "random", 6.12, (3.04, 9.41))]
NO_DIFFERENCE: list[Difference] = [("MoCo", "random", -0.44, (-1.6, 0.8))]
BETTER_SAID = "With 29 labelled images MoCo is better than a random start by 6.1 AP (95 % interval 3.0 to 9.4)"


def first_of(*tables: dict[str, Any]) -> str:
    (one,) = summarize(tables)
    assert one["more"] == ""
    return one["first"]


def test_label_counts_of_one_experiment_share_a_sentence() -> None:
    said = first_of(table(292, FIVE, NO_DIFFERENCE), table(29, FIVE, BETTER))
    assert said == f"{BETTER_SAID}; with 292 no difference is shown (−0.4, −1.6 to +0.8)."


def test_all_labels_are_called_so_beside_a_part_of_them() -> None:
    part = table(29, FIVE, BETTER, task={"labels": {"fraction": 0.1}})
    said = first_of(part, table(292, FIVE, NO_DIFFERENCE))
    assert said == f"{BETTER_SAID}; with all 292 no difference is shown (−0.4, −1.6 to +0.8)."


@pytest.mark.parametrize(
    ("difference", "trials", "claim"),
    [
        ((-6.12, (-9.41, -3.04)), 5, "MoCo is worse than a random start by 6.1 AP (95 % interval 3.0 to 9.4)."),
        (
            (-0.44, (-1.6, 0.8)),
            5,
            "no difference between MoCo and a random start is shown (−0.4 AP, 95 % interval −1.6 to +0.8).",
        ),
        (
            (4.0, (0.04, 9.0)),  # reads as 0.0: nothing to claim
            5,
            "no difference between MoCo and a random start is shown (+4.0 AP, 95 % interval +0.0 to +9.0).",
        ),
        (
            (-6.12, (-9.41, -3.04)),
            1,
            "MoCo scores 6.1 AP less than a random start in a single trial (95 % interval over test images alone 3.0 "
            "to 9.4), which tells nothing of the chance of training.",
        ),
        (
            (0.1, (-3.0, 3.0)),
            1,
            "no difference between MoCo and a random start is shown (+0.1 AP, 95 % interval over test images alone "
            "−3.0 to +3.0).",
        ),
        (
            (-6.12, None),
            5,
            "MoCo scores 6.1 AP less than a random start, without an interval that tells this from chance.",
        ),
    ],
)
def test_a_claim_is_what_interval_and_trials_allow(
    difference: tuple[float, Ends | None], trials: int, claim: str
) -> None:
    made = table(1, {"random": 5, "MoCo": trials}, [("MoCo", "random", *difference)])
    assert first_of(made) == f"With 1 labelled image {claim}"


def test_detectors_that_have_not_learned_are_called_so() -> None:
    made = [table(count, FIVE, [("MoCo", "random", 0.1, (0.0, 0.2))]) for count in (24, 240)]
    for row, mean in zip([*made[0]["rows"], *made[1]["rows"]], (0.3, 0.94, 0.4, 0.5), strict=True):
        row["scores"]["bbox/AP"]["mean"] = mean
    assert first_of(*made) == (
        "With 24 labelled images neither MoCo nor a random start finds the objects yet (0.9 and 0.3 AP; train longer "
        "before comparing them); with 240 neither does (0.5 and 0.4)."
    )
    made[1]["rows"][0]["scores"]["bbox/AP"]["mean"] = 1.0
    assert first_of(*made).endswith("; with 240 no difference is shown (+0.1, +0.0 to +0.2).")


def test_few_trials_behind_a_claim_are_named() -> None:
    (one,) = summarize([table(29, {"random": 5, "MoCo": 2}, BETTER)])
    assert one == {"first": f"{BETTER_SAID}.", "more": "Two or three trials tell little of the chance of training."}


def test_random_comes_first_and_supervised_after_it() -> None:
    differences = [("supervised", "random", 8.0, (7.0, 9.0)), *BETTER, ("MoCo", "supervised", -2.0, (-3.0, -1.0))]
    (one,) = summarize([table(29, {"random": 5, "supervised": 5, "MoCo": 5}, differences)])
    assert one["first"] == f"{BETTER_SAID}."
    worse = "With 29 labelled images MoCo is worse than the supervised start by 2.0 AP (95 % interval 1.0 to 3.0)."
    assert one["more"] == worse


def test_without_random_the_supervised_start_is_the_measure() -> None:
    made = table(29, {"supervised": 5, "MoCo": 5}, [("MoCo", "supervised", 2.0, (1.0, 3.0))])
    said = "With 29 labelled images MoCo is better than the supervised start by 2.0 AP (95 % interval 1.0 to 3.0)."
    assert first_of(made) == said


def test_without_a_pretrained_start_supervised_is_compared() -> None:
    made = table(29, {"random": 5, "supervised": 5}, [("supervised", "random", 8.0, (7.0, 9.0))])
    said = "With 29 labelled images supervised is better than a random start by 8.0 AP (95 % interval 7.0 to 9.0)."
    assert first_of(made) == said


def test_each_of_several_starts_has_its_sentence() -> None:
    trials = {"random": 5, "MoCo": 5, "MoCo v2": 5}
    made = table(29, trials, [*BETTER, ("MoCo v2", "random", 0.0, (-1.0, 1.0))])
    other = "With 29 labelled images no difference between MoCo v2 and a random start is shown (+0.0 AP, 95 % interval "
    assert first_of(made) == f"{BETTER_SAID}. {other}−1.0 to +1.0)."


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        ({"MoCo": 5}, "there is neither a random nor a supervised start: with 29 labelled images MoCo"),
        ({"random": 5}, "there is no other start than random: with 29 labelled images random"),
    ],
)
def test_without_a_comparison_the_scores_and_the_reason_stand(trials: dict[str, int], why: str) -> None:
    assert first_of(table(29, trials, [])) == f"Nothing is compared, because {why} reaches 45.3 AP."


def test_starts_with_other_label_counts_are_not_compared() -> None:
    said = first_of(table(29, {"random": 5}, []), table(292, {"MoCo": 5}, []))
    scores = "with 29 labelled images random reaches 45.3 AP; with 292 MoCo reaches 45.3 AP."
    why = "no two starts were trained on the same images in the same way"
    assert said == f"Nothing is compared, because {why}: {scores}"


def test_detectors_trained_elsewhere_claim_no_labels() -> None:
    said = first_of(table(0, FIVE, BETTER, eval_only=True))
    assert said.startswith("Trained elsewhere and only tested here, MoCo is better than a random start by 6.1 AP (")


def test_several_experiments_are_told_apart_by_name() -> None:
    other = table(29, FIVE, BETTER, data="cells", title="x on cells", task={"test": ["cells"]})
    said = [one["first"] for one in summarize([table(29, FIVE, BETTER), other])]
    assert said == [f"On {name}: w{BETTER_SAID[1:]}." for name in ("own_test", "cells")]
    longer = table(29, FIVE, NO_DIFFERENCE)  # as many labels, so that something else differs
    said = [one["first"] for one in summarize([table(29, FIVE, BETTER), longer])]
    assert [text.split(":")[0] for text in said] == [f"x on own_test (torchvision), experiment {n}" for n in (1, 2)]


def test_data_with_a_borrowed_name_go_by_their_configuration() -> None:
    tables = [
        table(
            29, FIVE, BETTER, data=f"9 images named {name}", task={"test": [name], "config_file": f"configs/{config}"}
        )
        for name, config in (("voc_2007_test", "mine_voc.yaml"), ("coco_2017_val", "mine_coco.yaml"))
    ]
    said = [one["first"] for one in summarize(tables)]
    assert said == [f"{name}: w{BETTER_SAID[1:]}." for name in ("mine_voc", "mine_coco")]


def test_page_and_markdown_begin_with_the_sentence(scenes: Path, tmp_path: Path) -> None:
    for start, ap in (("random", 20.0), ("MoCo", 80.0)):
        for seed in (0, 1):
            make_run(tmp_path / "runs" / f"{start}_{seed}", make_result("coco", start, seed, ap), scenes)
    content = report.write_report([tmp_path / "runs"], tmp_path / "report", Options(images=0, resamples=50))
    (one,) = content["summary"]
    (difference,) = content["tables"][0]["differences"]
    low, high = difference["intervals"]["bbox/AP"]
    points = f"{difference['scores']['bbox/AP']:.1f} box AP (95 % interval {low:.1f} to {high:.1f})."
    assert one["first"] == f"With 4 labelled images MoCo is better than a random start by {points}"
    assert low > 0
    markdown = (tmp_path / "report/report.md").read_text().splitlines()
    assert markdown[2].strip("*") == one["first"]
    page = (tmp_path / "report/index.html").read_text()
    assert page.index(one["first"]) < min(page.index(other) for other in ("4 runs", "<table"))
    assert json.loads((tmp_path / "report/report.json").read_text())["summary"] == content["summary"]
