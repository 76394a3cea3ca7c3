"""The EXIF orientation of photographs, and the turn that makes them upright."""

from PIL import ExifTags, Image

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, from 1 (upright) to 8; 1 where its EXIF block is damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block raises anything, and its picture is good (Detectron2 issue 1885)
        return 1


def upright_turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the image upright, or None where it is upright already."""
    return UPRIGHT.get(orientation(image))


def is_sideways(image: Image.Image) -> bool:
    """Return whether width and height change places when the image is made upright."""
    return orientation(image) in (5, 6, 7, 8)
