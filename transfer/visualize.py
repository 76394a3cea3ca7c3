"""The drawing of predictions into their image: boxes, translucent masks, keypoints, names with scores; label maps."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from transfer.predictions import Detections

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

_MASK_OPACITY = 0.45
_LABEL_OPACITY = 0.55  # of a class in a label map
_CASING = (0, 0, 0)
_KEYPOINT_SCORE = 0.05  # of a keypoint that is drawn, as in Detectron2's Visualizer
# COCO's person: pairs of keypoints, by their place in the annotation file's list, that a limb joins.
_LIMBS = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
_PERSON_KEYPOINTS = 17
_GOLDEN = 0.61803398875  # steps of this round the colour circle come close to each other late
_SHADES = ((0.85, 0.95), (0.95, 0.7), (0.5, 1.0))  # saturation, value


@dataclass(frozen=True)
class DrawnBox:
    """A box as it is drawn, with the text on its plate.

    Args:
        corners: (x1, y1, x2, y2) in pixels.
        color: of the line, the plate and the mask.
        text: "" for no plate.
        cased: lay the line, which is a little wider then, on a black one, so that it shows on any image.
        dashed: break the line; the gaps show the black one of a cased box.
        mask: (H, W) bool, or None.
        keypoints: each (x, y, score).
    """

    corners: Sequence[float]
    color: Color
    text: str
    cased: bool = False
    dashed: bool = False
    mask: np.ndarray | None = None
    keypoints: Sequence[Sequence[float]] = ()


def draw_detections(
    image: np.ndarray, detections: Detections, class_names: Sequence[str], min_score: float
) -> Image.Image:
    """Draw detections into a copy of the image, in its own size.

    Args:
        image: uint8 RGB (H, W, 3).
        detections: those of this image, in its pixels.
        class_names: of class 0, 1, ...; the colour depends on the class index only.
        min_score: detections below are left out, in [0, 1].
    """
    shown = [i for i in range(len(detections)) if float(detections.scores[i]) >= min_score]
    shown.sort(key=lambda i: float(detections.scores[i]))  # the best is drawn last, on top
    return draw_boxes(
        image,
        [
            DrawnBox(
                detections.boxes[i].tolist(),
                class_color(int(detections.classes[i])),
                f"{class_names[int(detections.classes[i])]} {float(detections.scores[i]):.0%}",
                mask=None if detections.masks is None else detections.masks[i].numpy(),
                keypoints=() if detections.keypoints is None else detections.keypoints[i].tolist(),
            )
            for i in shown
        ],
    )


def draw_boxes(image: np.ndarray, boxes: Sequence[DrawnBox]) -> Image.Image:
    """Draw boxes into a copy of the image (H, W, 3), uint8 RGB, each over those before it."""
    picture = Image.fromarray(_with_masks(image, boxes))
    pen = ImageDraw.Draw(picture)
    thin = max(1, round(min(picture.size) / 250))
    for box in boxes:
        line = thin + box.cased
        x1, y1, x2, y2 = box.corners
        # The edges x2, y2 lie after the last pixel inside; a box thinner than a pixel still gets one.
        frame = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
        if box.cased:
            pen.rectangle((frame[0] - 1, frame[1] - 1, frame[2] + 1, frame[3] + 1), outline=_CASING, width=line + 2)
        if box.dashed:
            _draw_dashes(pen, frame, box.color, line)
        else:
            pen.rectangle(frame, outline=box.color, width=line)
        _draw_keypoints(pen, box.keypoints, box.color, line)
    taken: list[Rectangle] = []
    for box in reversed(boxes):  # the last gets its place first
        if box.text:
            _label(pen, box.text, box.corners, box.color, picture.size, taken)
    return picture


def draw_label_map(image: np.ndarray, label_map: np.ndarray, class_names: Sequence[str]) -> Image.Image:
    """Paint the classes of a label map over a copy of the image, with a legend of those that occur below it.

    Args:
        image: uint8 RGB (H, W, 3).
        label_map: (H, W) uint8, index into `class_names`; other values stay unpainted, and so does a class 0 that is
            named "background".
        class_names: of class 0, 1, ...; the colour depends on the class index only.
    """
    colors = np.zeros((256, 3), dtype=np.uint8)
    painted = np.zeros(256, dtype=bool)
    for index, name in enumerate(class_names):
        colors[index], painted[index] = class_color(index), index > 0 or name.lower() != "background"
    shown = painted[label_map]  # (H, W)
    mixed = np.round((1 - _LABEL_OPACITY) * image + _LABEL_OPACITY * colors[label_map])
    picture = Image.fromarray(np.where(shown[..., None], mixed, image).astype(np.uint8))
    present = [index for index in np.unique(label_map).tolist() if painted[index]]
    return _with_legend(picture, [(class_names[index], class_color(index)) for index in present])


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, Color]]) -> Image.Image:
    """Return the picture with a plate for each entry (text, colour) in rows below it."""
    if not entries:
        return picture
    font = ImageFont.load_default(size=min(max(11, min(picture.size) / 32), 60))
    pen = ImageDraw.Draw(picture)
    boxes = [pen.textbbox((0, 0), text, font=font) for text, _ in entries]
    row = max(bottom for *_, bottom in boxes) + 6
    places, x, y = [], 0.0, float(picture.height)
    for _, _, right, _ in boxes:
        if x and x + right + 8 > picture.width:
            x, y = 0.0, y + row
        places.append((x, y))
        x += right + 8
    canvas = Image.new("RGB", (picture.width, int(y + row)), (255, 255, 255))
    canvas.paste(picture)
    pen = ImageDraw.Draw(canvas)
    for (text, color), (x, y), (_, _, right, _) in zip(entries, places, boxes, strict=True):
        pen.rectangle((x, y, x + right + 7, y + row - 1), fill=color)
        pen.text((x + 4, y + 2), text, font=font, fill=ink_on(color))
    return canvas


def class_color(index: int) -> Color:
    """Return the colour of a class, RGB 0 to 255, distinct from those of its neighbours."""
    step, shade = divmod(index, len(_SHADES))
    hue = 0.02 + step * _GOLDEN + shade * 0.4
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, *_SHADES[shade])
    return round(255 * red), round(255 * green), round(255 * blue)


def ink_on(color: Color) -> Color:
    """Return the colour of letters on a plate of this colour: black or white."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)


