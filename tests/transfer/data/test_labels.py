"""transfer/data/labels.py and label_list.py: which images have labels, the same ones for everybody."""

import hashlib
import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from transfer.data import labels
from transfer.data.coco.dataset import COCO
from transfer.data.common.dataset import Dataset
from transfer.data.common.trainable import trainable_images
from transfer.data.label_list import image_names, read_label_list
from transfer.errors import TransferError

CLASSES = ("cell", "platelet", "rare")


def record(image_id: Any, *shown: int, file: str | None = None, crowd: bool = False) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "file_name": file or f"/data/images/{image_id:06d}.jpg",
        "annotations": [{"category_id": one, "iscrowd": int(crowd)} for one in shown],
    }


def dataset(records: list[dict[str, Any]], **rules: str) -> Dataset:
    return Dataset(("x",), COCO, CLASSES, (1, 2, 3), records, (), rules)


# 200 images; a cell in each, a platelet in every fourth, the rare class in the last two
RECORDS = [record(i, 0, 0, *([1] if i % 4 == 0 else []), *([2, 2] if i > 197 else [])) for i in range(200)]
KEEP = {"class_without_label": "keep"}


def choose(asked: str, seed: int = 0, records: list[dict[str, Any]] | None = None, **rules: str) -> list[str]:
    _, chosen = chosen_of(asked, seed, records, **rules)
    return list(chosen.names)


def chosen_of(
    asked: str, seed: int = 0, records: list[dict[str, Any]] | None = None, **rules: str
) -> tuple[Dataset, labels.LabelledImages]:
    records = RECORDS if records is None else records
    return labels.choose_labels(dataset(records, **rules), asked, seed, trainable_images(records, True))


def refusal(asked: str, records: list[dict[str, Any]] | None = None, **rules: str) -> str:
    with pytest.raises(TransferError) as caught:
        chosen_of(asked, 0, records, **rules)
    return str(caught.value)


def test_a_draw_is_the_first_images_by_the_stated_digest() -> None:
    by_hand = sorted(range(200), key=lambda one: hashlib.sha256(f"7 {one}".encode()).hexdigest())
    assert choose("5%", 7, **KEEP) == [str(one) for one in sorted(by_hand[:10])]


def test_a_draw_depends_on_seed_and_ids_alone() -> None:
    shuffled = random.Random(0).sample(RECORDS, len(RECORDS))
    assert set(choose("10%", 3, **KEEP)) == set(choose("10%", 3, shuffled, **KEEP))
    assert set(choose("10%", 3, **KEEP)) != set(choose("10%", 4, **KEEP))


def test_a_small_part_lies_in_a_larger_one_of_its_seed() -> None:
    parts = [set(choose(part, 5, **KEEP)) for part in ("1%", "2%", "5%", "10%", "12.5%", "100%")]
    assert [len(part) for part in parts] == [2, 4, 10, 20, 25, 200]
    assert all(small < large for small, large in itertools.pairwise(parts))


def test_the_result_says_what_was_labelled() -> None:
    part, chosen = chosen_of("5%", 1, **KEEP)
    assert [str(one["image_id"]) for one in part.records] == list(chosen.names)
    objects = sum(len(one["annotations"]) for one in part.records)
    expected = ("5%", 0.05, 10, 200, objects, 1, hashlib.sha256(chosen.text.encode()).hexdigest())
    assert tuple(vars(chosen.labels).values()) == expected
    assert part.class_names == CLASSES


def test_only_images_with_something_to_learn_are_drawn() -> None:
    records = [record(0), record(1, 0, crowd=True), *(record(i, 0) for i in range(2, 12))]
    _part, chosen = chosen_of("50%", 0, records)
    assert (chosen.labels.images, chosen.labels.of) == (5, 10)
    assert not {"0", "1"} & set(chosen.names)
    whole, everything = chosen_of("100%", 0, records)
    assert whole.records == records  # a run with all labels is the run without the option
    assert (everything.labels.fraction, everything.labels.seed) == (1.0, None)


def test_k_per_class_has_k_objects_of_every_class() -> None:
    part, chosen = chosen_of("3-per-class")
    counts = Counter(item["category_id"] for one in part.records for item in one["annotations"])
    assert all(counts[one] >= 3 for one in range(3))
    assert {"198", "199"} <= set(chosen.names)
    assert len(chosen.names) <= 5
    assert "the training data have fewer objects of 1 of 3 classes (rare 4); 4-per-class is the most" in refusal(
        "5-per-class"
    )


