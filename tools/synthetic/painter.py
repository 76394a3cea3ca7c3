"""Paint a small scene: textured shapes that hide each other on a cluttered background, and the visible mask of each.

The class of an object is its shape alone. Texture, colours, size and rotation are drawn anew for every object, so a
detector has to learn shapes, and an object's parts that another covers are in no mask.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray
Texture = Callable[[np.random.Generator, Array, Array], Array]

SIDES = (128, 144, 160)  # pixels; width and height are drawn apart
RADII = (16.0, 40.0)  # pixels, of the circle around a shape
MOST_OBJECTS = 4
LEAST_VISIBLE = 0.3  # of an object's area; a placement that would hide more is not made
DIFFICULT_BELOW = 0.6  # visible share under which an object is marked difficult, as VOC marks what is hard to see
MOST_TURNED = np.pi / 8  # things mostly stand upright
PLAIN = 0.6  # share of the shapes that have no texture but a soft shade
SMOOTH = 4  # shapes are drawn this many times larger and reduced: smooth edges


@dataclass(frozen=True)
class SceneObject:
    """An object: `mask` (H, W) bool of the pixels seen; `area` of the whole shape, pixels; `truncated` by the image."""

    class_index: int
    mask: Array
    area: float
    truncated: bool

    @property
    def visible(self) -> float:
        """The share of the shape that is seen, about 0 to 1."""
        return float(self.mask.sum()) / self.area

    @property
    def difficult(self) -> bool:
        return self.visible < DIFFICULT_BELOW


@dataclass(frozen=True)
class Scene:
    """A scene: `image` (H, W, 3) uint8 RGB; `objects` from back to front."""

    image: Array
    objects: tuple[SceneObject, ...]


def paint(rng: np.random.Generator) -> Scene:
    """Paint a scene, a pure function of the generator's state."""
    width, height = (int(side) for side in rng.choice(SIDES, 2))
    image = _background(rng, width, height)
    wanted = int(rng.integers(1, MOST_OBJECTS + 1))
    objects: list[SceneObject] = []
    for _ in range(wanted * 4):  # a placement that hides too much is drawn anew, a few times
        class_index = int(rng.integers(len(SHAPES)))
        outline = _place(rng, list(SHAPES.values())[class_index], width, height)
        cover = _cover(outline, width, height)
        mask = cover > 0.5
        truncated = bool((outline < 0).any() or (outline > (width, height)).any())
        placed = [replace(item, mask=item.mask & ~mask) for item in objects]
        placed.append(SceneObject(class_index, mask, _polygon_area(outline), truncated))
        if min(item.visible for item in placed) < LEAST_VISIBLE:
            continue
        objects = placed
        texture = _plain if rng.random() < PLAIN else _any_texture(rng)
        image += cover[..., None] * (_textured(rng, texture, width, height) - image)
        if len(objects) == wanted:
            break
    image += rng.normal(0, 0.015, image.shape)  # the grain of a camera
    return Scene((image.clip(0, 1) * 255).round().astype(np.uint8), tuple(objects))


# -- shapes: outlines within the unit circle, (N, 2) -----------------------------------------------------------------


def _radial(*radii: float, corners: int) -> Array:
    """A closed outline whose corners stand at these radii in turn, at equal angles."""
    angles = np.arange(corners) * (2 * np.pi / corners)
    radius = np.resize(radii, corners)
    return np.stack([radius * np.sin(angles), -radius * np.cos(angles)], axis=1)


_ARM, _REACH = 0.34, 0.94  # of a cross: half the width of an arm, and its length from the centre
_CROSS_ARM = [(_ARM, -_ARM), (_REACH, -_ARM), (_REACH, _ARM)]

SHAPES: dict[str, Array] = {
    "circle": _radial(1.0, corners=40),
    "square": np.array([(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)]),
    "triangle": _radial(1.0, corners=3),
    "star": _radial(1.0, 0.45, corners=10),
    "cross": np.array(
        [(x * c - y * s, x * s + y * c) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1)) for x, y in _CROSS_ARM]
    ),
}


