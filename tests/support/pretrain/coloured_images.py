"""Labelled images that a few layers can separate: a colour for each class, and noise."""

import pathlib

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (210, 40, 40), "white": (235, 235, 235)}


def paint(root: pathlib.Path, each: int, classes: tuple[str, ...] = ("blue", "green", "red"), seed: int = 0) -> None:
    """`each` images of 48 x 40 pixels in root/CLASS."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(each):
            pixels = np.array(COLOURS[name]) + rng.normal(0, 60, (40, 48, 3)) + rng.normal(0, 30, 3)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{index:02d}.png")
