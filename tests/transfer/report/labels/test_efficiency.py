"""transfer/report/labels: which tables make a curve, its points, and what may be said of saved labels."""

import json
import math
from typing import Any

import numpy as np
import pytest

from transfer.report.labels import efficiency, groups
from transfer.report.labels.efficiency import labels_needed
from transfer.report.labels.sentences import describe_savings, is_shown, percent

WHOLE = 292
BASELINES = ("random", "supervised")
Part = dict[str, Any]


def part(asked: str, images: int, seed: int | None = 0) -> Part:
    """The parts of a task that depend on the labels."""
    labels = {"asked": asked, "fraction": images / WHOLE, "images": images, "of": WHOLE, "seed": seed}
    return {"labels": labels, "train_images": images, "config_sha256": asked}


FEW, SOME, ALL = part("5%", 14), part("10%", 29), {"labels": None, "train_images": WHOLE, "config_sha256": "all"}


def table(task: Part, **scores: list[float]) -> dict[str, Any]:
    """A table of report.json; `scores`: the AP of each trial of each start."""
    rows = [
        {
            "label": start,
            "init": {"kind": start if start in BASELINES else "file"},
            "scores": {
                key: {"mean": float(np.mean(own)), "values": own} for key in ("bbox/AP", "segm/AP", "bbox/AP50")
            },
        }
        for start, own in scores.items()
    ]
    shown = [
        {"key": f"{part}/{name}", "title": f"{what} {name}", "headline": name == "AP"}
        for part, what in (("bbox", "box"), ("segm", "mask"))
        for name in ("AP", "AP50")
    ]
    task = {"kind": "coco", "train": ["x"], "data_rules": {}, **task}
    return {"task": task, "eval_only": False, "engine": {"name": "y"}, "data": "my cells", "shown": shown, "rows": rows}


def settings(iterations: int, **more: Any) -> dict[str, Any]:
    return {"SOLVER.MAX_ITER": iterations, "SOLVER.BASE_LR": 0.02, **more}


def found(tables: list[dict[str, Any]], configurations: list[Any]) -> list[tuple[int, ...]]:
    return [group.counts for group in groups.find_groups(tables, configurations)]


def test_tables_of_other_labels_and_schedules_make_a_curve() -> None:
    tables = [table(one, random=[9.0]) for one in (ALL, SOME, FEW)]
    (group,) = groups.find_groups(tables, [settings(300), settings(60), settings(30)])
    assert (group.counts, group.places, group.whole, group.seed) == ((14, 29, WHOLE), (2, 1, 0), WHOLE, 0)


def test_draws_and_kinds_of_parts_have_curves_of_their_own() -> None:
    asked = [part("5%", 14), part("5%", 14, 1), part("2-per-class", 3), part("list.txt", 20, None), ALL]
    counts = found([table(one, random=[9.0]) for one in asked], [settings(30)] * 5)
    assert sorted(counts) == [(3, WHOLE), (14, WHOLE), (14, WHOLE), (20, WHOLE)]


def test_other_settings_or_two_schedules_make_no_curve() -> None:
    few, whole = table(FEW, random=[9.0]), table(ALL, random=[9.0])
    kept = table({**FEW, "data_rules": {"class_without_label": "keep"}}, random=[9.0])  # of the part alone
    assert found([kept, whole], [settings(9)] * 2) == [(14, WHOLE)]
    assert found([few, whole], [settings(9), settings(9, **{"SOLVER.BASE_LR": 0.1})]) == []
    assert found([few, whole], [settings(9), None]) == []
    assert found([few, whole, whole], [settings(9), settings(9), settings(8)]) == []
    assert found([whole], [settings(9)]) == []
    assert found([few, whole | {"eval_only": True}], [settings(9)] * 2) == []


def test_the_labels_needed_are_the_first_that_reach_it() -> None:
    counts, points = [10, 100, 1000], [5.0, 15.0, 25.0]
    assert labels_needed(counts, points, 4.0) == 10
    assert labels_needed(counts, points, 10.0) == pytest.approx(math.sqrt(1000))
    assert labels_needed(counts, points, 25.0) == pytest.approx(1000)
    assert labels_needed(counts, points, 25.1) == math.inf
    assert labels_needed(counts, [5.0, 20.0, 10.0], 15.0) < 100  # a curve that falls again: the fewest labels count


def resampled(one: dict[str, Any], spread: float) -> dict[str, list[dict[str, np.ndarray]]]:
    """Resamples around the AP of each run, moved by what all runs of a resample share."""
    shift = np.random.default_rng(0).normal(0, spread, 400)
    return {
        row["label"]: [dict.fromkeys(("bbox/AP", "segm/AP"), ap + shift) for ap in row["scores"]["bbox/AP"]["values"]]
        for row in one["rows"]
    }


