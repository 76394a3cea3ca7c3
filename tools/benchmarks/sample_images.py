"""The images to time the input on where none are at hand: JPEGs made from a seed."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375  # pixels: the size in which many photographs of ImageNet lie
QUALITY = 90


@contextlib.contextmanager
def images_or_made(folder: Path | None, number: int) -> Iterator[tuple[Path, str]]:
    """Yield the folder and what to call it; where there is none, one with `number` JPEGs that is gone afterwards."""
    if folder is not None:
        yield folder, str(folder)
        return
    with tempfile.TemporaryDirectory() as made:
        rng = np.random.default_rng(0)
        for index in range(number):
            paint(rng).save(Path(made, f"{index:05d}.jpg"), quality=QUALITY)
        bytes_each = sum(path.stat().st_size for path in Path(made).iterdir()) / number
        yield (
            Path(made),
            f"{number} JPEGs of {WIDTH} x {HEIGHT} pixels made from a seed, {bytes_each / 1000:.0f} kB each",
        )


def paint(rng: np.random.Generator) -> Image.Image:
    """Paint blotches of many sizes, as large in amplitude as in extent: as hard to decode as a photograph."""
    picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)
    for cells in (3, 6, 12, 24, 48, 96, 192):
        noise = rng.standard_normal((cells * 3 // 4, cells, 3)).astype(np.float32)
        for channel in range(3):
            large = Image.fromarray(noise[..., channel]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            picture[..., channel] += np.asarray(large) * 120 / cells**0.5
    return Image.fromarray((128 + picture).clip(0, 255).astype(np.uint8))
