"""The report: exact statistics, one table for one experiment, loud about what does not compare, safe with any text."""

import csv
import dataclasses
import json
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import report as report_tool
from tests.conftest import ROOT
from tests.support.in_process import refusal
from tests.support.transfer.synthetic_runs import make_result, make_run
from transfer import results
from transfer.config import resolve
from transfer.data.coco.records import CLASS_NAMES as COCO_CLASSES
from transfer.data.voc.records import CLASS_NAMES as VOC_CLASSES
from transfer.engines.torchvision import load_config
from transfer.errors import TransferError
from transfer.report import config_diff, warnings
from transfer.report import content as report_content
from transfer.report import page as report
from transfer.report import tables as trials
from transfer.report.content import Options
from transfer.report.published import data
from transfer.report.published import rows as published
from transfer.report.run_folders import read_curves, read_runs
from transfer.report.tables import FinishedRun, Score
from transfer.results import Engine, Init

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def run_of(result: Any) -> FinishedRun:
    return FinishedRun(Path("run"), result)


# -- statistics -------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_mean_and_sample_deviation(values: list[float]) -> None:
    score = Score.of(values)
    assert score.mean == pytest.approx(sum(values) / len(values))
    if len(values) == 1:
        assert score.std is None
    else:
        square = sum((value - score.mean) ** 2 for value in values) / (len(values) - 1)
        assert score.std == pytest.approx(square**0.5, abs=1e-6)


def test_trials_make_a_row_and_deltas_compare_means() -> None:
    aps = {"MoCo": [15.0, 16.0, 20.0], "random": [9.0, 10.0], "supervised": [17.0]}
    runs = [run_of(make_result("coco", start, seed, ap)) for start, row in aps.items() for seed, ap in enumerate(row)]
    (table,) = trials.build_tables(runs)
    assert [row.label for row in table.rows] == ["random", "supervised", "MoCo"]
    rows = {row.label: row for row in table.rows}
    assert rows["MoCo"].scores["bbox/AP"].values == (15.0, 16.0, 20.0)
    assert rows["MoCo"].scores["bbox/AP"].std == pytest.approx(statistics.stdev([15, 16, 20]))
    assert rows["supervised"].scores["bbox/AP"].std is None
    assert rows["MoCo"].deltas["random"]["bbox/AP"] == pytest.approx(17.0 - 9.5)
    assert rows["MoCo"].deltas["supervised"]["segm/AP"] == pytest.approx(0.9 * (17.0 - 17.0))
    assert rows["supervised"].deltas.keys() == {"random"}
    assert rows["random"].deltas == {}
    assert "bbox/APs" not in table.columns  # undefined in every run


def test_an_undefined_metric_is_averaged_over_other_trials() -> None:
    whole, half = make_result("coco", "random", 0, 10.0), make_result("coco", "random", 1, 20.0)
    half = dataclasses.replace(half, metrics={"bbox": {"AP": 20.0, "AP50": None}})
    (table,) = trials.build_tables([run_of(whole), run_of(half)])
    assert table.rows[0].scores["bbox/AP"].values == (10.0, 20.0)
    assert table.rows[0].scores["bbox/AP50"].values == (18.0,)


# -- what stands in one table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"engine": Engine("detectron2", {})}, "engine (torchvision | detectron2)"),
        ({"task": {"config_sha256": "01" * 32}}, "configuration (efefefef | 01010101)"),
        ({"task": {"train_images": 5}}, "training images (4 | 5)"),
        ({"task": {"test_images": 5}}, "test images (6 | 5)"),
        ({"task": {"train": ("coco_2017_val",)}}, "training sets (coco_2017_train | coco_2017_val)"),
        ({"task": {"class_names": ("one",)}}, "classes"),
        ({"eval_only": True}, "trained here (True | False)"),
    ],
)
def test_different_experiments_get_own_tables_and_a_warning(changes: dict[str, Any], named: str) -> None:
    runs = [make_result("coco", "random", seed, 10.0) for seed in (0, 1)]
    runs += [make_result("coco", "MoCo", seed, 12.0, **changes) for seed in (0, 1)]
    tables = trials.build_tables([run_of(result) for result in runs])
    assert [len(table.rows) for table in tables] == [1, 1]
    (warning,) = warnings.report_warnings(tables)
    assert "must not be compared" in warning
    assert named in warning


def few_labels(asked: str, images: int, digest: str) -> dict[str, Any]:
    return {"labels": results.Labels(asked, images / 40, images, 40, 3 * images, 0, digest), "train_images": images}