def curves(tables: list[dict[str, Any]], with_samples: bool = True) -> list[dict[str, Any]]:
    samples = [resampled(one, 0.5) if with_samples else {} for one in tables]
    described = efficiency.describe_label_curves(tables, [settings(9)] * len(tables), samples, BASELINES)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    return described


def study(random: list[list[float]], moco: list[list[float]]) -> list[dict[str, Any]]:
    return [table(one, random=a, MoCo=b) for one, a, b in zip((FEW, SOME, ALL), random, moco, strict=True)]


def test_a_clear_saving_is_said_with_its_interval() -> None:
    random = [[10.0, 10.4], [14.0, 14.2], [30.0, 30.4]]
    box, masks = curves(study(random, [[20.0, 20.4], [31.0, 31.2], [32.0, 32.4]]))
    assert (box["metric"], masks["metric"]) == ("bbox/AP", "segm/AP")
    row = next(row for row in box["rows"] if row["label"] == "MoCo")
    assert [point["x"] for point in row["points"]] == [14, 29, WHOLE]
    point = row["points"][0]
    assert point["mean"] == pytest.approx(20.2)
    assert point["low"] < 20.2 < point["high"]
    first, second = box["savings"]
    expected = 29 * (WHOLE / 29) ** ((20.2 - 14.1) / (30.2 - 14.1))
    assert first["needed"] == pytest.approx(expected)
    assert 29 < first["low"] <= expected <= first["high"] < WHOLE
    assert second["needed"] is None
    (sentence,) = box["sentences"]
    assert sentence.startswith(
        "MoCo saves labels: with 14 labelled images (4.8 %) it reaches the box AP that random has "
    )
    assert f" with {expected:.0f} (" in sentence
    assert "with 29 (9.9 %), that of more than 292 (100 %, the most that were tried; 95 % interval " in sentence


def test_no_saving_is_claimed_where_chance_may_be_all() -> None:
    same = [[10.0, 10.4], [14.0, 14.2], [30.0, 30.4]]
    (sentence,) = curves(study(same, same))[0]["sentences"]
    assert sentence.startswith(
        "No saving of labels is shown for MoCo: the box AP that it reaches with 14 labelled images"
    )
    assert "takes random 14 or fewer (4.8 %; 95 % interval 14" in sentence
    alone = [[10.0], [14.0], [30.0]], [[20.0], [31.0], [32.0]]
    (sentence,) = curves(study(*alone))[0]["sentences"]
    assert sentence.startswith("No saving of labels, of single trials, is shown for MoCo: ")
    assert "95 % interval over test images alone" in sentence
    made = study([[10.0, 10.1]] * 3, [[20.0, 20.1]] * 3)
    (sentence,) = curves(made, with_samples=False)[0]["sentences"]
    assert "without an interval" in sentence
    assert sentence.startswith("No saving of labels is shown")


def test_a_worse_start_saves_nothing() -> None:
    random = [[10.0, 10.4], [14.0, 14.2], [30.0, 30.4]]
    (sentence,) = curves(study(random, [[2.0, 2.4], [11.0, 11.2], [12.0, 12.4]]))[0]["sentences"]
    assert sentence.startswith("No saving of labels is shown for MoCo")


def test_some_numbers_of_labels_may_save_and_others_not() -> None:
    random = [[10.0, 10.4], [14.0, 14.2], [30.0, 30.4]]
    (sentence,) = curves(study(random, [[20.0, 20.4], [14.0, 14.2], [32.0, 32.4]]))[0]["sentences"]
    assert sentence.endswith("; with 29, no saving is shown.")


def test_a_saving_within_the_printed_precision_is_not_shown() -> None:
    saving = {
        **{"start": "MoCo", "baseline": "random", "labels": 14, "needed": 20.0, "low": 14.6, "high": 30.0},
        **{"interval": True, "fewest": 14, "most": WHOLE, "trials": 5},
    }
    assert not is_shown(saving)
    assert is_shown({**saving, "low": 15.0})
    assert is_shown({**saving, "low": None})
    assert not is_shown({**saving, "low": 15.0, "trials": 1})
    (sentence,) = describe_savings([{**saving, "low": None, "high": None, "needed": None}], WHOLE, "box AP")
    assert "95 % interval more than 292)" in sentence


@pytest.mark.parametrize(("count", "words"), [(14, "4.8 %"), (61, "21 %"), (291, "99.7 %"), (292, "100 %")])
def test_only_all_labels_are_100_percent(count: int, words: str) -> None:
    assert percent(count, WHOLE) == words
