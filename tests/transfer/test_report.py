"""The report: exact statistics, one table for one experiment, loud about what does not compare, safe with any text."""

import dataclasses
import json
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Tool, refused
from tests.transfer.synthetic_runs import make_result, make_run
from transfer import caveats, published, report, results, trials
from transfer.errors import TransferError
from transfer.results import Engine, Init
from transfer.run_folders import read_curves, read_runs
from transfer.trials import Run, Score

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def run_of(result: Any) -> Run:
    return Run(Path("run"), result)


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


def test_trials_of_a_start_are_one_row_and_deltas_are_differences_of_means() -> None:
    aps = {"MoCo": [15.0, 16.0, 20.0], "random": [9.0, 10.0], "supervised": [17.0]}
    runs = [run_of(make_result("coco", start, seed, ap)) for start, row in aps.items() for seed, ap in enumerate(row)]
    (table,) = trials.tables(runs)
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


def test_a_metric_undefined_in_one_trial_is_averaged_over_the_others() -> None:
    whole, half = make_result("coco", "random", 0, 10.0), make_result("coco", "random", 1, 20.0)
    half = dataclasses.replace(half, metrics={"bbox": {"AP": 20.0, "AP50": None}})
    (table,) = trials.tables([run_of(whole), run_of(half)])
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
def test_runs_of_different_experiments_get_tables_of_their_own_and_a_warning(
    changes: dict[str, Any], named: str
) -> None:
    runs = [make_result("coco", "random", seed, 10.0) for seed in (0, 1)]
    runs += [make_result("coco", "MoCo", seed, 12.0, **changes) for seed in (0, 1)]
    tables = trials.tables([run_of(result) for result in runs])
    assert [len(table.rows) for table in tables] == [1, 1]
    (warning,) = caveats.warnings(tables)
    assert "must not be compared" in warning
    assert named in warning


def test_differing_configurations_are_told_by_their_keys(tmp_path: Path) -> None:
    runs = []
    for place, iterations in enumerate((100, 200)):
        (tmp_path / str(place)).mkdir()
        settings = {"SOLVER": {"MAX_ITER": iterations, "BASE_LR": 0.02}, "SEED": place, "OUTPUT_DIR": str(place)}
        (tmp_path / str(place) / "config.yaml").write_text(yaml.safe_dump(settings))
        result = make_result("coco", "random", place, 10.0, task={"config_sha256": results.config_hash(settings)})
        runs.append(Run(tmp_path / str(place), result))
    warning = caveats.warnings(trials.tables(runs))[0]
    assert warning.endswith("they differ in configuration (SOLVER.MAX_ITER 100 | 200).")


def test_another_task_is_another_table_without_a_warning() -> None:
    runs = [run_of(make_result(kind, "random", seed, 10.0)) for kind in ("voc", "coco") for seed in (0, 1)]
    tables = trials.tables(runs)
    assert len(tables) == 2
    assert caveats.warnings(tables) == []


def test_two_backbones_under_one_label_are_two_rows() -> None:
    other = Init("file", "MoCo", "other.pth", "99" * 32)
    runs = [run_of(make_result("coco", "MoCo", 0, 10.0)), run_of(make_result("coco", "MoCo", 0, 11.0, init=other))]
    (table,) = trials.tables(runs)
    assert [row.label for row in table.rows] == ["MoCo (cdcdcdcd)", "MoCo (99999999)"]


@pytest.mark.parametrize(
    ("second", "warning"),
    [
        ({"seed": 0}, "seed 0 stands twice"),
        (
            {"engine": Engine("torchvision", {"torch": "2.11.0", "torchvision": "0.25.0"})},
            "different versions of torch.",
        ),
    ],
)
def test_trials_that_are_no_two_draws_of_one_thing_are_told(second: dict[str, Any], warning: str) -> None:
    first = make_result("coco", "random", 0, 10.0)
    (table,) = trials.tables([run_of(first), run_of(dataclasses.replace(first, **{"seed": 1} | second))])
    assert [text for text in caveats.warnings([table]) if warning in text]


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


def test_curves_pass_over_a_line_cut_short_and_a_resumed_run_counts_once(tmp_path: Path) -> None:
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for kind in ("voc", "coco"):
        for start, ap in (("random", 10.0), ("supervised", 16.5), ("MoCo", 15.0)):
            for seed in (0, 1):
                make_run(root / f"{kind}_{start}_{seed}", make_result(kind, start, seed, ap + seed), scenes)
    return root