def drawn_with(seed: int | None, asked: str = "5%") -> results.Labels:
    return results.Labels(asked, 0.05, 2, 40, 6, seed, f"drawn with {seed}")


def test_runs_with_other_labels_are_never_averaged() -> None:
    parts = [few_labels("5%", 2, "a1"), few_labels("5%", 2, "b2"), few_labels("10%", 4, "c3")]
    runs = [make_result("coco", start, 0, 10.0, task=part) for part in parts for start in ("random", "MoCo")]
    runs += [make_result("coco", "random", 0, 10.0), make_result("coco", "random", 1, 10.0, task={"labels": None})]
    whole = few_labels("100%", 40, "d4") | {"train_images": 4}  # the same as no option
    runs.append(make_result("coco", "MoCo", 0, 12.0, task=whole))
    tables = trials.build_tables([run_of(result) for result in runs])
    assert [[len(row.runs) for row in table.rows] for table in tables] == [[1, 1], [1, 1], [1, 1], [2, 1]]
    titles = [trials.table_title(table) for table in tables]
    assert "with 2 labelled images (5%) on" in titles[0]
    assert "with 4 labelled images (10%) on" in titles[2]
    other = make_result("coco", "random", 0, 9.0, task=few_labels("5%", 2, "a1") | {"labels": drawn_with(7)})
    listed = make_result("coco", "random", 0, 9.0, task={"labels": drawn_with(None, "/a/folder/list.txt")})
    named = [trials.table_title(trials.build_tables([run_of(one)])[0]) for one in (other, listed)]
    assert "with 2 labelled images (5%, draw seed 7) on" in named[0]
    assert "with 2 labelled images (list.txt) on" in named[1]
    assert "labelled" not in titles[3]
    assert not [text for text in warnings.report_warnings(tables) if "must not be compared" in text]


def test_differing_configurations_are_named_by_their_keys(tmp_path: Path) -> None:
    runs = []
    for place, iterations in enumerate((100, 200)):
        (tmp_path / str(place)).mkdir()
        settings = {"SOLVER": {"MAX_ITER": iterations, "BASE_LR": 0.02}, "SEED": place, "OUTPUT_DIR": str(place)}
        (tmp_path / str(place) / "config.yaml").write_text(yaml.safe_dump(settings))
        result = make_result("coco", "random", place, 10.0, task={"config_sha256": results.config_hash(settings)})
        runs.append(FinishedRun(tmp_path / str(place), result))
    warning = warnings.report_warnings(trials.build_tables(runs))[0]
    assert warning.endswith("they differ in configuration (schedule: SOLVER.MAX_ITER 100 | 200).")


def test_rows_of_unknown_methods_are_named_and_stay_apart() -> None:
    metadata = {"method": None, "source": "resnet50.pth"}
    runs = [
        run_of(
            make_result(
                "coco",
                "MoCo",
                seed,
                10.0,
                init=results.Init("file", "resnet50", "b.pth", sha, "resnet50", metadata),
            )
        )
        for sha in ("1" * 64, "2" * 64)
        for seed in (0, 1)
    ]
    (table,) = trials.build_tables(runs)
    assert [row.label for row in table.rows] == ["resnet50 (11111111)", "resnet50 (22222222)"]
    found = [text for text in warnings.report_warnings([table]) if "does not tell the method" in text]
    assert len(found) == 2
    assert "called after its file resnet50.pth" in found[0]


def test_another_task_is_another_table_without_a_warning() -> None:
    runs = [run_of(make_result(kind, "random", seed, 10.0)) for kind in ("voc", "coco") for seed in (0, 1)]
    tables = trials.build_tables(runs)
    assert len(tables) == 2
    assert warnings.report_warnings(tables) == []


@pytest.mark.parametrize(("trials_of_moco", "said"), [(1, []), (2, ["random 1, MoCo 2"])])
def test_only_unequal_numbers_of_trials_are_a_warning(trials_of_moco: int, said: list[str]) -> None:
    runs = [run_of(make_result("coco", "random", 0, 10.0))]
    runs += [run_of(make_result("coco", "MoCo", seed, 10.0)) for seed in range(trials_of_moco)]
    found = warnings.report_warnings(trials.build_tables(runs))
    assert [text.split("(")[-1].split(")")[0] for text in found] == said


def test_two_backbones_under_one_label_are_two_rows() -> None:
    other = Init("file", "MoCo", "other.pth", "99" * 32)
    runs = [run_of(make_result("coco", "MoCo", 0, 10.0)), run_of(make_result("coco", "MoCo", 0, 11.0, init=other))]
    (table,) = trials.build_tables(runs)
    assert [row.label for row in table.rows] == ["MoCo (cdcdcdcd)", "MoCo (99999999)"]


