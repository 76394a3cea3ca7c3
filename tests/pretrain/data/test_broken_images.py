"""Broken images: joined over the ranks, named once, and too many stop the run."""

import logging
import pathlib
import shutil

import pytest
import torch

from pretrain.data.broken_images import BrokenImages
from pretrain.data.images.image_set import open_images
from pretrain.runtime import distributed, spawn
from pretrain.runtime.errors import PretrainError


@pytest.fixture
def folder(pictures: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Nine images, of which 2, 4 and 6 are broken."""
    copies = pathlib.Path(shutil.copytree(pictures, tmp_path / "copies"))
    (copies / "2.png").write_text("no image any more")
    (copies / "4.png").write_bytes(b"")
    (copies / "6.png").unlink()
    (copies / "6.png").symlink_to("nowhere.png")
    return copies


def batch(*pairs: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    requested, used = zip(*pairs, strict=True)
    return torch.tensor(requested), torch.tensor(used)


def test_each_is_counted_and_named_once(folder: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = BrokenImages(open_images(str(folder)), max_share=0.4)
    assert not broken.note(*batch((0, 0), (1, 1)))
    assert broken.note(*batch((4, 0), (3, 3), (2, 8)))
    assert broken.note(*batch((5, 5)))  # not shared yet
    assert broken.count == 0
    with caplog.at_level(logging.WARNING):
        broken.share()
    assert [record.getMessage() for record in caplog.records] == [
        f"warning: {folder}/2.png: not an image of a known format (JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP); "
        "another image is used in its place",
        f"warning: {folder}/4.png: empty; another image is used in its place",
    ]
    assert broken.count == 2
    caplog.clear()
    assert not broken.note(*batch((4, 0), (2, 8)))
    assert broken.note(*batch((4, 0), (6, 1)))
    broken.share()
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"warning: {folder}/6.png: No such file or directory"
    ]
    assert broken.count == 3


def test_an_image_that_could_not_be_read_for_a_time_says_so(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = BrokenImages(open_images(str(folder)), max_share=1)
    broken.note(*batch((1, 0)))
    broken.share()
    assert f"{folder}/1.png: could not be read for a time" in caplog.text


@pytest.mark.parametrize(("max_share", "stops"), [(0.0, True), (0.2, True), (2 / 9, False), (1.0, False)])
def test_more_than_the_share_stop_the_run(max_share: float, stops: bool, folder: pathlib.Path) -> None:
    broken = BrokenImages(open_images(str(folder)), max_share)
    broken.note(*batch((2, 0), (4, 0)))
    if not stops:
        broken.share()
        return
    with pytest.raises(PretrainError) as caught:
        broken.share()
    message = str(caught.value)
    assert message.startswith("data.max_broken: 2 of 9 images cannot be read, more than the share of ")
    assert f"{folder}/2.png, {folder}/4.png" in message
    assert "tools/check_images.py" in message


def test_a_checkpoint_keeps_them(
    folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = open_images(str(folder))
    before = BrokenImages(images, 0.3)
    before.note(*batch((4, 0), (2, 0)))
    before.share()
    torch.save(before.state_dict(), tmp_path / "state.pth")
    after = BrokenImages(images, 0.3)
    after.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert after.count == 2
    assert after.state_dict()["indices"].tolist() == [2, 4]
    caplog.clear()
    assert not after.note(*batch((2, 0)))
    assert after.note(*batch((6, 0)))
    with pytest.raises(PretrainError, match="3 of 9"):
        after.share()
    assert len(caplog.records) == 1


def met_by_ranks(root: str, max_share: float) -> list[tuple[list[bool], list[int], list[int], str]]:
    """Rank 0 meets image 2, rank 1 images 2 and 4, then only rank 0 image 6. Returns what each rank makes of it."""
    rank, fault = distributed.rank(), ""
    broken = BrokenImages(open_images(root), max_share)
    news = [broken.note(*batch((2, 0), (4, 0) if rank else (1, 1)))]
    broken.share()
    counts = [broken.count]
    news.append(broken.note(*batch((2, 0) if rank else (6, 3))))
    try:
        broken.share()
    except PretrainError as error:
        fault = str(error)
    counts.append(broken.count)
    return distributed.all_gather_object((news, counts, broken.state_dict()["indices"].tolist(), fault))


def met_with_two_limits(root: str) -> list[list[tuple[list[bool], list[int], list[int], str]]]:
    return [met_by_ranks(root, max_share) for max_share in (0.5, 0.3)]


def test_all_ranks_know_what_any_has_met_and_stop_together(folder: pathlib.Path) -> None:
    allowed, stopped = spawn.run_on_ranks(met_with_two_limits, 2, str(folder))
    assert allowed == [([True, True], [2, 3], [2, 4, 6], ""), ([True, False], [2, 3], [2, 4, 6], "")]
    assert [rank[1:3] for rank in stopped] == [([2, 2], [2, 4])] * 2  # as before the one too many
    for *_, fault in stopped:
        assert "3 of 9 images cannot be read" in fault
        assert f"{folder}/2.png, {folder}/4.png, {folder}/6.png" in fault
