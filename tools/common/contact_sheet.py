"""A contact sheet: pictures in a grid on white, with titles above the columns and captions below the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pretrain.runtime.errors import PretrainError, printable
from pretrain.runtime.files import whole_file

MARGIN, GAP, GROUP_GAP = 16, 6, 20  # pixels: around the sheet, between pictures, between groups of columns
LINE = 16  # pixels: height of a line of text
INK, PALE, EDGE = (30, 30, 30), (120, 120, 120), (225, 225, 225)

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Tile:
    """A picture, at most as large as the sheet's cells, and a line below it."""

    image: Image.Image
    caption: str = ""
    color: Color = PALE


@dataclass(frozen=True)
class Sheet:
    """The measures of a sheet.

    Args:
        side: of a cell in pixels; smaller pictures stand in the middle of theirs.
        groups: how many columns stand close together, from the left.
    """

    side: int
    groups: tuple[int, ...]

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return left and top of a cell, in pixels of the sheet."""
        group = sum(column >= sum(self.groups[: i + 1]) for i in range(len(self.groups)))
        x = MARGIN + column * (self.side + GAP) + group * (GROUP_GAP - GAP)
        y = MARGIN + 4 * LINE + row * (self.side + LINE + 2 * GAP)
        return x, y

    def draw(
        self, title: str, titles: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[Tile]]
    ) -> Image.Image:
        """Draw the sheet.

        Args:
            title: above everything.
            titles: of the groups, one each.
            names: of the columns, one each.
            rows: the pictures; a row may be shorter than the columns are many.
        """
        width = self.corner(0, sum(self.groups) - 1)[0] + self.side + MARGIN
        height = self.corner(len(rows), 0)[1] - GAP + MARGIN
        sheet = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(sheet)
        write_line(pen, (MARGIN, MARGIN), title, width - 2 * MARGIN, INK, size=14)
        first = 0
        for text, columns in zip(titles, self.groups, strict=True):
            span = self.corner(0, first + columns - 1)[0] + self.side - self.corner(0, first)[0]
            y = MARGIN + (2 if any(names) else 3) * LINE - GAP
            write_line(pen, (self.corner(0, first)[0], y), text, span, INK)
            first += columns
        for column, text in enumerate(names):
            write_line(pen, (self.corner(0, column)[0], MARGIN + 3 * LINE - GAP), text, self.side, PALE)
        for row, tiles in enumerate(rows):
            for column, tile in enumerate(tiles):
                x, y = self.corner(row, column)
                left, top = x + (self.side - tile.image.width) // 2, y + (self.side - tile.image.height) // 2
                pen.rectangle((left - 1, top - 1, left + tile.image.width, top + tile.image.height), outline=EDGE)
                sheet.paste(tile.image, (left, top))
                write_line(pen, (x, y + self.side + 2), tile.caption, self.side, tile.color)
        return sheet


def fit(image: Image.Image, side: int) -> Image.Image:
    """Enlarge or reduce the whole image to what a cell holds."""
    scale = side / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def write_line(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, color: Color, size: float = 12
) -> None:
    """Write a line of text from its left top; where it is wider than `width` pixels, its middle is left out."""
    font = ImageFont.load_default(size=size)
    text = printable(text)
    shown, kept = text, len(text)
    while kept > 1 and pen.textlength(shown, font=font) > width:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    pen.text(at, shown, fill=color, font=font)


def check_output(path: Path, overwrite: bool) -> None:
    """Raise PretrainError where the sheet may not, or cannot, be written to `path`."""
    if path.suffix.lower() != ".png":
        raise PretrainError(f"--output: {path}: must be a .png file")
    if path.exists() and not overwrite:
        raise PretrainError(f"--output: {path}: exists already; name another, or add --overwrite")


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write the sheet as PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        sheet.save(file, "PNG")