@pytest.mark.parametrize(
    ("second", "warning"),
    [
        ({"seed": 0}, "seed 0 occurs twice"),
        ({"replaced_images": 3}, "training images could not be read in "),
        (
            {"engine": Engine("torchvision", {"torch": "2.11.0", "torchvision": "0.25.0"})},
            "different versions of torch.",
        ),
    ],
)
def test_trials_that_are_not_independent_are_a_warning(second: dict[str, Any], warning: str) -> None:
    first = make_result("coco", "random", 0, 10.0)
    (table,) = trials.build_tables([run_of(first), run_of(dataclasses.replace(first, **{"seed": 1} | second))])
    assert [text for text in warnings.report_warnings([table]) if warning in text]


# -- run folders ------------------------------------------------------------------------------------------------------


def test_runs_are_found_at_any_depth_and_counted_once(tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "b" / "one", make_result("coco", "random", 0, 10.0))
    make_run(tmp_path / "two", make_result("coco", "random", 1, 10.0))
    (tmp_path / "pretraining").mkdir()
    (tmp_path / "pretraining" / "env.json").write_text("{}")  # no fine-tuning run: passed over
    assert len(read_runs([tmp_path, tmp_path / "two", tmp_path / "a" / ".." / "two"])) == 2


def test_every_folder_without_a_result_is_named_at_once(tmp_path: Path) -> None:
    make_run(tmp_path / "good", make_result("coco", "random", 0, 10.0))
    (make_run(tmp_path / "all" / "cut", make_result("coco", "random", 1, 10.0)) / "result.json").unlink()
    make_run(tmp_path / "all" / "other", make_result("coco", "random", 2, 10.0))
    (tmp_path / "empty").mkdir()
    broken = make_run(tmp_path / "broken", make_result("coco", "random", 3, 10.0))
    (broken / "result.json").write_text("{}")
    names = ("good", "all", "empty", "nowhere", "broken")
    with pytest.raises(TransferError) as caught:
        read_runs([tmp_path / name for name in names])
    for name in ("all/cut", "empty", "nowhere", "broken/result.json"):
        assert str(tmp_path / name) in str(caught.value)
    assert str(tmp_path / "good") not in str(caught.value)
    assert "all/other" not in str(caught.value)


def test_curves_skip_cut_lines_and_count_resumed_steps_once(tmp_path: Path) -> None:
    run = run_of(make_result("coco", "random", 0, 10.0))
    lines = ['{"iteration": 1, "total_loss": 3.0}', '{"iteration": 2, "total_loss": 2.0}', '{"iteration": 3, "tot']
    lines += [
        '{"iteration": 2, "total_loss": 1.5}',
        '{"iteration": 3, "total_loss": NaN}',
        '{"iteration": 3, "bbox/AP": 7}',
    ]
    (tmp_path / "metrics.json").write_text("\n".join(lines))
    assert read_curves(dataclasses.replace(run, folder=tmp_path)) == {
        "total_loss": {1: 3.0, 2: 1.5},
        "bbox/AP": {3: 7},
    }
    assert read_curves(dataclasses.replace(run, folder=tmp_path / "nowhere")) == {}


# -- the written report -----------------------------------------------------------------------------------------------

QUICK = Options(images=3, resamples=50)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """Two trials of three starts on two tasks, with detections and their real scores."""
    root = tmp_path_factory.mktemp("runs")
    for kind in ("voc", "coco"):
        for start, ap in (("random", 40.0), ("supervised", 70.0), ("MoCo", 60.0)):
            for seed in (0, 1):
                make_run(root / f"{kind}_{start}_{seed}", make_result(kind, start, seed, ap), scenes)
    return root


