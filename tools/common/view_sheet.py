"""The sheet of tools/show_views.py: a row for each image, its query and key view in each epoch."""

import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from pretrain.config import schema
from pretrain.data import two_views
from pretrain.data.augment import gpu
from pretrain.data.augment import recipe as augment
from pretrain.data.images.image_set import open_images

from . import contact_sheet

SMALLEST = 96  # pixels: smaller views are shown with each pixel as a square


def draw(settings: schema.Config, number: int, epochs: range) -> Image.Image:
    """Draw the sheet of `number` images in `epochs`."""
    images = open_images(settings.data.root)
    recipe = augment.recipe(settings.data.augmentation, settings.data.image_size, settings.data.crop_scale)
    dataset = two_views.TwoViews(images, recipe, settings.seed, settings.data.pipeline)
    factor = enlargement(settings.data.image_size)
    measures = layout(settings.data.image_size, len(epochs))
    rows = []
    for index in chosen(len(images), number):
        batch = dataset[[(epoch, index) for epoch in epochs]]
        queries = gpu.augment_batch(batch.query, batch.draws[:, 0])  # (epochs, 3, S, S)
        keys = gpu.augment_batch(batch.key, batch.draws[:, 1])
        shown = int(batch.used[0])
        name = images.names[shown] + ("" if shown == index else f" for the broken {images.names[index]}")
        row = [contact_sheet.Tile(contact_sheet.fit(images.read(shown), measures.side), f"{index}: {name}")]
        row += [contact_sheet.Tile(enlarge(view, factor)) for pair in zip(queries, keys, strict=True) for view in pair]
        rows.append(row)
    title = (
        f"{settings.data.root}: augmentation {settings.data.augmentation}, pipeline {settings.data.pipeline}, "
        f"{settings.data.image_size} pixels"
        f"{f', shown {factor} x' if factor > 1 else ''}, crops of {settings.data.crop_scale[0]:g} to "
        f"{settings.data.crop_scale[1]:g}, seed {settings.seed}"
    )
    return measures.draw(
        title, ["image", *(f"epoch {epoch}" for epoch in epochs)], ["", *("query", "key") * len(epochs)], rows
    )


def chosen(size: int, number: int) -> list[int]:
    """Return the indices of `number` of `size` images, spread evenly from first to last; all where they are fewer."""
    number = min(size, number)
    return [i * (size - 1) // max(1, number - 1) for i in range(number)]


def enlargement(size: int) -> int:
    """Return the factor by which a view of `size` pixels is enlarged."""
    return -(-SMALLEST // size)


def enlarge(pixels: torch.Tensor, factor: int) -> Image.Image:
    """Convert a view (3, S, S) uint8 to a picture with `factor` x `factor` pixels for each of its pixels."""
    return to_pil_image(pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2))


def layout(size: int, epochs: int) -> contact_sheet.Sheet:
    """Return the measures of a sheet of views of `size` pixels."""
    return contact_sheet.Sheet(size * enlargement(size), (1, *[2] * epochs))
