"""A run's data are checked before its first step, and the checker says what fine-tuning says."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import check_dataset
from tests.conftest import ROOT
from tests.support.transfer.layouts import fruit_content
from transfer.config.resolve import Config
from transfer.data import catalog
from transfer.engines import torchvision as engine
from transfer.errors import TransferError
from transfer.run.data_check import DataCheck, rules_for_scoring, rules_for_training

CONFIG = ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"
BOXES = [[4, 5, 20, 15], [12, 10, 20, 18], [8, 3, 25, 20], [2, 14, 30, 12]]
Content = dict[str, Any]


def good() -> Content:
    return fruit_content(2, 40, 30, BOXES)


def make(root: Path, train: Content, test: Content | None = None) -> Path:
    """A data set whose images are 40 x 30, and 2.jpg of the size stated where `train` states a very narrow one."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, content in (("train", train), ("val", test or good())):
        (root / f"{split}2017").mkdir(exist_ok=True)
        for name in ("1.jpg", "2.jpg"):
            Image.new("RGB", (40, 30)).save(root / f"{split}2017" / name)
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


@functools.cache
def configuration(masks: bool) -> Config:
    return engine.load_config(CONFIG, ["MODEL.MASK_ON", str(masks)])


def finetune_says(root: Path, masks: bool = True, **rules: str) -> str | None:
    """The refusal of the data by a run that is planned, None if it would begin."""
    config = configuration(masks)
    check = DataCheck(config)
    try:
        train = catalog.load_dataset(["coco_2017_train"], root, None, rules_for_training(rules, config))
        test = catalog.load_dataset(["coco_2017_val"], root, train.class_names, rules_for_scoring(rules, config))
        check.training(train)
        check.test(test)
    except TransferError as error:
        return str(error)
    return None


def checker_refuses(root: Path, split: str, masks: bool = True, **rules: str) -> bool:
    command = ["coco", "--annotations", str(root / f"annotations/instances_{split}2017.json")]
    command += ["--images", str(root / f"{split}2017"), *([] if masks else ["--masks", "no"])]
    command += [f"--rule={kind}={rule}" for kind, rule in rules.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["check_dataset.py", *command])
        try:
            check_dataset.main()
        except TransferError:
            return True
        except SystemExit:  # faults that the rules accept
            return False
    return False


def test_good_data_pass_both(tmp_path: Path) -> None:
    root = make(tmp_path, good())
    assert finetune_says(root) is None
    assert not checker_refuses(root, "train")


def each(key: str, value: Any) -> Callable[[Content], None]:
    """Set, or with Ellipsis remove, a field of every annotation."""

    def change(content: Content) -> None:
        for annotation in content["annotations"]:
            annotation.update({key: value})
            if value is ...:
                del annotation[key]

    return change


def first(key: str, value: Any) -> Callable[[Content], None]:
    """Set, or with Ellipsis remove, a field of the first annotation."""

    def change(content: Content) -> None:
        each(key, value)({"annotations": content["annotations"][:1]})

    return change


def image(key: str, value: Any) -> Callable[[Content], None]:
    return lambda content: content["images"][1].update({key: value})


def no_annotation(content: Content) -> None:
    content["annotations"] = []


def orphans(content: Content) -> None:
    for annotation in content["annotations"]:
        annotation["image_id"] += 100


