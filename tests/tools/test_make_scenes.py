"""The scene maker: same options, same files; masks and boxes say exactly what is seen; both layouts can be read."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from synthetic import painter
from tests.conftest import Tool, refused

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SMALL = ("--unlabelled", 3, "--train", 10, "--test", 4)


@pytest.fixture(scope="module")
def made(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("made") / "scenes"
    done = tool("make_scenes", "--output", output, *SMALL)
    assert done.returncode == 0, done.stderr
    return output


def _contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_seed_decides_every_file(made: Path, tool: Tool, tmp_path: Path) -> None:
    assert tool("make_scenes", "--output", tmp_path / "again", *SMALL).returncode == 0
    assert tool("make_scenes", "--output", tmp_path / "other", *SMALL, "--seed", 1).returncode == 0
    first, again, other = (_contents(root) for root in (made, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith(".jpg"))


def test_no_image_stands_in_two_sets(made: Path) -> None:
    images = [content for name, content in _contents(made).items() if name.endswith(".jpg")]
    assert len(images) == 3 + 2 * (10 + 4)
    assert len(set(images)) == len(images)


def test_an_existing_folder_is_refused_and_kept(made: Path, tool: Tool) -> None:
    before = _contents(made)
    refused(tool("make_scenes", "--output", made), made)
    assert _contents(made) == before
    assert [path.name for path in made.parent.iterdir()] == ["scenes"]


@pytest.mark.parametrize("option", [("--train", "1"), ("--test", "many"), ("--seed", "-1")])
def test_a_wrong_number_is_refused(tool: Tool, tmp_path: Path, option: tuple[str, str]) -> None:
    refused(tool("make_scenes", "--output", tmp_path / "x", *option), *option)
    assert not (tmp_path / "x").exists()


def _coco(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


@pytest.mark.parametrize(("split", "count"), [("train2017", 10), ("val2017", 4)])
def test_coco_polygons_cover_exactly_the_visible_pixels(made: Path, split: str, count: int) -> None:
    content = _coco(made, split)
    assert len(content["images"]) == count
    sizes = {row["id"]: (row["height"], row["width"]) for row in content["images"]}
    for row in content["images"]:
        with Image.open(made / split / row["file_name"]) as image:
            assert image.size == (row["width"], row["height"])
    taken = {image_id: np.zeros(size, dtype=int) for image_id, size in sizes.items()}
    for row in content["annotations"]:
        size = sizes[row["image_id"]]
        rle = coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], *size))
        assert coco_mask.area(rle) == row["area"]
        assert coco_mask.toBbox(rle).tolist() == row["bbox"]
        taken[row["image_id"]] += coco_mask.decode(rle)
    assert all(count.max() == 1 for count in taken.values())  # a pixel shows one object


def test_voc_layout_names_every_image_and_box(made: Path) -> None:
    root = made / "VOC2007"
    ids = {path.stem: path.read_text().split() for path in (root / "ImageSets/Main").iterdir()}
    assert {split: len(members) for split, members in ids.items()} == {"train": 8, "val": 2, "trainval": 10, "test": 4}
    assert ids["trainval"] == ids["train"] + ids["val"]
    assert not set(ids["trainval"]) & set(ids["test"])
    for image_id in ids["trainval"] + ids["test"]:
        tree = ElementTree.parse(root / "Annotations" / f"{image_id}.xml")
        with Image.open(root / "JPEGImages" / f"{image_id}.jpg") as image:
            width, height = image.size
        for item in tree.findall("object"):
            assert item.findtext("name") in painter.PATTERNS
            assert item.findtext("difficult") in ("0", "1")
            x0, y0, x1, y1 = (int(item.findtext(f"bndbox/{name}", "")) for name in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= x0 <= x1 <= width
            assert 1 <= y0 <= y1 <= height


def test_discs_hide_each_other_but_never_too_much() -> None:
    kinds = range(len(painter.PATTERNS))
    scenes = [painter.paint(np.random.default_rng((1, i)), i % len(kinds)) for i in range(64)]
    items = [item for scene in scenes for item in scene.objects]
    assert {item.class_index for item in items} == set(kinds)
    assert all(painter.LEAST_VISIBLE <= item.visible < 1.1 for item in items)
    assert any(item.difficult for item in items)
    assert not all(item.difficult for item in items)
    assert any(item.truncated for item in items)
    for scene in scenes:
        assert sum(item.mask.astype(int) for item in scene.objects).max() == 1


def test_a_scene_shows_one_kind_and_a_set_shows_all(made: Path) -> None:
    rows = _coco(made, "train2017")["annotations"]
    kinds: dict[int, set[int]] = {}
    for row in rows:
        kinds.setdefault(row["image_id"], set()).add(row["category_id"])
    assert all(len(ids) == 1 for ids in kinds.values())
    assert set.union(*kinds.values()) == set(range(1, len(painter.PATTERNS) + 1))


def test_nothing_but_the_pattern_tells_the_kinds_apart() -> None:
    """Number and size of the discs have the same distribution for every kind."""
    measures = np.array(
        [
            [
                (len(scene.objects), np.mean([item.area for item in scene.objects]))
                for scene in (painter.paint(np.random.default_rng((2, i)), kind) for i in range(60))
            ]
            for kind in range(len(painter.PATTERNS))
        ]
    )  # (kind, scene, measure)
    means, errors = measures.mean(1), measures.std(1) / np.sqrt(60)
    assert (np.abs(means - means.mean(0)) < 4 * errors).all()


def test_a_disc_and_its_mask_lie_in_the_same_place() -> None:
    scene = painter.paint(np.random.default_rng((1, 3)), 0)
    colours = scene.image.astype(float)
    for item in scene.objects:  # across its edge the image changes more than elsewhere
        change = np.abs(np.diff(colours, axis=1)).sum(2)
        edge = item.mask[:, 1:] != item.mask[:, :-1]
        assert change[edge].mean() > 2 * np.median(change)
