"""Reading, resizing, flipping and batching training images."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.transfer import small_models
from transfer.engines.torchvision.data.loader import TrainingBatches, batches, stream, usable
from transfer.engines.torchvision.data.mapper import (
    TrainingInput,
    View,
    draw_view,
    load_sample,
    make_ground_truth,
    shortest_edge,
)
from transfer.engines.torchvision.modeling.layers.masks import PolygonMasks
from transfer.errors import TransferError

INPUT = TrainingInput((48, 64), 1333, False, "horizontal", False, "polygon")
side = st.integers(1, 2000)


@settings(deadline=None)
@given(st.tuples(side, side), st.integers(1, 1200), st.integers(1, 1600))
def test_shortest_edge_is_met_or_the_longest_is(size: tuple[int, int], shortest: int, longest: int) -> None:
    new = shortest_edge(size, shortest, longest)
    assert min(new) == shortest or max(new) == longest
    assert max(new) <= longest or longest < shortest
    assert shortest_edge(size, 0, longest) == size


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((480, 640), (800, 1067)), ((640, 480), (1067, 800)), ((427, 640), (800, 1199)), ((200, 640), (417, 1333))],
)
def test_shortest_edge_as_published(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert shortest_edge(size, 800, 1333) == wanted


@settings(deadline=None)
@given(st.sampled_from(["horizontal", "vertical"]), st.integers(0, 100))
def test_flipping_twice_is_nothing(flip: str, seed: int) -> None:
    random = np.random.RandomState(seed)
    view = View((20, 30), (20, 30), flip)
    image, points = random.randint(0, 255, (20, 30, 3)).astype(np.uint8), random.uniform(0, 20, (5, 2))
    assert np.array_equal(view.pixels(view.pixels(image)), image)
    assert np.allclose(view.points(view.points(points)), points)


def test_image_box_and_outline_move_together() -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[10:20, 5:25] = 255
    for flip in ("none", "horizontal", "vertical"):
        view = View((40, 60), (80, 120), flip)
        left, top, right, bottom = view.boxes(np.array([[5.0, 10, 25, 20]]))[0].astype(int)
        moved = view.pixels(image).copy()
        assert (right - left, bottom - top) == (40, 20)
        assert moved[top + 2 : bottom - 2, left + 2 : right - 2].min() == 255
        moved[top - 2 : bottom + 2, left - 2 : right + 2] = 0
        assert moved.max() == 0


@pytest.mark.parametrize(
    ("flip", "wanted"), [("none", [0, 2, 5, 10]), ("horizontal", [15, 2, 20, 10]), ("vertical", [0, 0, 5, 8])]
)
def test_a_flipped_box_ends_where_it_began(flip: str, wanted: list[float]) -> None:
    """Edges, not pixels: one at the left border comes to the right one, to the last digit."""
    assert View((10, 20), (10, 20), flip).boxes(np.array([[0.0, 2, 5, 10]])).tolist() == [wanted]


def test_crowds_and_empty_objects_are_dropped(tmp_path: Path) -> None:
    record = small_models.dataset(tmp_path, count=1).records[0]
    outline = record["annotations"][0]["segmentation"]
    record["annotations"] += [
        {"bbox": [1.0, 1, 9, 9], "category_id": 2, "iscrowd": 1, "segmentation": outline},
        {"bbox": [1.0, 1, 1, 9], "category_id": 2, "segmentation": outline},
        {"bbox": [-9.0, 1, 0, 9], "category_id": 2, "segmentation": outline},  # outside
        {"bbox": [1.0, 1, 9, 9], "category_id": 2, "segmentation": []},
    ]
    truth = make_ground_truth(record, View((64, 80), (64, 80)), "polygon")
    assert truth.classes.tolist() == [0, 1, 2]
    assert isinstance(truth.masks, PolygonMasks)
    assert len(truth.masks.objects) == 3
    assert len(make_ground_truth(record, View((64, 80), (64, 80)), None).classes) == 4  # the last has a box


def test_views_follow_their_law() -> None:
    rng = np.random.default_rng(0)
    views = [draw_view((50, 100), INPUT, rng) for _ in range(400)]
    assert {view.resized for view in views} == {(48, 96), (64, 128)}
    assert 0.4 < np.mean([view.flip == "horizontal" for view in views]) < 0.6
    ranged = replace(INPUT, by_range=True, flip="none")
    sizes = {draw_view((50, 100), ranged, rng).resized[0] for _ in range(400)}
    assert sizes == set(range(48, 65))


def test_channels_stand_in_the_order_asked_for(tmp_path: Path) -> None:
    record = small_models.dataset(tmp_path, count=1).records[0]
    plain = load_sample(record, replace(INPUT, min_sizes=(0,), flip="none"), np.random.default_rng(0)).image
    turned = load_sample(record, replace(INPUT, min_sizes=(0,), flip="none", bgr=True), np.random.default_rng(0)).image
    assert torch.equal(plain, torch.from_numpy(np.array(Image.open(record["file_name"]))).permute(2, 0, 1))
    assert torch.equal(turned, plain.flip(0))


def fault(record: dict[str, Any], input_settings: TrainingInput = INPUT) -> str:
    with pytest.raises(TransferError) as error:
        load_sample(record, input_settings, np.random.default_rng(0))
    assert record["file_name"] in str(error.value)
    return str(error.value)


def test_bad_records_name_their_image(tmp_path: Path) -> None:
    record = small_models.dataset(tmp_path, count=1).records[0]
    assert "64 x 80" in fault({**record, "height": 65})
    runs = {**record["annotations"][0], "segmentation": {"size": [64, 80], "counts": "PPT1"}}
    assert "bitmask" in fault({**record, "annotations": [runs]})
    bare = {key: value for key, value in record["annotations"][0].items() if key != "segmentation"}
    assert "MASK_ON" in fault({**record, "annotations": [bare]})


def test_the_stream_is_one_order_after_another() -> None:
    drawn = list(itertools.islice(stream(5, seed=3), 15))
    assert [position for position, _ in drawn] == list(range(15))
    rounds = [[index for _, index in drawn[i : i + 5]] for i in (0, 5, 10)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in rounds)
    assert rounds[0] != rounds[1]
    assert drawn == list(itertools.islice(stream(5, seed=3), 15))
    assert drawn != list(itertools.islice(stream(5, seed=4), 15))


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 4))
def test_batches_are_of_one_shape_and_lose_nothing(wide: list[bool], size: int) -> None:
    draws = list(itertools.islice(stream(len(wide), seed=0), 200))
    made = list(batches(iter(draws), wide, size))
    for batch in made:
        assert len(batch) == size
        assert len({wide[index] for _, index in batch}) == 1
    flat = [draw for batch in made for draw in batch]
    assert len(set(flat)) == len(flat) > 200 - 2 * size
    assert list(itertools.chain(*batches(iter(draws), None, size))) == draws[: 200 - 200 % size]


def loaded(records: list[dict[str, Any]], count: int, **options: Any) -> list[tuple[list[float], ...]]:
    loader = TrainingBatches(records, INPUT, **{"batch_size": 2, "seed": 3, **options})
    return [
        tuple([sample.image.float().sum().item(), *sample.ground_truth.boxes.flatten().tolist()] for sample in batch)
        for batch in itertools.islice(loader, count)
    ]


def test_batches_depend_on_neither_workers_nor_resuming(tmp_path: Path) -> None:
    records = small_models.dataset(tmp_path).records
    state = torch.get_rng_state()
    wanted = loaded(records, 8)
    assert loaded(records, 8, workers=2) == wanted
    assert loaded(records, 3, skip=5) == wanted[5:]
    assert loaded(records, 8, seed=4) != wanted
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_is_seen_in_a_new_view_each_time(tmp_path: Path) -> None:
    seen = loaded(small_models.dataset(tmp_path, count=1).records, 20, batch_size=1)
    assert len({tuple(sample) for (sample,) in seen}) == 4  # two sizes, flipped or not


def test_ranks_share_the_stream_of_one_process(tmp_path: Path) -> None:
    records = small_models.dataset(tmp_path).records
    together = loaded(records, 3, batch_size=4, group=False)
    ranks = [loaded(records, 3, group=False, rank=rank, world_size=2) for rank in range(2)]
    for whole, first, second in zip(together, *ranks, strict=True):
        assert whole == (first[0], second[0], first[1], second[1])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(workers: int, tmp_path: Path) -> None:
    records = small_models.dataset(tmp_path, count=1).records
    Path(records[0]["file_name"]).write_bytes(b"not a picture")
    with pytest.raises(TransferError) as error:
        loaded(records, 1, batch_size=1, workers=workers)
    assert str(error.value).startswith(records[0]["file_name"])


def test_images_without_objects_can_be_left_out() -> None:
    crowd, empty, full = ({"annotations": a} for a in ([{"iscrowd": 1}], [], [{"iscrowd": 1}, {"iscrowd": 0}]))
    assert usable([crowd, empty, full], filter_empty=True) == [full]
    assert usable([crowd, empty, full], filter_empty=False) == [crowd, empty, full]
    with pytest.raises(TransferError, match=r"none of the 2 images"):
        usable([crowd, empty], filter_empty=True)
