"""A check of image files: those that training cannot read, damage that it does not notice, and more than 8 bits."""

from typing import NamedTuple

import simplejpeg
from torch.utils.data import Dataset

from pretrain.data.images import decode
from pretrain.data.images.image_set import ImageSet
from pretrain.runtime.errors import UserError
from pretrain.runtime.image_file import WideRange, describe_wide, opened, sampled, wide_range

JPEG = b"\xff\xd8"  # how every JPEG begins


class Fault(NamedTuple):
    """A fault of an image file."""

    name: str  # its path, or shard/member
    reason: str
    readable: bool  # training gets pixels of it, which are wrong in part


class Check(NamedTuple):
    """The outcome of the check of an image: its fault, and the range of its values where they have more than 8 bits."""

    fault: Fault | None
    wide: WideRange | None = None


class Checked(Dataset[Check]):
    """The check of each image, by index: for a DataLoader, whose workers check in parallel."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Check:
        return check_image(self.images, index)


def check_image(images: ImageSet, index: int) -> Check:
    """Check an image.

    First it is read as training reads it. Then a JPEG is decoded strictly: where a block of the file was zeroed or
    overwritten, libjpeg continues with a warning that Pillow does not pass on. For other formats the checksums are
    verified, where they have any.
    """
    name = images.name(index)
    try:
        content = images.read_bytes(index)
        decode.decode(content)
    except (UserError, ValueError) as error:
        return Check(Fault(name, str(error).removeprefix(f"{name}: "), readable=False))
    with decode.opened_bytes(content) as image:
        wide = wide_range(image)
    try:
        _decode_strictly(content) if content.startswith(JPEG) else _verify(content)
    except Exception as error:  # decoders raise whatever the broken bytes lead them to
        return Check(Fault(name, f"damaged: {error or type(error).__name__}", readable=True), wide)
    return Check(None, wide)


def wide_values_notices(images: ImageSet) -> list[str]:
    """Return what to tell the user of images with more than 8 bits a channel, judged by a sample of the set."""
    looked_at = sampled(len(images))
    found = []
    for index in looked_at:
        try:
            with decode.opened_bytes(images.read_bytes(index)) as image:
                values = wide_range(image)
        except (UserError, ValueError):  # training counts the broken images
            continue
        if values:
            found.append((images.name(index), values))
    return [f"data.root: of {len(looked_at)} images looked at, {sentence}" for sentence in describe_wide(found)]


def header_fault(images: ImageSet, index: int) -> str | None:
    """Return the fault of an image file of its own, by its header alone; None where that is good.

    It is much faster than `check_image`, and finds what is missing, empty, no image, or too large to decode.
    """
    try:
        with opened(images.path(index)):
            return None
    except (OSError, ValueError) as error:
        return f"{images.name(index)}: {(isinstance(error, OSError) and error.strerror) or error}"


def _decode_strictly(content: bytes) -> None:
    colours = simplejpeg.decode_jpeg_header(content)[2]
    simplejpeg.decode_jpeg(content, "CMYK" if colours in ("CMYK", "YCCK") else "RGB", strict=True)


def _verify(content: bytes) -> None:
    with decode.opened_bytes(content) as image:
        image.verify()
