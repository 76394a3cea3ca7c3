"""Paint a small scene: patterned discs of one kind on plain ground, and the visible mask of each.

The kind of a disc is its pattern alone. Position, size, rotation, scale and contrast are drawn anew for every disc, and
the ground is the same everywhere, so nothing but the pattern says which discs belong together. As with many things in
the world, those of a kind stand together: a scene shows one kind. Two crops of a scene then share little but the kind,
which is what contrastive pretraining can find without labels; a detector finds discs with ease and must tell patterns.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray
Pattern = Callable[[Array, Array], Array]

SIDES = (60, 64, 68)  # pixels; width and height are drawn apart
RADII = (8.0, 12.0)  # of a disc, pixels
DISCS = (4, 7)  # fewest and most of a scene
PERIODS = (1.4, 2.2)  # of a pattern, in a disc's radius
GROUND = 0.55  # brightness, 0 to 1
INK, PAPER = (0.0, 0.2), (0.8, 1.0)  # brightness of a disc's two tones
GRAIN = 0.02  # standard deviation of the camera's noise
OVERLAP = 0.25  # of two radii: how far two discs may reach into each other, and a disc out of the image
LEAST_VISIBLE = 0.5  # of a disc's area; a placement that would hide more is not made
DIFFICULT_BELOW = 0.85  # visible share under which an object is marked difficult, as VOC marks what is hard to see
SMOOTH = 4  # discs are drawn this many times larger and reduced: smooth edges


@dataclass(frozen=True)
class SceneObject:
    """An object: `mask` (H, W) bool of the pixels seen; `area` of the whole disc, pixels; `truncated` by the image."""

    class_index: int
    mask: Array
    area: float
    truncated: bool

    @property
    def visible(self) -> float:
        """The share of the disc that is seen, about 0 to 1."""
        return float(self.mask.sum()) / self.area

    @property
    def difficult(self) -> bool:
        return self.visible < DIFFICULT_BELOW


@dataclass(frozen=True)
class Scene:
    """A scene: `image` (H, W, 3) uint8 RGB; `objects` from back to front."""

    image: Array
    objects: tuple[SceneObject, ...]


def paint(rng: np.random.Generator, kind: int) -> Scene:
    """Paint a scene of discs of a kind, an index into `PATTERNS`: a pure function of the kind and the random state."""
    width, height = (int(side) for side in rng.choice(SIDES, 2))
    image = np.full((height, width), GROUND)
    wanted = int(rng.integers(DISCS[0], DISCS[1] + 1))
    objects: list[SceneObject] = []
    discs: list[tuple[Array, float]] = []
    for _ in range(wanted * 12):  # a placement that hides too much is drawn anew, so often at most
        radius = rng.uniform(*RADII)
        inside = (1 - OVERLAP) * radius
        centre = rng.uniform((inside, inside), (width - inside, height - inside))
        if any(np.hypot(*(centre - other)) < (1 - OVERLAP) * (radius + its) for other, its in discs):
            continue
        cover = _cover(centre, radius, width, height)
        mask = cover > 0.5
        placed = [replace(item, mask=item.mask & ~mask) for item in objects]
        truncated = bool((centre < radius).any() or (centre + radius > (width, height)).any())
        placed.append(SceneObject(kind, mask, np.pi * radius**2, truncated))
        if min(item.visible for item in placed) < LEAST_VISIBLE:
            continue
        objects = placed
        discs.append((centre, radius))
        image += cover * (_patterned(rng, list(PATTERNS.values())[kind], centre, radius, width, height) - image)
        if len(objects) == wanted:
            break
    image = image[..., None] + rng.normal(0, GRAIN, (height, width, 3))
    return Scene((image.clip(0, 1) * 255).round().astype(np.uint8), tuple(objects))


def _cover(centre: Array, radius: float, width: int, height: int) -> Array:
    """The share of each pixel that lies inside the disc, (H, W) in [0, 1]."""
    large = Image.new("L", (width * SMOOTH, height * SMOOTH))
    box = [*((centre - radius) * SMOOTH).tolist(), *((centre + radius) * SMOOTH).tolist()]
    ImageDraw.Draw(large).ellipse(box, fill=255)
    return np.asarray(large.reduce(SMOOTH), dtype=np.float64) / 255


def _patterned(
    rng: np.random.Generator, pattern: Pattern, centre: Array, radius: float, width: int, height: int
) -> Array:
    """A whole image (H, W) in [0, 1] of a pattern around `centre`, turned, scaled and in two tones at random."""
    angle, period = rng.uniform(0, 2 * np.pi), radius / rng.uniform(*PERIODS)
    ink, paper = rng.uniform(*INK), rng.uniform(*PAPER)
    x, y = np.arange(width)[None, :] + 0.5 - centre[0], np.arange(height)[:, None] + 0.5 - centre[1]
    u = (x * np.cos(angle) + y * np.sin(angle)) / period
    v = (y * np.cos(angle) - x * np.sin(angle)) / period
    return ink + (paper - ink) * pattern(u, v)


# -- patterns: u and v in periods from the disc's centre, both (H, W); 0 is ink and 1 is paper -----------------------


def _edge(field: Array) -> Array:
    """Ink where the field is negative, paper where it is positive, and a soft edge between."""
    return (0.5 + 2 * field).clip(0, 1)


def _stripes(u: Array, v: Array) -> Array:
    return _edge(np.sin(2 * np.pi * u))


def _checks(u: Array, v: Array) -> Array:
    return _edge(1.5 * np.sin(1.43 * np.pi * u) * np.sin(1.43 * np.pi * v))


def _dots(u: Array, v: Array) -> Array:
    return _edge(1.1 - 4.2 * np.hypot((u / 1.2) % 1 - 0.5, (v / 1.2) % 1 - 0.5))


def _rings(u: Array, v: Array) -> Array:
    return _edge(np.sin(2 * np.pi * np.hypot(u, v)))


def _spokes(u: Array, v: Array) -> Array:
    return _edge(np.sin(6 * np.arctan2(v, u)))


def _zigzag(u: Array, v: Array) -> Array:
    return _edge(np.sin(2 * np.pi * (u + 1.4 * np.abs((v / 1.6) % 1 - 0.5))))


def _grid(u: Array, v: Array) -> Array:
    return _edge(2.2 * np.maximum(np.cos(1.67 * np.pi * u), np.cos(1.67 * np.pi * v)) - 1.3)


def _bricks(u: Array, v: Array) -> Array:
    along, across = (u / 1.8 + 0.5 * (np.floor(v) % 2)) % 1, v % 1
    joint = np.minimum(1.8 * np.minimum(along, 1 - along), np.minimum(across, 1 - across))
    return _edge(3 - 14 * joint)


PATTERNS: dict[str, Pattern] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "spokes": _spokes,
    "zigzag": _zigzag,
    "grid": _grid,
    "bricks": _bricks,
}
