"""The devkit's result files: what is written is read back exactly, and bad files are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.transfer.layouts import SIZE, make_voc, voc_object
from transfer.data import catalog
from transfer.data.common.faults import Findings
from transfer.data.voc.records import read_voc_split
from transfer.errors import TransferError
from transfer.evaluation.voc import ap as voc
from transfer.evaluation.voc import results as voc_results
from transfer.evaluation.voc.ap import ClassDetections
from transfer.predictions import Detections, coco_detections

unhurried = settings(max_examples=60, deadline=None)  # the machine may be busy

numbers = st.floats(-1e4, 1e4)


@unhurried
@given(st.lists(st.tuples(st.sampled_from(["2007_000001", "b"]), numbers, st.tuples(*[numbers] * 4)), max_size=4))
def test_files_hold_every_digit(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, float, tuple[float, ...]]]
) -> None:
    folder = tmp_path_factory.mktemp("results") / "new"
    written = ClassDetections(
        [line[0] for line in lines],
        np.array([line[1] for line in lines], dtype=float),
        np.array([line[2] for line in lines], dtype=float).reshape(-1, 4),
    )
    voc_results.write_voc_results(folder, {"cat": written})
    found, unread = voc_results.read_voc_results(folder, ["cat"], "val")
    assert unread == []
    assert list(found["cat"].image_ids) == written.image_ids
    np.testing.assert_array_equal(found["cat"].scores, written.scores)
    np.testing.assert_array_equal(found["cat"].boxes, written.boxes)
    with pytest.raises(TransferError, match="exists already"):
        voc_results.write_voc_results(folder, {"cat": written})


def test_rows_of_the_loaded_boxes_score_one(tmp_path: Path) -> None:
    """Reading takes 1 off xmin and ymin, rows put it back: the annotated boxes themselves are exact detections."""
    make_voc(tmp_path / "VOC2012", {"a": SIZE + voc_object("cat", (3, 4, 20, 25)) + voc_object("dog", (1, 1, 9, 9))})
    dataset = catalog.load_dataset(["voc_2012_trainval"], tmp_path)
    (record,) = dataset.records
    boxes = torch.tensor([item["bbox"] for item in record["annotations"]])
    classes = torch.tensor([item["category_id"] for item in record["annotations"]])
    rows = coco_detections(Detections(boxes, torch.tensor([0.9, 0.8]), classes), "a", dataset.category_ids)
    found = voc_results.devkit_detections(rows, dataset.class_names, dataset.category_ids)
    assert found["cat"].boxes.tolist() == [[3, 4, 20, 25]]
    truth = {image.image_id: image.objects for image in read_voc_split(dataset.annotations[0])}
    scores = voc.evaluate_voc(truth, found, dataset.class_names)
    assert scores["area"]["with_ground_truth"] == {"AP": 1, "AP50": 1, "AP75": 1}


@pytest.mark.parametrize("file", ["cat.txt", "comp4_det_val_cat.txt", "comp3_det_val_cat.txt"])
def test_the_devkits_file_names_are_known(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("a 0.5 1 2 3 4\n\n")
    (tmp_path / "notes.txt").write_text("seen")
    found, unread = voc_results.read_voc_results(tmp_path, ["cat"], "val")
    assert found["cat"].boxes.tolist() == [[1, 2, 3, 4]]
    assert unread == [tmp_path / "notes.txt"]


def test_an_empty_file_is_valid_and_a_missing_one_a_fault(tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_text("")
    found, _ = voc_results.read_voc_results(tmp_path, ["cat"], "val")
    assert found["cat"].boxes.shape == (0, 4)
    with pytest.raises(TransferError, match="for each of the classes dog, emu;") as caught:
        voc_results.read_voc_results(tmp_path, ["cat", "dog", "emu"], "val")
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(TransferError, match="gone: no such folder"):
        voc_results.read_voc_results(tmp_path / "gone", ["cat"], "val")
    (tmp_path / "comp4_det_val_cat.txt").write_text("")
    with pytest.raises(TransferError, match="more than one file of class cat"):
        voc_results.read_voc_results(tmp_path, ["cat"], "val")


@pytest.mark.parametrize(
    "line", ["a 0.5 1 2 3", "a 0.5 1 2 3 4 5", "a nan 1 2 3 4", "a 0.5 1 2 inf 4", "a b c d e f", "a"]
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "cat.txt").write_text(f"a 0.5 1 2 3 4\n{line}\n")
    with pytest.raises(TransferError, match=r"cat\.txt, line 2: "):
        voc_results.read_voc_results(tmp_path, ["cat"], "val")


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        ("row", "a 0.5 1 2 3", "with finite numbers is expected, not 'a 0.5 1 2 3'"),
        ("score", "a nan 1 2 3 4", "the score is not finite"),
        ("box", "a 0.5 1 2 inf 4", "the box is not finite"),
        ("box", "a 0.5 1 2 1e300 4", "the box is not finite, or beyond 1e+09 pixels"),
        ("unknown_image", "c 0.5 1 2 3 4", "the split does not list image c"),
    ],
)
def test_a_faulty_line_is_refused_with_its_place_or_dropped(tmp_path: Path, kind: str, line: str, message: str) -> None:
    (tmp_path / "cat.txt").write_text(f"a 0.5 1 2 3 4\n{line}\nb 0.4 1 2 3 4\n")
    with pytest.raises(TransferError) as caught:
        voc_results.read_voc_results(tmp_path, ["cat"], "val", image_ids=["a", "b"])
    assert str(caught.value).startswith(f"{tmp_path}/cat.txt, line 2: ")
    assert message in str(caught.value)
    findings = Findings({kind: "drop"})
    found, _ = voc_results.read_voc_results(tmp_path, ["cat"], "val", findings, ["a", "b"])
    assert found["cat"].scores.tolist() == [0.5, 0.4]
    assert findings.counts() == {f"{kind}=drop": 1}


@unhurried
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("results")
    (folder / "cat.txt").write_bytes(content)
    try:
        voc_results.read_voc_results(folder, ["cat"], "val")
    except TransferError as error:
        if "cat.txt" not in str(error):
            raise


def test_image_names_with_blanks_are_written_and_read(tmp_path: Path) -> None:
    box = np.array([[1.0, 2.0, 3.0, 4.0]])
    found = voc.ClassDetections(["ali (1)"], np.array([0.5]), box)
    voc_results.write_voc_results(tmp_path / "out", {"cat": found})
    read, _ = voc_results.read_voc_results(tmp_path / "out", ["cat"], "val", image_ids=["ali (1)", "ali"])
    assert (list(read["cat"].image_ids), read["cat"].boxes.tolist()) == (["ali (1)"], box.tolist())


def test_image_names_in_another_unicode_form_are_the_images(tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_text("Mu\u0308ller 0.5 1 2 3 4\n", encoding="utf-8-sig")
    found, _ = voc_results.read_voc_results(tmp_path, ["cat"], "val", image_ids=["M\u00fcller"])
    assert list(found["cat"].image_ids) == ["M\u00fcller"]
