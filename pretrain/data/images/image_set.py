"""A set of images that is read by index: a tree of folders, a text list of paths, or tar shards, here or at a URL.

Names lie in arrays, not in a list: a set of 10^9 images can be built, saved, and mapped from the file by every process.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from pretrain.data.images import decode as rgb
from pretrain.data.images import roots, storage
from pretrain.data.images.path_array import PathArray
from pretrain.runtime.errors import PretrainError, StorageError, UserError, printable
from pretrain.runtime.files import whole_file

SUMMARY = "images.json"  # written last: a folder without one holds no whole index

Arrays = dict[str, npt.NDArray]
Decoded = TypeVar("Decoded")


class ImageSet:
    """A set of images by index. Cheap to pickle where it was loaded: then only its folder's name travels.

    Args:
        base: the folder or URL that the names are relative to.
        arrays: `text` and `ends` of the images' `PathArray`. For shards also those of the shards, `shard_text` and
            `shard_ends`; `counts`, (S,) int64, how many images the shards up to each one hold; `offsets` and `sizes`,
            (N,) int64, where each image lies in its shard, in bytes.
        digest: what `digest_of` says of the arrays; computed where not given.
    """

    def __init__(self, base: str, arrays: Arrays, digest: str = "") -> None:
        self.base, self.arrays = base, arrays
        self.names = PathArray(arrays["text"], arrays["ends"])
        self.shards = PathArray(arrays["shard_text"], arrays["shard_ends"]) if "shard_text" in arrays else None
        self.digest = digest or digest_of(arrays)
        self.notices: tuple[str, ...] = ()  # what the user should know of files that were passed over
        self._loaded_from: tuple[pathlib.Path, str] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return the name of an image for a message: "folder/a.jpg", "folder/000.tar/key.jpg"; see `printable`."""
        return printable(self.path(index))

    def path(self, index: int) -> str:
        """Return the path or URL of an image's file, or shard/member."""
        name = self.names[index]
        if self.shards is None:
            return storage.join(self.base, name)
        return f"{self._shard(index)}/{name}"

    def read_bytes(self, index: int) -> bytes:
        """Return the content of the image's file. Raises PretrainError naming it where it cannot be had.

        Raises StorageError, naming it too, where the storage does not answer (see runtime/files.py).
        """
        try:
            if self.shards is None:
                return storage.read_file(self.path(index))
            offset, size = int(self.arrays["offsets"][index]), int(self.arrays["sizes"][index])
            content = storage.read_range(self._shard(index), offset, size)
            if len(content) != size:  # of a shard that was written anew?
                storage.reopen(self._shard(index))
                content = storage.read_range(self._shard(index), offset, size)
        except StorageError as error:
            raise StorageError(f"{self.name(index)}: {error}" if self.shards else str(error)) from error
        except Exception as error:  # a URL's library raises its own
            raise PretrainError(f"{self.name(index)}: {roots.reason_of(error)}") from error
        if len(content) != size:
            raise PretrainError(f"{self.name(index)}: the shard is shorter than it was when it was indexed")
        return content

    def read(self, index: int) -> Image.Image:
        """Return the image, upright 8-bit RGB (see decode.py). Raises PretrainError naming it where it is broken."""
        return self._decoded(index, rgb.decode)

    def read_array(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the pixels of `read`, (H, W, 3), faster."""
        return self._decoded(index, rgb.decode_array)

    def _decoded(self, index: int, decode: Callable[[bytes], Decoded]) -> Decoded:
        content = self.read_bytes(index)
        try:
            return decode(content)
        except ValueError:
            if self.shards is not None:
                storage.reopen(self._shard(index))
        try:
            return decode(self.read_bytes(index))  # once more: storage may give wrong bytes for a time
        except ValueError as error:
            raise PretrainError(f"{self.name(index)}: {error}") from error

    def _shard(self, index: int) -> str:
        """Return the path of the shard that holds the image."""
        if self.shards is None:
            raise TypeError("these images are files of their own")
        number = int(np.searchsorted(self.arrays["counts"], index, side="right"))
        return storage.join(self.base, self.shards[number])

    def save(self, folder: pathlib.Path) -> None:
        """Write the index as .npy files, for `load`, in place of an earlier one."""
        if self._loaded_from and self._loaded_from[0] == folder.absolute():
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SUMMARY).unlink(missing_ok=True)  # no mixture of an old and a new index ever looks whole
        for name, values in self.arrays.items():
            with whole_file(folder / f"{name}.npy") as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
        summary = {"images": len(self), "digest": self.digest, "arrays": sorted(self.arrays)}
        with whole_file(folder / SUMMARY) as file:
            file.write(json.dumps(summary).encode())

    @classmethod
    def load(cls, folder: pathlib.Path, root: str) -> "ImageSet":
        """Load the set that `save` wrote for the same data at `root`. Processes share one copy of the mapped arrays.

        Raises PretrainError for an index that is missing, not whole or damaged.
        """
        folder = folder.absolute()
        try:
            summary = json.loads((folder / SUMMARY).read_bytes())
            # Viewed as plain arrays: memmap's own slices cost ten times more.
            arrays = {
                name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="r").view(np.ndarray)
                for name in summary["arrays"]
            }
            images = cls(roots.base_folder(root), arrays, summary["digest"])
            if len(images) != summary["images"]:
                raise ValueError(f"{len(images)} names for {summary['images']} images")
        except (OSError, ValueError, KeyError, TypeError, UserError) as error:
            raise PretrainError(f"{folder}: no readable index of images: {error}") from error
        images._loaded_from = folder, root
        return images

    def __reduce__(self) -> tuple:
        if self._loaded_from:
            return ImageSet.load, self._loaded_from
        return ImageSet, (self.base, self.arrays, self.digest)


def digest_of(arrays: Arrays) -> str:
    """Return the SHA-256 (hex) of the names relative to the root and of the sizes in shards, wherever the data lies."""
    digest = hashlib.sha256()
    for name in ("text", "ends", "shard_text", "shard_ends", "counts", "sizes"):
        if name in arrays:
            digest.update(f"{name} {len(arrays[name])} ".encode())
            digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def open_images(root: str, setting: str = "data.root") -> ImageSet:
    """Find the images of a root, in a fixed order.

    Args:
        root: a folder of images (a tree or flat), a text list of paths (.txt), a .tar file, a folder of .tar files, a
            brace pattern ("x-{000..009}.tar"), or a URL of one of these. See docs/guides/images.md.
        setting: the name of the setting, for messages.

    Raises PretrainError for a root that is missing or empty, or parts of which cannot be read.
    """
    notices: list[str] = []
    images = ImageSet(roots.base_folder(root), roots.find_images(root, setting, notices))
    images.notices = tuple(f"{setting}: {notice}" for notice in notices)
    return images