@pytest.fixture(scope="module")
def written(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The report of `runs`: its folder and its numbers."""
    output = tmp_path_factory.mktemp("written") / "report"
    return output, report.write_report([runs], output, QUICK)


class Page(HTMLParser):
    """The links, tags, ids, the visible text of a page, and its tables as lists of rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.text += " "
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.cell:
            self.tables[-1][-1][-1] = " ".join(f"{self.tables[-1][-1][-1]} {data}".split())


def test_the_page_is_static_and_whole(written: tuple[Path, dict[str, Any]]) -> None:
    output, content = written
    names = ["csv", "figures", "index.html", "pictures", "report.json", "report.md"]
    assert sorted(path.name for path in output.iterdir()) == names
    assert json.loads((output / "report.json").read_text()) == content
    text = (output / "index.html").read_text()
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe"}
    embedded = {link for link in page.links if link.startswith("data:image/jpeg;base64,")}
    own = {f"#{name}" for name in page.ids}
    assert set(page.links) - embedded <= own  # it needs no other file, and can be mailed
    assert embedded == {report.data_url(path) for path in (output / "pictures").iterdir()}
    assert all(path.name in text for path in (output / "csv").iterdir())
    assert len(page.ids) == len(set(page.ids))  # also those of the figures
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text))
    assert used
    assert used <= set(page.ids)
    assert "1 process, 2 threads each" in page.text


