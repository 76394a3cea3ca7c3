"""tools/show_views.py: the pixels of the sheet are those that the loader of the run feeds."""

import os
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

import show_views
from common import view_sheet
from pretrain.config import config_io
from pretrain.data import two_views
from pretrain.data.augment import gpu, recipe
from pretrain.data.images.image_set import open_images
from pretrain.data.loader import EpochLoader
from pretrain.data.sampler import EpochSampler
from tests.conftest import Tool
from tests.support.in_process import refusal
from tests.support.pretrain.coloured_images import paint

SETTINGS = ("data.image_size", "32", "seed", "5", "data.augmentation", "v2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("views")
    paint(root, 3)
    (root / "red" / "02.png").write_text("no image any more")  # the last of the nine
    return root


@pytest.mark.parametrize("pipeline", ["published", "fast", "device"])
def test_the_sheet_holds_what_the_encoders_get(pipeline: str, root: pathlib.Path) -> None:
    settings = config_io.load(None, ["data.root", str(root), "data.pipeline", pipeline, *SETTINGS])
    drawn = torch.from_numpy(np.array(view_sheet.draw(settings, 3, range(4, 6))))

    images = open_images(str(root))
    sampler = EpochSampler(len(images), 9, seed=5)
    loader = EpochLoader(two_views.TwoViews(images, recipe.recipe("v2", 32), 5, pipeline), sampler, workers=0)
    measures = view_sheet.layout(32, 2)
    seen = 0
    for at, epoch in enumerate((4, 5)):
        query, key, asked, shown, draws = next(loader.batches(epoch))
        query = gpu.augment_batch(query, draws[:, 0])
        key = gpu.augment_batch(key, draws[:, 1])
        assert (asked != shown).sum() == 1
        for row, index in enumerate([0, 4, 8]):
            position = asked.tolist().index(index)
            for side, views in enumerate((query, key)):
                x, y = measures.corner(row, 1 + 2 * at + side)
                cell = drawn[y : y + 96, x : x + 96].permute(2, 0, 1)
                wanted = views[position].repeat_interleave(3, 1).repeat_interleave(3, 2)
                assert torch.equal(cell, wanted)
                seen += 1
    assert seen == 12
    assert (drawn[:, :10] == 255).all()  # the margin


def test_a_sheet_is_replaced_only_when_asked(tool: Tool, root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "views.png"
    output.write_text("mine")
    arguments = ("--number", 1, "--views", 1, "--output", output, "data.root", root, *SETTINGS)
    said = refusal(show_views.main, *arguments)
    assert f"--output: {output}: exists already" in said
    assert "--overwrite" in said
    assert output.read_text() == "mine"
    assert tool("show_views", *arguments, "--overwrite").returncode == 0
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"


def test_faults_are_named(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def said(*arguments: object, name: str = "views.png") -> str:
        return refusal(show_views.main, "--output", tmp_path / name, *arguments)

    assert f"data.root: {tmp_path}/nowhere: no such" in said("data.root", tmp_path / "nowhere")
    assert "--number: 0 must be at least 1; --views: 0" in said("--number", 0, "--views", 0, "data.root", root)
    assert "must be a .png file" in said("data.root", root, name="views.jpg")


def test_images_are_spread_over_the_set() -> None:
    assert view_sheet.chosen(3017, 4) == [0, 1005, 2010, 3016]
    assert view_sheet.chosen(3, 8) == [0, 1, 2]
    assert view_sheet.chosen(10**12, 2) == [0, 10**12 - 1]
    assert view_sheet.chosen(5, 1) == [0]


def test_the_title_tells_the_pipeline(root: pathlib.Path) -> None:
    titles = set()
    for pipeline in two_views.PIPELINES:
        settings = config_io.load(None, ["data.root", str(root), "data.pipeline", pipeline, *SETTINGS])
        drawn = view_sheet.draw(settings, 1, range(6))  # wide enough for the whole title
        titles.add(drawn.crop((0, 0, drawn.width, 40)).tobytes())
    assert len(titles) == 3


def test_every_row_tells_which_image_it_is_of(root: pathlib.Path) -> None:
    settings = config_io.load(None, ["data.root", str(root), *SETTINGS])
    large = view_sheet.draw(settings, 9, range(2))
    assert large.width == view_sheet.layout(32, 2).corner(0, 4)[0] + 96 + 16


def test_odd_names_do_not_break_a_sheet(tool: Tool, tmp_path: pathlib.Path) -> None:
    for number, name in enumerate((b"a\nb.png", b"\xff.png", "日本 \u200b.png".encode())):
        path = tmp_path / "images" / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), (90 * number, 0, 0)).save(path)
    done = tool("show_views", "--output", tmp_path / "a.png", "data.root", tmp_path / "images", "data.image_size", 32)
    assert done.returncode == 0, done.stderr
