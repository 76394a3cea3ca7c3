"""A check of image files: those that training cannot read, and JPEG damage that it would read without an error."""

import io
import warnings
from typing import NamedTuple

import simplejpeg
from PIL import Image
from torch.utils.data import Dataset

from pretrain.data.images import decode
from pretrain.data.images.image_set import ImageSet
from pretrain.runtime.errors import UserError

JPEG = b"\xff\xd8"  # how every JPEG begins


class Fault(NamedTuple):
    """A fault of an image file."""

    name: str  # its path, or shard/member
    reason: str
    readable: bool  # training gets pixels of it, which are wrong in part


class Checked(Dataset[Fault | None]):
    """The fault of each image, or None, by index: for a DataLoader, whose workers check in parallel."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Fault | None:
        return check_image(self.images, index)


def check_image(images: ImageSet, index: int) -> Fault | None:
    """Return the fault of an image, or None for a good one.

    First it is read as training reads it. Then a JPEG is decoded strictly: where a block of the file was zeroed or
    overwritten, libjpeg continues with a warning that Pillow does not pass on. For other formats the checksums are
    verified, where they have any.
    """
    name = images.name(index)
    try:
        content = images.read_bytes(index)
        decode.decode(content)
    except (UserError, ValueError) as error:
        return Fault(name, str(error).removeprefix(f"{name}: "), readable=False)
    try:
        _decode_strictly(content) if content.startswith(JPEG) else _verify(content)
    except Exception as error:  # decoders raise whatever the broken bytes lead them to
        return Fault(name, f"damaged: {error or type(error).__name__}", readable=True)
    return None


def _decode_strictly(content: bytes) -> None:
    colours = simplejpeg.decode_jpeg_header(content)[2]
    simplejpeg.decode_jpeg(content, "CMYK" if colours in ("CMYK", "YCCK") else "RGB", strict=True)


def _verify(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content), formats=decode.FORMATS) as image:
            image.verify()
