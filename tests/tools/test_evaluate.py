"""tools/evaluate.py as a user runs it."""

import json
from pathlib import Path

import pytest

from tests.conftest import Tool, refused
from tests.support.body import found_person, person, prism, write_body, write_people
from tests.support.cityscapes_layout import SCENE, draw, make_cityscapes, row
from tests.support.transfer.layouts import SIZE, coco_content, make_coco, make_voc, voc_object
from tests.support.transfer.lvis_files import lvis_content, make_lvis

OBJECT = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A VOC2007 folder with one beaker in one image, and results that find it exactly."""
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    (folder / "Annotations" / "a.xml").write_text(f"<annotation>{OBJECT.format('beaker')}</annotation>")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "beaker.txt").write_text("a 0.9 1 1 9 9\n")
    return folder


@pytest.mark.data
def test_coco_json_is_one_object_with_the_published_numbers(tool: Tool, shared_data: Path) -> None:
    folder = shared_data / "evalref_coco_bbox"
    files = ("--annotations", folder / "instances_val2014_100.json")
    results = ("--results", folder / "instances_val2014_fakebbox100_results.json")
    scores = json.loads(tool("evaluate", "coco", *files, *results, "--json").stdout)
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    expected = json.loads((folder / "expected_full_precision.json").read_text())["stats"]["cocoapi_bbox"]
    assert [scores[name] for name in names] == expected
    assert scores["per_class"]["hair drier"] is None
    record = json.loads(tool("evaluate", "coco", *files, *results, "--json", "--evaluator", "pycocotools").stdout)
    assert record.pop("evaluator").startswith("pycocotools ")
    assert record == {name: value for name, value in scores.items() if name != "evaluator"}
    shown = tool("evaluate", "coco", *files, *results).stdout
    assert shown.endswith("fractions from 0 to 1; fine-tuning and the report print points, 0 to 100.\n")
    assert "AP50   0.697" in shown
    refused(tool("evaluate", "coco", *files, *results, "--iou-type", "segm"), results[1], "[0]: no segmentation")


@pytest.mark.data
def test_voc_json_is_detectron2s(tool: Tool, shared_data: Path) -> None:
    folder = shared_data / "voc2012_real40"
    root = ("--dataset-root", folder / "VOCdevkit" / "VOC2012")
    ran = tool("evaluate", "voc", *root, "--split", "trainval", "--results", folder / "evalref", "--json")
    scores, expected = json.loads(ran.stdout), json.loads((folder / "evalref" / "expected.json").read_text())
    assert scores["metric"] == "area"
    assert scores["AP50"] == scores["area"]["AP50"] == pytest.approx(expected["area_under_curve"]["mAP50"], abs=1e-12)
    assert scores["11-point"]["AP"] == pytest.approx(expected["voc07_11point"]["mAP50_95"], abs=1e-12)


def test_voc_2007_has_its_metric_and_what_was_not_read_is_told(tool: Tool, voc: Path, tmp_path: Path) -> None:
    (tmp_path / "results" / "tongs.txt").write_text("")
    arguments = ("voc", "--dataset-root", voc, "--split", "val", "--results", tmp_path / "results")
    ran = tool("evaluate", *arguments, "--json")
    scores = json.loads(ran.stdout)
    assert (scores["metric"], scores["AP"]) == ("11-point", pytest.approx(1))
    assert scores["area"]["per_class"] == {"beaker": {"AP": 1, "AP50": 1, "AP75": 1}}
    assert "tongs.txt" in ran.stderr
    assert "beaker" in tool("evaluate", *arguments).stdout


def test_faulty_data_are_scored_by_the_rules_and_counted(tool: Tool, voc: Path, tmp_path: Path) -> None:
    objects = voc_object("beaker", (1, 1, 12, 12)) + voc_object("beaker", (5, 5, 5, 5))
    size = "<size><width>8</width><height>8</height></size>"
    (voc / "Annotations" / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (tmp_path / "results" / "beaker.txt").write_text("a 0.9 1 1 8 8\nb 0.8 1 1 9 9\n")
    arguments = ("voc", "--dataset-root", voc, "--split", "val", "--results", tmp_path / "results", "--json")
    refused(
        tool("evaluate", *arguments), "object 1 (line 1): <bndbox> 1, 1, 12, 12 reaches beyond", "outside=clip|drop"
    )
    rules = [
        part for rule in ("outside=clip", "zero_area=drop", "unknown_image=drop") for part in ("--data-rule", rule)
    ]
    ran = tool("evaluate", *arguments, *rules)
    scores = json.loads(ran.stdout)
    assert scores["AP"] == pytest.approx(1)  # of the clipped box, found exactly, alone
    assert scores["data_faults"] == {"zero_area=drop": 1, "outside=clip": 1, "unknown_image=drop": 1}
    assert "1 boxes reach beyond their image: clipped" in ran.stderr
    refused(tool("evaluate", *arguments, "--data-rule", "outside=drop"), "unknown_image")


def test_bad_input_is_one_message(tool: Tool, voc: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    arguments = ("voc", "--dataset-root", voc, "--results", results, "--split")
    refused(tool("evaluate", *arguments, "test"), voc / "ImageSets" / "Main" / "test.txt", "splits there: val")
    (results / "beaker.txt").rename(results / "tongs.txt")
    refused(tool("evaluate", *arguments, "val"), results, "beaker")
    missing = tmp_path / "missing.json"
    refused(tool("evaluate", "coco", "--annotations", missing, "--results", missing), missing, "No such file")


def own_classes_of_voc(root: Path, names: str = "person car dog") -> list[object]:
    """The arguments for a set of three own classes that PASCAL VOC has too, each found exactly."""
    folder, results = root / "VOC2007", root / "results"
    boxes = {name: (1 + 10 * place, 1, 9 + 10 * place, 9) for place, name in enumerate(names.split())}
    make_voc(folder, {"a": SIZE + "".join(voc_object(name, box) for name, box in boxes.items())}, "test")
    results.mkdir()
    for name, box in boxes.items():
        (results / f"{name}.txt").write_text("a 0.9 " + " ".join(map(str, box)) + "\n")
    return ["voc", "--dataset-root", folder, "--split", "test", "--results", results]


def test_own_classes_that_voc_has_too_need_no_20_files(tool: Tool, tmp_path: Path) -> None:
    arguments = own_classes_of_voc(tmp_path)
    ran = tool("evaluate", *arguments, "--json")
    assert json.loads(ran.stdout)["AP"] == pytest.approx(1)
    assert "3 of PASCAL VOC's 20 classes occur in test and are scored; --classes voc scores all 20" in ran.stderr
    refused(tool("evaluate", *arguments, "--classes", "voc"), "for each of the classes aeroplane, bicycle")


def test_asked_classes_that_do_not_occur_are_left_out_and_said(tool: Tool, tmp_path: Path) -> None:
    arguments = own_classes_of_voc(tmp_path)
    (tmp_path / "results" / "emu.txt").write_text("a 0.9 1 1 9 9\n")
    ran = tool("evaluate", *arguments, "--classes", "car,dog,emu,person", "--json")
    scores = json.loads(ran.stdout)
    assert scores["AP"] == pytest.approx(1)
    assert scores["remarks"] == ["box AP is the mean over 3 of 4 classes; no object of: emu"]
    assert scores["remarks"][0] in ran.stderr
    refused(tool("evaluate", *arguments, "--classes", "car,dog"), "class person is not one of: car, dog")


def test_data_by_path_are_scored_by_their_own_layout(tool: Tool, tmp_path: Path) -> None:
    make_voc(tmp_path / "cells", {"a": SIZE + voc_object("cat", (1, 1, 9, 9))}, "val")
    (tmp_path / "found").mkdir()
    (tmp_path / "found/cat.txt").write_text("a 0.9 1 1 9 9\n")
    scores = json.loads(tool("evaluate", "data", tmp_path / "cells", "--results", tmp_path / "found", "--json").stdout)
    assert (scores["metric"], scores["AP"]) == ("area", 1.0)
    chosen = tool("evaluate", "data", tmp_path / "cells", "--results", tmp_path / "found", "--evaluator", "pycocotools")
    refused(chosen, "--evaluator pycocotools: only COCO's AP has a choice of programs")
    make_coco(tmp_path / "fruit", coco_content())
    (tmp_path / "sets.yaml").write_text("mine: fruit\n")
    row = {"image_id": 9, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.9}
    (tmp_path / "found.json").write_text(json.dumps([row]))
    named = ("mine", "--data", tmp_path / "sets.yaml", "--results", tmp_path / "found.json")
    scores = json.loads(tool("evaluate", "data", *named, "--json").stdout)
    assert scores["per_class"] == {"beaker": pytest.approx(1), "tongs": 0}


def test_lvis_is_scored_by_its_own_metric(tool: Tool, tmp_path: Path) -> None:
    annotations = make_lvis(tmp_path, lvis_content([[(2, 10, 10)]]))
    (tmp_path / "found.json").write_text(
        json.dumps([{"image_id": 1, "category_id": 2, "score": 0.5, "bbox": [10, 10, 20, 20]}])
    )
    files = ("lvis", "--annotations", annotations, "--results", tmp_path / "found.json")
    scores = json.loads(tool("evaluate", *files, "--json").stdout)
    assert (scores["AP"], scores["APc"], scores["APr"]) == (pytest.approx(1), pytest.approx(1), None)
    assert "APc      1.000" in tool("evaluate", *files).stdout


def test_densepose_finds_the_body_beside_coco_and_names_it(tool: Tool, tmp_path: Path) -> None:
    annotations, results = write_people(tmp_path / "coco" / "annotations", person()), tmp_path / "results.json"
    results.write_text(json.dumps([found_person()]))
    arguments = ("densepose", "--annotations", annotations, "--results", results)
    address = "https://dl.fbaipublicfiles.com/densepose/data/Pdist_matrix.pkl"
    refused(tool("evaluate", *arguments), tmp_path / "densepose" / "SMPL_subdiv.mat", address)
    write_body(tmp_path / "densepose", prism())
    scores = json.loads(tool("evaluate", *arguments, "--json").stdout)
    assert (scores["metric"], scores["AP"], scores["APl"], scores["per_class"]) == ("GPS", 1, None, {"person": 1})
    assert "AP50   1.000" in tool("evaluate", *arguments, "--body", tmp_path / "densepose").stdout


def test_cityscapes_is_scored_by_its_own_ap(tool: Tool, tmp_path: Path) -> None:
    make_cityscapes(tmp_path, {"val": {"ulm_000000_000019": SCENE}})
    results = tmp_path / "found.json"
    rows = [row("ulm_000000_000019", 26, draw(SCENE) == 26000)]
    results.write_text(json.dumps(rows))
    files = ("cityscapes", "--ground-truth", tmp_path / "gtFine" / "val", "--results", results)
    scores = json.loads(tool("evaluate", *files, "--json").stdout)
    assert scores["per_class"]["car"] == {"AP": 1.0, "AP50": 1.0}
    assert (scores["AP"], scores["per_class"]["bus"]["AP"]) == (0.5, None)  # no person is found
    assert "AP50   0.500" in tool("evaluate", *files).stdout
    results.write_text(json.dumps([*rows, {**rows[0], "category_id": 1}]))
    refused(tool("evaluate", *files), f"{results}[1]: category_id 1 is no label id", "class=drop")
    refused(tool("evaluate", "cityscapes", "--ground-truth", tmp_path, "--results", results), "holds no CITY/")
