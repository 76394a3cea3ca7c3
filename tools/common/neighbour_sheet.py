"""The sheet of tools/neighbours.py: a row for each query, its nearest neighbours with their cosines."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from pretrain.data.images.image_set import ImageSet
from pretrain.evaluation import knn

from . import contact_sheet

SIDE = 128  # pixels of a picture in the sheet
SAME, OTHER = (20, 120, 50), (185, 40, 40)


def draw(
    images: ImageSet, rows: Tensor, queries: Tensor, k: int, title: str, indices: Sequence[int] | None = None
) -> Image.Image:
    """Draw the sheet of `queries` (Q,), from the features (N, C) of all images, or of those with `indices`."""
    indices = indices or range(len(images))
    k = min(k, len(indices) - 1)
    similarity, nearby = knn.nearest_rows(rows[queries], rows, k, itself=queries)  # (Q, k) each
    drawn = []
    for query, cosines, found in zip(queries.tolist(), similarity.tolist(), nearby.tolist(), strict=True):
        own, name = class_of(images, indices[query]), images.name(indices[query])
        row = [contact_sheet.Tile(picture(images, indices[query]), own or Path(name).name, contact_sheet.INK)]
        for cosine, index in zip(cosines, (indices[row] for row in found), strict=True):
            name = class_of(images, index)
            color = contact_sheet.PALE if not name else SAME if name == own else OTHER
            row.append(contact_sheet.Tile(picture(images, index), f"{cosine:.3f} {name}".strip(), color))
        drawn.append(row)
    return contact_sheet.Sheet(SIDE, (1, k)).draw(title, ["query", "nearest first"], [""] * (k + 1), drawn)


def picture(images: ImageSet, index: int) -> Image.Image:
    return contact_sheet.fit(images.read(index), SIDE)


def class_of(images: ImageSet, index: int) -> str:
    """Return the first folder below the root that holds the image; "" for flat folders and for shards."""
    return images.names[index].partition("/")[0] if images.shards is None and "/" in images.names[index] else ""
