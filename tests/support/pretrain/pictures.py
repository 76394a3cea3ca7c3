"""Pictures that tests of views and of decoding share: made up, and real ones where they are."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.conftest import SHARED_DATA

# Of the folder bad_images in the shared data: those that no reader can read.
BROKEN = (
    "decompression_bomb.gif",
    "text_not_image.jpg",
    "truncated_image.png",
    "truncated_jpeg.jpg",
    "zero_byte.jpg",
    "zero_width.gif",
)


def noise(width: int = 180, height: int = 140, seed: int = 0) -> Image.Image:
    """Coarse noise in all colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (-(-height // 2), -(-width // 2), 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def fine_noise(folder: Path, count: int) -> Path:
    """Fill a folder with small images of noise, 48 x 48."""
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def scene(width: int = 500, height: int = 375, seed: int = 0) -> Image.Image:
    """Like a photograph: soft ground, sharp shapes of all colours, fine noise."""
    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    image = ground.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(30):
        x, y = rng.integers(0, width), rng.integers(0, height)
        corners = [x, y, x + rng.integers(1, width // 3 + 2), y + rng.integers(1, height // 3 + 2)]
        shape = draw.ellipse if rng.integers(2) else draw.rectangle
        shape([int(corner) for corner in corners], fill=tuple(int(value) for value in rng.integers(0, 256, 3)))
    image = image.filter(ImageFilter.GaussianBlur(0.7))
    grain = rng.normal(0, 4, (height, width, 1))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def checkerboard(width: int, height: int) -> Image.Image:
    """Black and white pixels in turn: the highest frequency there is."""
    rows, columns = np.indices((height, width))
    return Image.fromarray(np.repeat((255 * ((rows + columns) % 2)).astype(np.uint8)[..., None], 3, axis=2))


def photographs(number: int) -> list[Image.Image]:
    """Real ones, spread over two sets; where the shared data is not there, none."""
    voc = sorted((SHARED_DATA / "voc2012_real40" / "VOCdevkit" / "VOC2012" / "JPEGImages").glob("*.jpg"))
    caltech = sorted((SHARED_DATA / "pretrain_caltech101" / "train").glob("*/*.jpg"))
    half = -(-number // 2)
    chosen = [*voc[:: max(1, len(voc) // half)][:half], *caltech[:: max(1, len(caltech) // half)][: number - half]]
    images = []
    for path in chosen:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    return images
