"""The crops of semantic segmentation: scale, pad, crop, flip of image and labels together; the padding of a test."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.transfer import semantic_models, small_models
from tests.support.transfer.semantic_models import DILATED, FCN
from transfer.engines import torchvision as engine
from transfer.engines.common.semantic_input import (
    SCALES,
    SemanticInput,
    check_semantic_test,
    check_semantic_training,
    draw_crop,
    load_example,
    padded_image,
    padded_side,
)
from transfer.engines.common.semantic_output import read_test_image, segment_images, semantic_loss
from transfer.errors import TransferError

SETTINGS = SemanticInput(
    crop=(49, 65), stride=16, flip="horizontal", bgr=False, mean=(123.675, 116.28, 103.53), classes=5, ignored=255
)


def save(folder: Path, image: np.ndarray, labels: np.ndarray) -> dict[str, object]:
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(labels).save(folder / "a_labels.png")
    height, width = image.shape[:2]
    return {
        "file_name": str(folder / "a.png"),
        "sem_seg_file_name": str(folder / "a_labels.png"),
        "height": height,
        "width": width,
    }


def test_each_pixel_keeps_its_label_through_scale_crop_and_flip(tmp_path: Path) -> None:
    """Blocks of one colour each, whose red value is 50 times their class: the crop must say so at every pixel."""
    labels = np.kron(np.random.default_rng(0).integers(0, 5, (6, 8)), np.ones((16, 16))).astype(np.uint8)
    image = np.stack([50 * labels, 255 - 50 * labels, labels], axis=-1).astype(np.uint8)
    record = save(tmp_path, image, labels)
    for seed in range(20):
        example = load_example(record, SETTINGS, np.random.default_rng(seed))
        assert example.image.shape == (3, 49, 65)
        assert example.labels.shape == (49, 65)
        inside = example.labels != 255
        apart = (example.image[0] - 50 * example.labels)[inside].abs()
        assert (apart < 25).float().mean() > 0.7  # all but the blurred edges of the blocks
        assert (apart == 0).float().mean() > 0.5


def test_resizing_makes_no_labels_between_two(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 4, 255], dtype=np.uint8), (60, 70))
    record = save(tmp_path, np.zeros((60, 70, 3), dtype=np.uint8), labels)
    for seed in range(10):
        assert set(load_example(record, SETTINGS, np.random.default_rng(seed)).labels.unique().tolist()) <= {0, 4, 255}


def test_a_small_image_is_padded_right_and_below_in_the_mean(tmp_path: Path) -> None:
    record = save(tmp_path, np.full((10, 12, 3), 200, dtype=np.uint8), np.full((10, 12), 3, dtype=np.uint8))
    settings = dataclasses.replace(SETTINGS, flip="none")
    sizes = set()
    for seed in range(60):
        example = load_example(record, settings, np.random.default_rng(seed))
        inside = example.labels != 255
        height, width = int(inside.any(dim=1).sum()), int(inside.any(dim=0).sum())
        assert inside[:height, :width].all()
        assert (example.labels[inside] == 3).all()
        assert (example.image[:, inside] == 200).all()
        mean = torch.tensor(settings.mean)
        assert torch.equal(example.image[:, ~inside], mean[:, None].expand(3, int((~inside).sum())))
        sizes.add((height, width))
    assert sizes == {(int(10 * scale), int(12 * scale)) for scale in SCALES}


def test_a_flip_puts_the_padding_on_the_left(tmp_path: Path) -> None:
    record = save(tmp_path, np.full((10, 12, 3), 200, dtype=np.uint8), np.full((10, 12), 3, dtype=np.uint8))
    corners = [load_example(record, SETTINGS, np.random.default_rng(seed)).labels[0] for seed in range(20)]
    assert {(row[0].item(), row[-1].item()) for row in corners} == {(3, 255), (255, 3)}


def test_scales_windows_and_flips_are_drawn_evenly() -> None:
    rng, size = np.random.default_rng(0), (100, 200)
    crops = [draw_crop(size, SETTINGS, rng) for _ in range(7000)]
    for scale in SCALES:
        of_scale = [crop for crop in crops if crop.scaled == (int(100 * scale), int(200 * scale))]
        assert len(of_scale) == pytest.approx(1000, abs=120)
        tops = {crop.corner[0] for crop in of_scale}
        assert tops == set(range(int(100 * scale) - 49 + 1)) or (len(tops) > 50 and max(tops) <= int(100 * scale) - 49)
        assert max(crop.corner[1] for crop in of_scale) <= int(200 * scale) - 65
    assert sum(crop.flip_axis == 1 for crop in crops) == pytest.approx(3500, abs=200)


def test_the_same_seed_and_position_give_the_same_crop(tmp_path: Path) -> None:
    (record, *_) = semantic_models.records(tmp_path, 1)
    one, two = (load_example(record, SETTINGS, np.random.default_rng((3, 7))) for _ in range(2))
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.labels, two.labels)


def test_channels_and_padding_follow_the_format(tmp_path: Path) -> None:
    image = np.zeros((10, 12, 3), dtype=np.uint8)
    image[..., 0] = 250  # red
    settings = dataclasses.replace(SETTINGS, bgr=True, mean=(1.0, 2.0, 3.0), flip="none")
    record = save(tmp_path, image, np.zeros((10, 12), dtype=np.uint8))
    example = load_example(record, settings, np.random.default_rng(0))
    assert example.image[:, 0, 0].tolist() == [0, 0, 250]
    assert example.image[:, -1, -1].tolist() == [1, 2, 3]
    assert padded_image(image, settings)[:, 0, 0].tolist() == [0, 0, 250]


@pytest.mark.parametrize(
    ("side", "least", "wanted"),
    [(500, 513, 513), (513, 513, 513), (514, 513, 529), (1024, 769, 1025), (2048, 769, 2049), (1, 1, 1), (2, 1, 17)],
)
def test_a_test_image_is_padded_to_the_grid(side: int, least: int, wanted: int) -> None:
    assert padded_side(side, 16, least) == wanted


def test_a_label_map_is_of_the_image_and_not_of_its_padding(tmp_path: Path) -> None:
    record = save(tmp_path, np.full((20, 30, 3), 9, dtype=np.uint8), np.zeros((20, 30), dtype=np.uint8))
    seen = []

    def network(image: torch.Tensor) -> torch.Tensor:
        """The best class of a pixel is its column, modulo 5; outside the image it is another."""
        seen.append(tuple(image.shape))
        classes = torch.arange(image.shape[2]) % 5
        return torch.nn.functional.one_hot(classes, 5).T[:, None].expand(5, *image.shape[1:]).float()

    (found,) = segment_images([read_test_image(record)], SETTINGS, network, keep_logits=True)
    assert seen == [(3, 49, 65)]
    assert found.classes.dtype == torch.uint8
    assert torch.equal(found.classes, (torch.arange(30) % 5).to(torch.uint8).expand(20, 30))
    assert found.logits is not None
    assert found.logits.shape == (5, 20, 30)
    (bare,) = segment_images([read_test_image(record)], SETTINGS, network, keep_logits=False)
    assert bare.logits is None


def test_a_loss_without_a_labelled_pixel_is_zero() -> None:
    logits, labels = torch.randn(1, 3, 3, 3, requires_grad=True), torch.full((1, 33, 33), 255)
    loss = semantic_loss(logits, labels, 255)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_loss_is_a_mean_over_labelled_pixels() -> None:
    logits, labels = torch.randn(2, 3, 3, 3), torch.randint(0, 3, (2, 33, 33))
    labels[0, :20] = 255
    pixels = torch.nn.functional.interpolate(logits, (33, 33), mode="bilinear", align_corners=True)
    wanted = torch.nn.functional.cross_entropy(pixels, labels, ignore_index=255)
    torch.testing.assert_close(semantic_loss(logits, labels, 255), wanted)
    assert semantic_loss(logits.bfloat16(), labels, 255).dtype == torch.float32


def test_bad_label_maps_are_refused_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    record = save(tmp_path, image, np.full((20, 30), 7, dtype=np.uint8))
    with pytest.raises(TransferError, match=r"a_labels\.png: the label 7; 5 classes have the labels 0 to 4"):
        load_example(record, SETTINGS, rng)
    record = save(tmp_path, image, np.zeros((30, 20), dtype=np.uint8))
    with pytest.raises(TransferError, match=r"a_labels\.png: a label map of 20 x 30 pixels .* for an image of 30 x 20"):
        load_example(record, SETTINGS, rng)


def test_settings_that_would_make_other_crops_are_refused() -> None:
    def cfg(**settings: object) -> object:
        return engine.load_config(None, semantic_models.overrides(FCN, DILATED, settings))

    check_semantic_training(cfg())
    bad = {
        "INPUT.CROP.SIZE": "[512, 512]",
        "INPUT.MIN_SIZE_TRAIN": "(480,)",
        "INPUT.MIN_SIZE_TEST": 800,
        "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 3,
    }
    with pytest.raises(TransferError) as raised:
        check_semantic_training(cfg(**bad))
    for key in bad:
        assert key in str(raised.value)
    assert "[513, 513]" in str(raised.value)
    with pytest.raises(TransferError, match="total stride of 16"):
        check_semantic_test(cfg(**{"MODEL.RESNETS.RES5_DILATION": 1}))
    with pytest.raises(TransferError, match="TYPE absolute"):
        check_semantic_training(cfg(**{"INPUT.CROP.TYPE": "relative"}))
    with pytest.raises(TransferError, match="FCN16Head"):
        small_models.config(FCN, {"MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead"})