class Page(HTMLParser):
    """The links, pictures, scripts and the visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.text += " "
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_static_whole_and_shows_the_numbers(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    content = report.write([runs], output)
    assert sorted(path.name for path in output.iterdir()) == ["index.html", "pictures", "report.json", "report.md"]
    assert json.loads((output / "report.json").read_text()) == content
    page = Page((output / "index.html").read_text())
    assert not page.tags & {"script", "link", "iframe"}
    assert page.links
    assert all((output / link).is_file() for link in page.links)  # its own pictures and nothing else
    words = " ".join(page.text.split())
    for text in ("10.5 ± 0.7", "15.5 ± 0.7", "MoCo − random", "+5.0", "mask AP50", "1 process, 2 threads each"):
        assert text in words
    markdown = (output / "report.md").read_text()
    assert "| MoCo | 2 | 15.5 ± 0.7 |" in markdown
    assert "| MoCo − supervised | | −1.5 |" in markdown


def test_every_start_is_drawn_on_the_same_images_beside_the_truth(runs: Path, tmp_path: Path) -> None:
    content = report.write([runs], tmp_path / "report", images=3)
    for table in content["tables"]:
        assert table["notes"] == []
        assert len(table["strip"]) == 3
        for row in table["strip"]:
            assert list(row["pictures"]) == ["ground truth", "random", "supervised", "MoCo"]
            drawn = [(tmp_path / "report" / name).read_bytes() for name in row["pictures"].values()]
            assert len(set(drawn)) > 1


def test_without_the_test_images_the_report_says_what_is_missing(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run", make_result("coco", "random", 0, 10.0))
    content = report.write([tmp_path / "run"], tmp_path / "report")
    assert "images.json" in content["tables"][0]["notes"][0]
    assert "images.json" in (tmp_path / "report" / "index.html").read_text()


HOSTILE = "<script>alert(1)</script>|*a*\n# `x` & \"'"


def test_text_of_a_run_is_text_on_the_page_and_in_markdown(tmp_path: Path) -> None:
    init = Init("file", HOSTILE, f"/tmp/{HOSTILE}", "ab" * 32)
    result = make_result("coco", "MoCo", 0, 10.0, init=init, task={"class_names": (HOSTILE,)}, command=("x", HOSTILE))
    make_run(tmp_path / "run", dataclasses.replace(result, per_class={"bbox": {HOSTILE: 1.0}}))
    report.write([tmp_path / "run"], tmp_path / "report", title=HOSTILE)
    page = Page((tmp_path / "report" / "index.html").read_text())
    assert "script" not in page.tags
    assert HOSTILE in page.text
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "<script>" not in markdown
    (row,) = [line for line in markdown.splitlines() if "alert" in line and line.startswith("| ")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 1 + 2 + 6  # start, n, six metrics


def test_an_existing_report_is_kept_unless_asked(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    report.write([runs / "coco_random_0"], output, title="first")
    with pytest.raises(TransferError, match="--overwrite"):
        report.write([runs / "coco_random_0"], output)
    (output / "notes.txt").write_text("mine")
    report.write([runs / "coco_random_0"], output, title="second", overwrite=True)
    assert "second" in (output / "report.md").read_text()
    assert (output / "notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_never_written_to(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(TransferError, match="holds no report"):
        report.write([runs], tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_bad_run_leaves_the_old_report_as_it_was(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    report.write([runs / "coco_random_0"], output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with pytest.raises(TransferError, match="nowhere"):
        report.write([tmp_path / "nowhere"], output, overwrite=True)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


# -- published rows ---------------------------------------------------------------------------------------------------

VOC_24K = {
    "config_file": "configs/transfer/voc_r50_c4_24k.yaml",
    "train": ("voc_2007_trainval", "voc_2012_trainval"),
    "test": ("voc_2007_test",),
}


def test_published_rows_stand_beside_runs_of_the_same_recipe(tmp_path: Path) -> None:
    make_run(tmp_path / "run", make_result("voc", "MoCo", 0, 55.0, iterations=24000, task=VOC_24K))
    content = report.write([tmp_path / "run"], tmp_path / "report")
    page = " ".join(Page((tmp_path / "report" / "index.html").read_text()).text.split())
    assert "MoCo v1 ImageNet 200 epochs MoCo v1 Table 2 5 55.9 81.5 62.6" in page
    rows = {row["label"]: row["scores"] for row in content["tables"][0]["published"]["rows"]}
    assert rows["random"] == {"bbox/AP": 33.8, "bbox/AP50": 60.2, "bbox/AP75": 33.1}
    assert rows["MoCo v2 ImageNet 200 epochs"] == {"bbox/AP": 57.0, "bbox/AP50": 82.4, "bbox/AP75": 63.6}


@pytest.mark.parametrize("change", [{"iterations": 400}, {"task": {**VOC_24K, "train": ("voc_2007_trainval",)}}])
def test_a_namesake_that_is_not_the_recipe_has_none_and_says_why(tmp_path: Path, change: dict[str, Any]) -> None:
    fields = {"iterations": 24000, "task": VOC_24K} | change
    make_run(tmp_path / "run", make_result("voc", "MoCo", 0, 55.0, **fields))
    (table,) = report.write([tmp_path / "run"], tmp_path / "report")["tables"]
    assert table["published"] is None
    assert any("No published rows" in note and "published" in note for note in table["notes"])


def test_every_published_recipe_can_be_read() -> None:
    for name, recipe in published.recipes().items():
        assert published.find(f"somewhere/{name}.yaml") == recipe
        for row in recipe.rows:
            assert row.scores["bbox/AP75"] < row.scores["bbox/AP50"]
            assert row.scores["bbox/AP"] < row.scores["bbox/AP50"]
    assert published.find("configs/transfer/mine.yaml") is None


# -- the tool ---------------------------------------------------------------------------------------------------------


def test_the_tool_prints_the_table_and_where_the_page_lies(tool: Tool, runs: Path, tmp_path: Path) -> None:
    done = tool("report", runs / "coco_random_0", runs / "coco_MoCo_0", "--output", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "report" / "index.html")
    assert re.search(r"MoCo − random\s+\+5\.0", done.stdout)


def test_the_tool_names_what_is_missing_without_a_traceback(tool: Tool, tmp_path: Path) -> None:
    refused(
        tool("report", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "report"), tmp_path / "a", tmp_path / "b"
    )
    assert list(tmp_path.iterdir()) == []
