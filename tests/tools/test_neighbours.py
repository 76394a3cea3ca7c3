"""tools/neighbours.py: the pictures of a row are the nearest of all, the query itself left out."""

import pathlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import neighbours
from common import checkpoint_cli, contact_sheet, neighbour_sheet
from pretrain.data.images.image_set import ImageSet, open_images
from pretrain.evaluation import features
from tests.conftest import Tool
from tests.support import checkpoints
from tests.support.in_process import refusal
from tests.support.pretrain.coloured_images import paint


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    root = tmp_path_factory.mktemp("neighbours")
    paint(root, 4)
    return open_images(str(root))


def cell(drawn: Tensor, row: int, column: int, columns: int) -> Tensor:
    x, y = contact_sheet.Sheet(neighbour_sheet.SIDE, (1, columns - 1)).corner(row, column)
    return drawn[y : y + neighbour_sheet.SIDE, x : x + neighbour_sheet.SIDE]


def picture_in_cell(images: ImageSet, index: int) -> Tensor:
    """Return the part of a cell that the picture fills: (side, width, 3)."""
    return torch.from_numpy(np.array(neighbour_sheet.picture(images, index)))


def test_the_sheet_shows_the_nearest(tool: Tool, images: ImageSet, tmp_path: pathlib.Path) -> None:
    path = checkpoints.write(tmp_path / "moco.pth.tar")
    output = tmp_path / "sheet.png"
    given = (path, "--root", images.base, "--image-size", 32, "--workers", 0, "--device", "cpu")
    done = tool("neighbours", *given, "--queries", 12, "--k", 3, "--output", output)
    assert done.returncode == 0, done.stderr
    drawn = torch.from_numpy(np.array(Image.open(output)))

    _, network = checkpoint_cli.load_backbone(path, None, None, torch.device("cpu"))
    rows = torch.nn.functional.normalize(features.extract_features(network, images, torch.device("cpu"), 32), dim=1)
    cosines = (rows @ rows.T).fill_diagonal_(-1)
    found = set()
    for row in range(12):
        shown = []
        for column in range(4):
            pixels = cell(drawn, row, column, 4)
            pixels = pixels[(128 - 107) // 2 :][:107]  # 48 x 40 pixels, fitted to 128 x 107
            shown.append(next(i for i in range(12) if torch.equal(picture_in_cell(images, i), pixels)))
        query, *nearest = shown
        assert nearest == cosines[query].topk(3).indices.tolist()
        found.add(query)
    assert found == set(range(12))

    assert f"--output: {output}: exists already" in refusal(neighbours.main, *given, "--output", output)


def test_captions_have_class_and_colour_where_the_root_is_a_tree(images: ImageSet, tmp_path: pathlib.Path) -> None:
    assert neighbour_sheet.class_of(images, 0) == "blue"
    paint(tmp_path, 2, ("red",))
    assert neighbour_sheet.class_of(open_images(str(tmp_path / "red")), 0) == ""  # flat


def test_k_is_cut_to_the_images_there_are(images: ImageSet) -> None:
    rows = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    drawn = neighbour_sheet.draw(images, rows, torch.tensor([3]), 50, "title")
    assert (
        drawn.width
        == contact_sheet.Sheet(neighbour_sheet.SIDE, (1, 11)).corner(0, 11)[0]
        + neighbour_sheet.SIDE
        + contact_sheet.MARGIN
    )


def test_faults_are_named(images: ImageSet, tmp_path: pathlib.Path) -> None:
    path = checkpoints.write(tmp_path / "moco.pth.tar")

    def said(checkpoint_file: pathlib.Path, root: object, *more: object) -> str:
        given = (checkpoint_file, "--root", root, "--output", tmp_path / "sheet.png", "--device", "cpu", *more)
        return refusal(neighbours.main, *given)

    assert f"{tmp_path}/gone.pth: no such file" in said(tmp_path / "gone.pth", images.base)
    assert f"--root: {tmp_path}/gone: no such" in said(path, tmp_path / "gone")
    assert "--k: 0 must be at least 1; " in said(path, images.base, "--queries", 3, "--k", 0, "--workers", -1)
    (tmp_path / "one").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "one" / "only.png")
    assert "a single image has no neighbours" in said(path, tmp_path / "one")
    assert not (tmp_path / "sheet.png").exists()


def test_a_broken_image_is_left_out_by_name(tool: Tool, images: ImageSet, tmp_path: pathlib.Path) -> None:
    path, root, output = checkpoints.write(tmp_path / "moco.pth.tar"), tmp_path / "images", tmp_path / "sheet.png"
    shutil.copytree(images.base, root)
    broken = pathlib.Path(open_images(str(root)).path(0))
    broken.write_bytes(broken.read_bytes()[:60])
    small = ("--image-size", 32, "--workers", 0, "--device", "cpu", "--queries", 11, "--k", 3)
    done = tool("neighbours", path, "--root", root, *small, "--output", output)
    assert done.returncode == 0, done.stderr
    assert f"left out: {broken}: " in done.stderr
    assert output.exists()