def lines_of(output: Path, name: str) -> list[dict[str, str]]:
    with open(output / "csv" / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_page_markdown_and_csv_show_the_same_numbers(written: tuple[Path, dict[str, Any]]) -> None:
    output, content = written
    page = Page((output / "index.html").read_text())
    tables = {table["title"]: table for table in content["tables"]}
    shown = [table for table in page.tables if table[0][:2] == ["initialization", "n"]]
    cells = {
        (title, row[0], name): cell
        for title, rows in zip(tables, shown, strict=True)
        for row in rows[1:]
        for name, cell in zip(rows[0][-len(tables[title]["shown"]) :], row[-len(tables[title]["shown"]) :], strict=True)
    }
    markdown = (output / "report.md").read_text()
    expected = {}
    for line in lines_of(output, "scores.csv"):
        trials = [float(value) for value in line["trials"].split()]
        assert float(line["mean"]) == statistics.fmean(trials)
        assert int(line["n"]) == len(trials) == 2
        cell = f"{float(line['mean']):.1f} ± {float(line['std']):.1f}"
        expected[line["table"], line["start"], line["metric"]] = cell, cell
    for line in lines_of(output, "differences.csv"):
        ends = [line[end] for end in ("difference", "low", "high") if line[end]]
        points = [f"{round(float(end), 1) + 0.0:+.1f}".replace("-", "−") for end in ends]
        forms = ("{} {} to {}", "{} [{}, {}]") if line["low"] else ("{}", "{}")
        row = f"{line['start']} − {line['baseline']}"
        expected[line["table"], row, line["metric"]] = tuple(form.format(*points) for form in forms)
    keys = {(title, column["title"]): column["key"] for title, table in tables.items() for column in table["shown"]}
    assert len(cells) == sum(6 * len(table["shown"]) for table in tables.values())  # three rows, three differences
    for (title, row, name), cell in cells.items():
        on_page, in_markdown = expected.get((title, row, keys[title, name]), ("–", "–"))  # not measured
        assert cell == on_page
        assert f" {in_markdown} |" in markdown
    for line in lines_of(output, "classes.csv"):
        assert f"{float(line['mean']):.1f}" in page.text


def test_intervals_contain_differences_and_are_reproducible(runs: Path, tmp_path: Path) -> None:
    coco = [runs / f"coco_{start}_{seed}" for start in ("random", "MoCo") for seed in (0, 1)]
    first, second = (report.write_report(coco, tmp_path / name, Options(images=0, resamples=200)) for name in "ab")
    for table, again in zip(first["tables"], second["tables"], strict=True):
        assert table["differences"] == again["differences"]
        keys = {"bbox/AP", "bbox/AP50", "bbox/AP75"}
        for difference in table["differences"]:
            assert keys <= difference["intervals"].keys()
            for key, (low, high) in difference["intervals"].items():
                assert low <= high
                assert low - 1e-9 <= difference["scores"][key] <= high + 1e-9
            assert difference["class_intervals"].keys() == difference["classes"].keys()
    assert (tmp_path / "a/figures").exists()
    for path in (tmp_path / "a/figures").iterdir():
        assert path.read_bytes() == (tmp_path / "b/figures" / path.name).read_bytes()


def test_detections_with_another_ap_make_only_a_note(runs: Path, tmp_path: Path) -> None:
    for start in ("random", "MoCo"):
        shutil.copytree(runs / f"coco_{start}_0", tmp_path / start)
    path = tmp_path / "MoCo/inference/coco_instances_results.json"
    path.write_text(json.dumps(json.loads(path.read_text())[3:]))
    content = report.write_report([tmp_path / "random", tmp_path / "MoCo"], tmp_path / "report", QUICK)
    (table,) = content["tables"]
    assert "detections or data have changed" in table["notes"][0]
    assert str(path) in table["notes"][0]
    assert table["differences"][0]["intervals"] == {}
    assert table["strip"] == []
    assert table["curves"]


def test_a_test_set_without_objects_makes_nothing_but_a_note(runs: Path, scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "coco_random_0", tmp_path / "run")
    shutil.copytree(scenes / "val2017", tmp_path / "data" / "val2017")
    content = json.loads((scenes / "annotations/instances_val2017.json").read_text())
    (tmp_path / "data/annotations").mkdir()
    (tmp_path / "data/annotations/instances_val2017.json").write_text(json.dumps({**content, "annotations": []}))
    images = tmp_path / "run/inference/images.json"
    images.write_text(images.read_text().replace(str(scenes), str(tmp_path / "data")))
    (table,) = report.write_report([tmp_path / "run"], tmp_path / "report", QUICK)["tables"]
    assert "coco_2017_val: there is no object to find" in table["notes"][0]


def test_every_row_is_drawn_on_the_same_images(written: tuple[Path, dict[str, Any]]) -> None:
    output, content = written
    for table in content["tables"]:
        (note,) = table["notes"]
        assert "under this name" in note
        assert table["compared"] == ["MoCo", "supervised"]
        assert len(table["strip"]) == 3
        for row in table["strip"]:
            assert {label: sum(kinds.values()) for label, kinds in row["kinds"].items()} == row["mistakes"]
            assert list(row["pictures"]) == ["ground truth", "random", "supervised", "MoCo"]
            drawn = [(output / name).read_bytes() for name in row["pictures"].values()]
            assert len(set(drawn)) > 1
        gains = [row["mistakes"]["supervised"] - row["mistakes"]["MoCo"] for row in table["strip"]]
        sides = [[gain for gain in gains if gain * sign > 0] for sign in (1, -1)]
        assert sides == [sorted(side, key=abs, reverse=True) for side in sides]  # the greatest difference first
        assert gains == [*sides[0], *sides[1], *[0] * gains.count(0)]


def test_without_the_test_images_the_report_says_what_is_missing(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run", make_result("coco", "random", 0, 10.0))
    content = report.write_report([tmp_path / "run"], tmp_path / "report", QUICK)
    assert "images.json" in content["tables"][0]["notes"][0]
    assert "images.json" in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("starts", "trials"),
    [(["random"], 1), (["MoCo"], 2), (["supervised", "MoCo"], 5), (["random", "supervised", "MoCo"], 1)],
)
def test_any_number_of_trials_and_starts_makes_a_report(starts: list[str], trials: int, tmp_path: Path) -> None:
    for place, start in enumerate(starts):
        for seed in range(trials):
            make_run(tmp_path / "runs" / f"{start}_{seed}", make_result("voc", start, seed, 10.0 * (place + 1) + seed))
    (table,) = report.write_report([tmp_path / "runs"], tmp_path / "report", QUICK)["tables"]
    assert [row["n"] for row in table["rows"]] == [trials] * len(starts)
    assert [row["scores"]["bbox/AP"]["std"] is None for row in table["rows"]] == [trials == 1] * len(starts)
    assert len(table["differences"]) == {1: 0, 2: 1, 3: 3}[len(starts)]
    curve = next(curve for curve in table["curves"] if curve["name"] == "bbox/AP")
    assert all(point["n"] == trials for points in curve["rows"].values() for point in points)


def test_runs_without_training_or_detections_make_a_report(scenes: Path, tmp_path: Path) -> None:
    for seed, start in enumerate(("random", "MoCo")):
        changes = {"iterations": 0, "eval_only": True}
        folder = make_run(tmp_path / "runs" / start, make_result("coco", start, seed, 50.0, **changes), scenes)
        path = folder / "inference/coco_instances_results.json"
        path.write_text("[]")
        nothing = dict.fromkeys(("AP", "AP50", "AP75"), 0.0)
        found = results.read_result(folder / "result.json")
        per_class = {part: dict.fromkeys(points, 0.0) for part, points in found.per_class.items()}
        found = dataclasses.replace(found, metrics={"bbox": nothing, "segm": nothing}, per_class=per_class)
        results.write_result(folder / "result.json", found, overwrite=True)
    (table,) = report.write_report([tmp_path / "runs"], tmp_path / "report", QUICK)["tables"]
    (note,) = table["notes"]
    assert "under this name" in note
    assert table["curves"] == []
    assert table["differences"][0]["intervals"]["bbox/AP"] == [0.0, 0.0]
    assert table["errors"]["MoCo"]["missed"]["mean"] == 100


def test_two_engines_are_compared_by_shared_settings(tmp_path: Path) -> None:
    for place, engine in enumerate(("torchvision", "detectron2")):
        own = {"MODEL": {"ROI_BOX_HEAD": {"NORM": ("", "SyncBN")[place]}}, engine.upper(): 1}
        task = {"config_sha256": results.config_hash(own)}
        for start in ("random", "MoCo"):
            result = make_result("coco", start, 0, 10.0, engine=Engine(engine, {}), task=task)
            folder = make_run(tmp_path / "runs" / f"{engine}_{start}", result)
            (folder / "config.yaml").write_text(yaml.safe_dump(own))
    content = report.write_report([tmp_path / "runs"], tmp_path / "report", QUICK)
    assert len(content["tables"]) == 2
    expected = "engine (detectron2 | torchvision); configuration (heads: MODEL.ROI_BOX_HEAD.NORM SyncBN | '')."
    assert content["warnings"][0].endswith(expected)


def test_options_out_of_range_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"(?s)--images -1.*--min-score 2.*--resamples -5"):
        report.write_report([tmp_path], tmp_path / "report", Options("", -1, 2.0, -5))


