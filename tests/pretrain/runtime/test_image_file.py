"""The values of images with more than 8 bits a channel are measured before their conversion, and put into words."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pretrain.runtime.image_file import WideRange, describe_wide, opened, to_rgb, wide_range


def saved(values: np.ndarray, form: str = "TIFF") -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return buffer


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_measured_exactly_in_gray(form: str) -> None:
    values = np.array([[17, 4080], [300, 0]], dtype=np.uint16)
    with opened(saved(values, form)) as image:
        assert wide_range(image) == WideRange(0, 4080, floating=False)
        assert np.asarray(to_rgb(image)).max() == 15


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_in_colour_are_bounded_by_the_high_byte(suffix: str, channels: int, tmp_path: Path) -> None:
    values = np.full((4, 4, channels), 4095, dtype=np.uint16)
    values[0, 0] = 256
    values[..., 3:] = 65535  # an alpha channel is no brightness
    path = tmp_path / f"colour.{suffix}"
    assert cv2.imwrite(str(path), values)
    with opened(path) as image:
        assert wide_range(image) == WideRange(256, 4095, floating=False)
    with opened(path) as image:
        assert np.asarray(to_rgb(image)).max() == 15


def test_integers_and_floats_of_32_bits_are_measured() -> None:
    with opened(saved(np.array([[-5, 70000]], dtype=np.int32))) as image:
        assert wide_range(image) == WideRange(-5, 70000, floating=False)
    with opened(saved(np.array([[0.25, np.nan, 2, np.inf]], dtype=np.float32))) as image:
        assert wide_range(image) == WideRange(0.25, 2, floating=True)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_eight_bits_are_not_wide(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (9, 8, 7)).convert(mode).save(buffer, "TIFF")
    with opened(buffer) as image:
        assert image.mode == mode
        assert wide_range(image) is None


def test_each_kind_of_range_is_described_with_its_remedy() -> None:
    dark = [(f"{k}.png", WideRange(k, 4090 + k, floating=False)) for k in range(5)]
    others = [
        ("full.png", WideRange(0, 65535, floating=False)),
        ("wide.tif", WideRange(-5, 70000, floating=False)),
        ("float.tif", WideRange(0.5, 2.0, floating=True)),
    ]
    sentences = describe_wide(dark + others)
    assert sentences[0] == (
        "5 images have more than 8 bits a channel and values of 0 to 4094 only: of 0..65535 the high byte is used, so "
        "the pictures become nearly black (at most 15 of 255); rescale them to 0..65535 or to 8 bits: "
        "0.png, 1.png, 2.png and 2 more"
    )
    assert "1 image has more than 8 bits a channel and values of 0 to 65535" in sentences[1]
    assert "integers from -5 to 70000" in sentences[2]
    assert "stretched from its own smallest value" in sentences[3]
    assert len(sentences) == 4
    assert describe_wide([]) == []