# What can be trained on and not be scored, or the reverse: the checker, which does not know the use, refuses it.
ONE_USE = {"corners beside a polygon", "one run length", "all crowds of run lengths"}
RUNS = {"size": [30, 40], "counts": [100, 500, 600]}
CHANGES: dict[str, Callable[[Content], None]] = {
    "no area": each("area", ...),
    "no iscrowd": each("iscrowd", ...),
    "iscrowd null": first("iscrowd", None),
    "iscrowd text": each("iscrowd", "0"),
    "all crowds": each("iscrowd", 1),
    "all crowds of run lengths": lambda content: (each("iscrowd", 1)(content), each("segmentation", RUNS)(content))[0],
    "one run length": first("segmentation", RUNS),
    "one without mask": first("segmentation", []),
    "mask gone": first("segmentation", ...),
    "empty polygon": first("segmentation", [[]]),
    "corners": first("segmentation", [[4, 5, 24, 20]]),
    "corners beside a polygon": first("segmentation", [[4, 5, 24, 20], [4, 5, 24, 5, 24, 20]]),
    "pairs": each("segmentation", [[4, 5], [24, 5], [24, 20]]),
    "class as text": each("category_id", "1"),
    "unknown class": first("category_id", 7),
    "ids twice": each("id", 1),
    "id gone": first("id", ...),
    "box of nothing": first("bbox", [1, 1, 0, 0]),
    "boxes of nothing": each("bbox", [1, 1, 0, 0]),
    "box beyond": first("bbox", [1, 1, 60, 10]),
    "box negative": first("bbox", [24, 20, -20, -15]),
    "fractions": each("bbox", [0.1, 0.2, 0.5, 0.5]),
    "another size": image("width", 50),
    "exchanged": lambda content: content["images"][1].update(width=30, height=40),
    "no size": image("width", None),
    "missing image": image("file_name", "gone.jpg"),
    "backslash": image("file_name", ".\\2.jpg"),
    "another folder": image("file_name", "images/2.jpg"),
    "upper case": image("file_name", "2.JPG"),
    "narrow": lambda content: content["images"][1].update(width=40_000, height=3),
    "image twice": image("file_name", "1.jpg"),
    "name twice": lambda content: content["categories"].append({"id": 9, "name": "pear"}),
    "no annotation": no_annotation,
    "orphans": orphans,
}
RULES = {
    "no_mask": "drop", "run_length": "drop", "polygon": "rectangle", "pairs": "convert", "number": "convert",
    "class": "drop", "duplicate_id": "renumber", "outside": "clip", "negative": "flip", "all_crowd": "clear",
    "folder": "accept", "same_image": "join", "zero_area": "drop", "incomplete": "refuse", "spelling": "refuse",
}  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=2, unique=True),
    st.sets(st.sampled_from(sorted(RULES)), max_size=4),
    st.booleans(),
    st.sampled_from(["train", "val"]),
)
def test_the_checker_refuses_what_finetune_refuses(
    tmp_path: Path, changes: list[str], kinds: set[str], masks: bool, split: str
) -> None:
    """The same data under the same rules, in training or test: both begin, or both refuse."""
    faulty, rules = good(), {kind: RULES[kind] for kind in kinds}
    for name in changes:
        CHANGES[name](faulty)
    root = make(tmp_path, faulty if split == "train" else good(), faulty if split == "val" else good())
    refusal, refused = finetune_says(root, masks, **rules), checker_refuses(root, split, masks, **rules)
    assert refused or refusal is None, refusal
    if ONE_USE.isdisjoint(changes):
        assert refusal or not refused


@pytest.mark.parametrize(("name", "said"), [
    ("no annotation", "no object to train on"),
    ("orphans", "no object to train on (4 annotations belong to no image of the file)"),
    ("boxes of nothing", "no object to train on (4 boxes without area inside their image)"),
    ("all crowds", "all 4 objects are crowds (iscrowd 1)"),
    ("narrow", "2.jpg: 40000 x 3 pixels, resized to at most"),
    ("another size", "2.jpg is 40 x 30, not 50 x 30"),
])  # fmt: skip
def test_what_would_stop_a_run_is_refused_before_it(tmp_path: Path, name: str, said: str) -> None:
    train, test = good(), good()
    CHANGES[name](train)
    assert said in str(finetune_says(make(tmp_path / "train", train), masks=False))
    CHANGES[name](test)
    assert said.replace("train on", "score") in str(finetune_says(make(tmp_path / "test", good(), test), masks=False))


def test_images_of_another_size_are_not_called_empty(tmp_path: Path) -> None:
    train = good()
    for entry in train["images"]:
        entry.update(width=41)
    said = str(finetune_says(make(tmp_path, train)))
    assert "2 of 2 images of another size" in said
    assert "no object" not in said


def test_a_rule_leaves_images_out_of_training_alone(tmp_path: Path) -> None:
    root = make(tmp_path, good())
    (root / "train2017/2.jpg").write_bytes(b"no image")
    assert "image_file=drop (drop would leave out 1 of 2 images)" in str(finetune_says(root))
    assert finetune_says(root, image_file="drop") is None
    config = configuration(True)
    dataset = catalog.load_dataset(["coco_2017_train"], root)
    left = DataCheck(config).training(catalog.load_dataset(["coco_2017_train"], root, None, {"image_file": "drop"}))
    assert (len(dataset.records), len(left.records)) == (2, 1)
    assert left.faults == {"image_file=drop": 1}
    assert DataCheck(config, max_broken=0.5).training(dataset).records == dataset.records  # another image replaces it
    (root / "val2017/1.jpg").write_bytes(b"no image")
    said = str(finetune_says(root, image_file="drop"))
    assert "val2017/1.jpg: not an image" in said
    assert "drop" not in said


def test_a_resumed_run_reads_no_headers(tmp_path: Path) -> None:
    root = make(tmp_path, good())
    (root / "train2017/2.jpg").write_bytes(b"no image")
    config = configuration(True)
    dataset = catalog.load_dataset(["coco_2017_train"], root)
    assert DataCheck(config, files=False).training(dataset).records == dataset.records


def test_pixels_are_decoded_by_the_checker(tmp_path: Path) -> None:
    root = make(tmp_path, good())
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(noise).save(root / "train2017/2.jpg")
    path = root / "train2017/2.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    assert finetune_says(root) is None
    assert checker_refuses(root, "train")