def _with_masks(image: np.ndarray, boxes: Sequence[DrawnBox]) -> np.ndarray:
    """Return a copy of the image (H, W, 3) with the masks of the boxes laid over it."""
    painted = image.copy()
    for box in boxes:
        if box.mask is not None:
            below = painted[box.mask]
            painted[box.mask] = np.round((1 - _MASK_OPACITY) * below + _MASK_OPACITY * np.array(box.color))
    return painted


def _draw_dashes(pen: ImageDraw.ImageDraw, frame: Rectangle, color: Color, line: int) -> None:
    """Draw the edges of a rectangle as dashes, six times as long as the line is wide, with gaps of four."""
    left, top, right, bottom = frame
    for x in np.arange(left, right + 1, 10 * line):
        for y in (top, bottom):
            pen.line((x, y, min(x + 6 * line, right), y), fill=color, width=line)
    for y in np.arange(top, bottom + 1, 10 * line):
        for x in (left, right):
            pen.line((x, y, x, min(y + 6 * line, bottom)), fill=color, width=line)


def _draw_keypoints(pen: ImageDraw.ImageDraw, points: Sequence[Sequence[float]], color: Color, line: int) -> None:
    """Draw the keypoints (x, y, score) of one detection, and the limbs between them where it is COCO's person."""
    found = {place: (x - 0.5, y - 0.5) for place, (x, y, score) in enumerate(points) if score >= _KEYPOINT_SCORE}
    if len(points) == _PERSON_KEYPOINTS:
        for one, other in _LIMBS:
            if one in found and other in found:
                pen.line((*found[one], *found[other]), fill=color, width=line)
    radius = 1.5 * line
    for x, y in found.values():
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 255, 255), outline=color)


def _label(
    pen: ImageDraw.ImageDraw,
    text: str,
    box: Sequence[float],
    color: Color,
    size: tuple[int, int],
    taken: list[Rectangle],
) -> None:
    """Write `text` on a plate of the box's colour, inside the picture and where no other label lies, if possible."""
    font = ImageFont.load_default(size=min(max(11, min(size) / 32), 60))  # text below 11 pixels is not legible
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x1, y1, _, y2 = box
    x = max(0, min(x1, size[0] - width))
    places = [(x, max(0, min(y, size[1] - height))) for y in (y1 - height, y1, y2 - height, y2)]
    plates = [(a, b, a + width, b + height) for a, b in places]
    plate = next((free for free in plates if not any(_overlap(free, other) for other in taken)), plates[0])
    taken.append(plate)
    pen.rectangle((plate[0], plate[1], plate[2] - 1, plate[3] - 1), fill=color)
    pen.text((plate[0] + 2 - left, plate[1] + 2 - top), text, font=font, fill=ink_on(color))


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