def _place(rng: np.random.Generator, outline: Array, width: int, height: int) -> Array:
    """The outline turned, scaled, a little stretched and put into the image; (N, 2) pixels."""
    turn = rng.uniform(-MOST_TURNED, MOST_TURNED)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    radius = np.exp(rng.uniform(*np.log(RADII)))  # as many small as large ones
    stretch = np.array([1.0, rng.uniform(0.8, 1.0)])
    margin = 0.6 * radius  # up to two fifths of the radius may lie outside
    centre = rng.uniform((margin, margin), (width - margin, height - margin))
    return (outline * stretch) @ rotation.T * radius + centre


def _cover(outline: Array, width: int, height: int) -> Array:
    """The share of each pixel that lies inside the outline, (H, W) in [0, 1]."""
    large = Image.new("L", (width * SMOOTH, height * SMOOTH))
    ImageDraw.Draw(large).polygon([(x * SMOOTH, y * SMOOTH) for x, y in outline.tolist()], fill=255)
    return np.asarray(large.reduce(SMOOTH), dtype=np.float64) / 255


def _polygon_area(outline: Array) -> float:
    x, y = outline.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


# -- textures: a field in [0, 1] over the image, (H, W), that blends two colours -------------------------------------


def _wave(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A sine of random direction and phase, period 5 to 16 pixels."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    period = rng.uniform(5, 16)
    return np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period) + phase)


def _stripes(rng: np.random.Generator, x: Array, y: Array) -> Array:
    return (_wave(rng, x, y) * 3 + 0.5).clip(0, 1)


def _checks(rng: np.random.Generator, x: Array, y: Array) -> Array:
    return (_wave(rng, x, y) * _wave(rng, x, y) * 6 + 0.5).clip(0, 1)


def _dots(rng: np.random.Generator, x: Array, y: Array) -> Array:
    period, (dx, dy) = rng.uniform(7, 14), rng.uniform(0, 14, 2)
    distance = np.hypot((x + dx) % period - period / 2, (y + dy) % period - period / 2)
    return (period * 0.3 - distance + 0.5).clip(0, 1)


def _clouds(rng: np.random.Generator, x: Array, y: Array) -> Array:
    height, width = np.broadcast_shapes(x.shape, y.shape)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 12, width // 12), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) / 255


def _plain(rng: np.random.Generator, x: Array, y: Array) -> Array:
    return (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) / 400 + 0.5  # a soft shade across the image


TEXTURES: tuple[Texture, ...] = (_stripes, _checks, _dots, _clouds, _plain)


def _any_texture(rng: np.random.Generator) -> Texture:
    return TEXTURES[rng.integers(len(TEXTURES))]


def _textured(rng: np.random.Generator, texture: Texture, width: int, height: int) -> Array:
    """A whole image (H, W, 3) in [0, 1] of one texture in two colours."""
    first, second = rng.uniform(0, 1, (2, 3))
    field = texture(rng, np.arange(width)[None, :], np.arange(height)[:, None])
    return first + np.broadcast_to(field, (height, width))[..., None] * (second - first)


def _background(rng: np.random.Generator, width: int, height: int) -> Array:
    """Paint two or three textures that meet along straight lines, and some thin strokes, calmer than the shapes."""
    image = _textured(rng, _any_texture(rng), width, height)
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    for _ in range(rng.integers(1, 3)):
        angle = rng.uniform(0, 2 * np.pi)
        px, py = rng.uniform(0.2, 0.8, 2) * (width, height)
        beyond = ((x - px) * np.cos(angle) + (y - py) * np.sin(angle)) > 0
        image = np.where(beyond[..., None], _textured(rng, _any_texture(rng), width, height), image)
    calm = 0.5 + (image - 0.5) * 0.5
    strokes = Image.fromarray((calm * 255).astype(np.uint8))
    draw = ImageDraw.Draw(strokes)
    for _ in range(rng.integers(2, 8)):
        ends = (rng.uniform(0, 1, (2, 2)) * (width, height)).tolist()
        draw.line(
            [tuple(end) for end in ends], fill=tuple(rng.integers(0, 256, 3).tolist()), width=int(rng.integers(1, 4))
        )
    return np.asarray(strokes, dtype=np.float64) / 255