HOSTILE = "<script>alert(1)</script>|*a*\n# `x` & \"'"


def test_text_of_a_run_is_text_on_the_page_and_in_markdown(tmp_path: Path) -> None:
    init = Init("file", HOSTILE, f"/tmp/{HOSTILE}", "ab" * 32)
    result = make_result("coco", "MoCo", 0, 10.0, init=init, task={"class_names": (HOSTILE,)}, command=("x", HOSTILE))
    make_run(tmp_path / "run", dataclasses.replace(result, per_class={"bbox": {HOSTILE: 1.0}}))
    report.write_report([tmp_path / "run"], tmp_path / "report", Options(HOSTILE))
    page = Page((tmp_path / "report" / "index.html").read_text())
    assert "script" not in page.tags
    assert HOSTILE in page.text
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "<script>" not in markdown
    (row,) = [line for line in markdown.splitlines() if "alert" in line and line.startswith("| ")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 1 + 2 + 6  # start, n, six metrics


def test_the_page_says_from_which_file_a_pretraining_began(tmp_path: Path) -> None:
    began = {"label": "MoCo", "path": "released.pth.tar", "sha256": "12" * 32}
    init = Init("file", "MoCo from MoCo", "b.pth", "ab" * 32, "resnet18", {"epoch": 65, "began_from": began})
    make_run(tmp_path / "run", make_result("coco", "MoCo", 0, 10.0, init=init))
    report.write_report([tmp_path / "run"], tmp_path / "report", QUICK)
    text = Page((tmp_path / "report" / "index.html").read_text()).text
    assert "epoch 65; its pretraining began from released.pth.tar, SHA-256 121212121212)" in text


def test_an_existing_report_is_kept_unless_asked(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    report.write_report([runs / "coco_random_0"], output, Options("first"))
    with pytest.raises(TransferError, match="--overwrite"):
        report.write_report([runs / "coco_random_0"], output, QUICK)
    (output / "notes.txt").write_text("mine")
    report.write_report([runs / "coco_random_0"], output, Options("second"), overwrite=True)
    assert "second" in (output / "report.md").read_text()
    assert (output / "notes.txt").read_text() == "mine"


def test_a_killed_report_can_be_overwritten(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    (output / ".unfinished.x1y2" / "pictures").mkdir(parents=True)
    report.write_report([runs / "coco_random_0"], output, QUICK, overwrite=True)
    (output / report.PAGE).unlink()  # killed between two of its files
    with pytest.raises(TransferError, match="holds no report"):  # somebody's own figures/, as far as one can see
        report.write_report([runs / "coco_random_0"], output, QUICK, overwrite=True)
    (output / ".unfinished.x1y2").mkdir()
    with pytest.raises(TransferError, match="holds no report"):
        report.write_report([runs / "coco_random_0"], output, QUICK)
    report.write_report([runs / "coco_random_0"], output, QUICK, overwrite=True)
    assert {path.name for path in output.iterdir()} == set(report._WRITTEN)


def test_a_folder_of_something_else_is_never_written_to(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(TransferError, match="holds no report"):
        report.write_report([runs], tmp_path, QUICK, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_bad_run_leaves_the_old_report_as_it_was(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    report.write_report([runs / "coco_random_0"], output, QUICK)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with pytest.raises(TransferError, match="nowhere"):
        report.write_report([tmp_path / "nowhere"], output, QUICK, overwrite=True)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


# -- published rows ---------------------------------------------------------------------------------------------------

VOC_24K = {
    "config_file": "configs/transfer/voc_r50_c4_24k.yaml",
    "train": ("voc_2007_trainval", "voc_2012_trainval"),
    "test": ("voc_2007_test",),
    "train_images": 5011 + 11540,
    "test_images": 4952,
    "class_names": VOC_CLASSES,
}


def test_published_rows_stand_beside_runs_of_the_same_recipe(tmp_path: Path) -> None:
    make_run(tmp_path / "run", make_result("voc", "MoCo", 0, 55.0, iterations=24000, task=VOC_24K))
    content = report.write_report([tmp_path / "run"], tmp_path / "report", QUICK)
    page = " ".join(Page((tmp_path / "report" / "index.html").read_text()).text.split())
    assert "MoCo v1 ImageNet 200 epochs MoCo v1 Table 2 5 55.9 81.5 62.6" in page
    rows = {row["label"]: row["scores"] for row in content["tables"][0]["published"]["rows"]}
    assert rows["random"] == {"bbox/AP": 33.8, "bbox/AP50": 60.2, "bbox/AP75": 33.1}
    assert rows["MoCo v2 ImageNet 200 epochs"] == {"bbox/AP": 57.0, "bbox/AP50": 82.4, "bbox/AP75": 63.6}


@pytest.mark.parametrize(
    ("change", "batch", "why"),
    [
        ({"iterations": 400}, 16, "iterations 400, published 24000"),
        ({"task": {"train": ("voc_2007_trainval",)}}, 16, "training sets voc_2007_trainval, published voc_2007_tr"),
        ({}, 8, "images a batch 8, published 16"),
        (
            {"task": {"test_images": 40}},
            16,
            "test data: 40 images of 20 classes, published PASCAL VOC 2007 test (4,952 images of 20 classes)",
        ),
        (
            {"task": {"train_images": 300}},
            16,
            "training data: 300 images of 20 classes, published PASCAL VOC 2007 trainval and PASCAL VOC 2012 trainval "
            "(16,551 images of 20 classes)",
        ),
        ({"task": {"class_names": ("disc", "star")}}, 16, "test data: 4,952 images of 2 classes, published PASCAL"),
    ],
)
def test_a_namesake_that_is_not_the_recipe_has_none_and_says_why(
    tmp_path: Path, change: dict[str, Any], batch: int, why: str
) -> None:
    fields = {"iterations": 24000} | change | {"task": VOC_24K | change.get("task", {})}
    folder = make_run(tmp_path / "run", make_result("voc", "MoCo", 0, 55.0, **fields))
    (folder / "config.yaml").write_text(yaml.safe_dump({"SOLVER": {"IMS_PER_BATCH": batch}}))
    (table,) = report.write_report([folder], tmp_path / "report", QUICK)["tables"]
    assert table["published"] is None
    (note,) = [note for note in table["notes"] if "No published rows" in note]
    assert why in note


def test_data_under_a_published_name_are_not_called_by_it() -> None:
    own = {"test_images": 40, "class_names": ("disc", "star")}
    (table,) = trials.build_tables([run_of(make_result("voc", "MoCo", 0, 55.0, task=VOC_24K | own))])
    assert trials.table_title(table) == "voc_r50_c4_24k on 40 images named voc_2007_test (torchvision)"
    assert report_content.identity_notes(table) == [
        "The name voc_2007_test is that of PASCAL VOC 2007 test (4,952 images of 20 classes); these runs are tested on "
        "40 images of 2 classes under this name."
    ]
    (real,) = trials.build_tables([run_of(make_result("voc", "MoCo", 0, 55.0, task=VOC_24K))])
    assert trials.table_title(real) == "voc_r50_c4_24k on voc_2007_test (torchvision)"


@pytest.mark.parametrize("images", [(118287, 5000), (117266, 4952)])
def test_coco_with_or_without_empty_images_is_coco(images: tuple[int, int]) -> None:
    task = {"train_images": images[0], "test_images": images[1], "class_names": COCO_CLASSES}
    result = make_result("coco", "MoCo", 0, 40.0, task=task)
    assert data.published_differences(result.task) == []
    keypoints = {"train": ("keypoints_coco_2017_train",), "test": ("keypoints_coco_2017_val",)}
    people = make_result("coco", "MoCo", 0, 40.0, task=task | keypoints | {"class_names": ("person",)})
    assert len(data.published_differences(people.task)) == (0 if images[0] == 118287 else 2)


def test_a_run_that_differs_from_its_recipe_is_a_warning(tmp_path: Path) -> None:
    settings = yaml.safe_load(load_config(ROOT / "configs/transfer/voc_r50_c4_24k.yaml", []).dump())
    folder = make_run(tmp_path / "run", make_result("voc", "MoCo", 0, 55.0, iterations=24000, task=VOC_24K))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    run = read_runs([folder])
    assert not [text for text in warnings.report_warnings(trials.build_tables(run)) if "as published" in text]
    settings["MODEL"]["ROI_BOX_HEAD"]["NORM"] = "SyncBN"
    settings["SOLVER"]["BASE_LR"] = 0.01
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (warning,) = [text for text in warnings.report_warnings(trials.build_tables(run)) if "as published" in text]
    assert "heads: MODEL.ROI_BOX_HEAD.NORM SyncBN | ''" in warning
    assert "schedule: SOLVER.BASE_LR 0.01 | 0.02" in warning


def test_a_recipe_that_cannot_be_compared_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "run", make_result("voc", "MoCo", 0, 55.0, iterations=24000, task=VOC_24K))
    texts = warnings.report_warnings(trials.build_tables(read_runs([folder])))
    assert any(f"not compared with the published recipe voc_r50_c4_24k: {folder}/config.yaml" in text for text in texts)
    settings = load_config(ROOT / "configs/transfer/voc_r50_c4_24k.yaml", []).dump()
    (folder / "config.yaml").write_text(settings)
    monkeypatch.setattr(config_diff, "RECIPES", tmp_path / "site-packages/configs/transfer")  # an installed wheel
    texts = warnings.report_warnings(trials.build_tables(read_runs([folder])))
    missing = f"{tmp_path}/site-packages/configs/transfer/voc_r50_c4_24k.yaml does not exist"
    assert any(missing in text for text in texts)


def test_a_recipe_on_fewer_gpus_keeps_its_published_rows(tmp_path: Path) -> None:
    changes = {"iterations": 96000, "scaled": results.Scaled(8, 2), "task": VOC_24K}
    folder = make_run(tmp_path / "run", make_result("voc", "MoCo", 0, 55.0, **changes))
    config, _ = resolve.with_scale(load_config(ROOT / "configs/transfer/voc_r50_c4_24k.yaml", []), 2)
    (folder / "config.yaml").write_text(config.dump())
    content = report.write_report([folder], tmp_path / "report", QUICK)
    assert content["tables"][0]["published"]["iterations"] == 24000
    assert "from 8 GPUs to 2" in content["tables"][0]["notes"][0]
    assert not [text for text in content["warnings"] if "as published" in text]


def test_every_published_recipe_can_be_read() -> None:
    for name, recipe in published.published_recipes().items():
        assert published.find_recipe(f"somewhere/{name}.yaml") == recipe
        for row in recipe.rows:
            for part in {key.split("/")[0] for key in row.scores} - {"sem_seg"}:
                assert row.scores.get(f"{part}/AP75", 0) < row.scores[f"{part}/AP50"]
                assert row.scores[f"{part}/AP"] < row.scores[f"{part}/AP50"]
    assert published.find_recipe("configs/transfer/mine.yaml") is None


# -- the tool ---------------------------------------------------------------------------------------------------------


def test_the_tool_prints_the_table_and_where_the_page_lies(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [runs / f"coco_{start}_0" for start in ("MoCo", "random")]
    options = ("--output", tmp_path / "report", "--resamples", "0", "--images", "1")
    monkeypatch.setattr("sys.argv", ["report", *map(str, (*folders, *options))])
    report_tool.main()
    said = capsys.readouterr().out
    page = tmp_path / "report" / "index.html"
    size = f"one file of {page.stat().st_size / 1e6:.1f} MB, to open or to mail:"
    assert said.splitlines()[-2:] == [size, str(page)]
    ours, theirs = (results.read_result(folder / "result.json").metrics["bbox"]["AP"] for folder in folders)
    assert ours
    assert theirs
    assert re.search(rf"MoCo − random\s+{re.escape(f'{ours - theirs:+.1f}')}\s", said)


def test_the_tool_names_what_is_missing_without_a_traceback(tmp_path: Path) -> None:
    said = refusal(report_tool.main, tmp_path / "a", tmp_path / "b", "--output", tmp_path / "report")
    assert str(tmp_path / "a") in said
    assert str(tmp_path / "b") in said
    assert list(tmp_path.iterdir()) == []