def test_a_class_left_out_is_refused_with_what_would_do() -> None:
    message = refusal("1%")
    assert message.startswith("--labels 1%: 2 of 200 images: no labelled image shows ")
    enough = message.split("(--labels ")[1].split("%")[0]
    assert len(choose(f"{enough}%")) == int(enough) * 2
    with pytest.raises(TransferError):
        choose(f"{int(enough) - 1}%")
    assert "--data-rule class_without_label=keep" in message
    _, chosen = chosen_of("1%", **KEEP)
    assert chosen.remark is not None
    assert "nothing to learn them from" in chosen.remark


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("0.4%", "that is less than 1 of 200 images; 1% is 1 image"),
        ("0%", "a percentage above 0 and up to 100"),
        ("101%", "a percentage above 0 and up to 100"),
        ("0-per-class", "1-per-class or more"),
        ("5", "no such file; expected: a percentage of the images such as 5%, .* \\(--labels 5% is a percentage\\)"),
        ("ten-per-class", "no such file; expected:"),
    ],
)
def test_what_is_no_part_of_the_labels_is_refused(asked: str, words: str) -> None:
    with pytest.raises(TransferError, match=words):
        chosen_of(asked)


def test_data_without_objects_have_no_part() -> None:
    assert "none of the 1 images shows an object" in refusal("10%", [record(1)])


# -- lists ------------------------------------------------------------------------------------------------------------


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "text", ["3\n8\n", "# a comment\n\n000008.jpg\n000003.jpg\n", "images/000003\nimages/000008\n", "000003\n000008"]
)
def test_a_list_names_ids_or_files(tmp_path: Path, text: str) -> None:
    _part, chosen = chosen_of(write(tmp_path, text), **KEEP)
    assert chosen.names == ("3", "8")
    assert chosen.labels.seed is None
    drawn = hashlib.sha256(b"3\n8\n").hexdigest()
    assert chosen.labels.sha256 == drawn  # that of the images, whatever the form of the list


def test_the_list_of_a_run_gives_the_same_images(tmp_path: Path) -> None:
    _, drawn = chosen_of("10%", 2, **KEEP)
    _, listed = chosen_of(write(tmp_path, drawn.text), **KEEP)
    assert (listed.names, listed.labels.sha256) == (drawn.names, drawn.labels.sha256)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no image"),
        ("3\n3\n", "names images twice: 3, 3"),
        ("3\n000003.jpg\n", "1 of 2 lines name no image of the training data"),
        ("3\n7777\n", "1 of 2 lines .*line 2: '7777'.*ids there are such as 0, file names such as 000000.jpg"),
        ('{"1.0": {"1": [2, 3]}}', "is JSON; .*positions in a list"),
    ],
)
def test_a_list_of_other_images_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TransferError, match=words):
        chosen_of(write(tmp_path, text), **KEEP)


def test_positions_in_place_of_ids_are_recognised(tmp_path: Path) -> None:
    records = [record(1000 + 7 * i, 0) for i in range(50)]
    assert "are these positions in a list and no ids?" in refusal(write(tmp_path, "0\n5\n49\n"), records)


def test_a_list_with_two_meanings_is_refused(tmp_path: Path) -> None:
    records = [record(1, 0, file="/d/2.jpg"), record(2, 0, file="/d/1.jpg")]
    assert "with this id is 2.jpg, the file of this name is 1.jpg" in refusal(write(tmp_path, "1\n"), records)
    assert read_label_list(Path(write(tmp_path, "1.jpg\n")), records) == [1]


def test_joined_sets_that_share_ids_have_paths_for_names(tmp_path: Path) -> None:
    records = [record(1, 0, file="/d/a/1.jpg"), record(1, 0, file="/d/b/1.jpg")]
    assert image_names(records) == ["a/1.jpg", "b/1.jpg"]
    assert read_label_list(Path(write(tmp_path, "b/1.jpg\n")), records) == [1]
    with pytest.raises(TransferError, match=r"'1' \(2 images\)"):
        read_label_list(Path(write(tmp_path, "1\n")), records)


def test_listed_images_without_objects_do_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = [record(1, 0), record(2)]
    _, chosen = chosen_of(write(tmp_path, "1\n2\n"), 0, records)
    assert chosen.names == ("1",)
    assert "1 of its 2 images show no object to learn from" in caplog.text
    assert "none of its 1 images shows an object" in refusal(write(tmp_path, "2\n"), records)


def test_keypoints_count_as_something_to_learn() -> None:
    records = [{"annotations": [{"keypoints": [1, 1, 2, 5, 5, 0]}]}, {"annotations": [{"keypoints": [0, 0, 0]}]}]
    assert trainable_images(records, True, 1) == [0]
    assert trainable_images(records, True) == [0, 1]
