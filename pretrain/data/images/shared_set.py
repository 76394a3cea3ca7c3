"""The images of a run: found once by the main process, then mapped by every rank from an index in the run's folder."""

import pathlib
from dataclasses import dataclass

from pretrain.data.images import roots
from pretrain.data.images.image_set import ImageSet, digest_of, open_images
from pretrain.runtime import distributed
from pretrain.runtime.errors import PretrainError, UserError


@dataclass(frozen=True)
class FoundImages:
    """The images of a root before a run's folder exists: every rank knows how many they are, one holds their names."""

    root: str
    size: int  # number of images
    digest: str  # of their names, see `digest_of`
    on_main: ImageSet | None  # the set itself on the main process, None on the others; all get it from `share`

    def share(self, index: pathlib.Path) -> ImageSet:
        """Write the index of the images to the folder `index`, and return them on every rank; all must call it.

        Raises PretrainError where the disk does not take the index.
        """
        distributed.on_main(lambda: _save_index(self.on_main, index) if self.on_main else None)
        return ImageSet.load(index, self.root)


def find_images(root: str, index: pathlib.Path, known_digest: str | None = None) -> FoundImages:
    """Find the images of a root on the main process; every rank must call it.

    Args:
        root: what `open_images` takes.
        index: the folder that an earlier attempt of the run has written its index to.
        known_digest: that of a run to resume; None: a new run. A resumed run that reads shards takes its own index
            where it has this digest: to scan the shards again may take hours.

    Raises PretrainError for what `open_images` does, and on every rank where the root is missing on any of them.
    """
    found: list[ImageSet] = []
    faults: list[Exception] = []

    def describe() -> tuple[int, str]:
        if faults:
            raise faults[0]
        return len(found[0]), found[0].digest

    with distributed.leave_together():  # a pass over millions of images outlasts the limit of the other waits
        try:
            if distributed.is_main():
                found.append((known_digest and _indexed_shards(index, root, known_digest)) or open_images(root))
        except Exception as error:
            faults.append(error)
    size, digest = distributed.on_main(describe)
    distributed.agree(None if distributed.is_main() else _fault(root))
    return FoundImages(root, size, digest, found[0] if found else None)


def _fault(root: str) -> UserError | None:
    """Return the fault of a root that this rank's machine lacks: it would be taken for an outage and waited for."""
    try:
        roots.check_root(root, "data.root")
    except UserError as error:
        return error
    return None


def _indexed_shards(index: pathlib.Path, root: str, digest: str) -> ImageSet | None:
    try:
        images = ImageSet.load(index, root)
    except UserError:
        return None
    return images if images.shards is not None and digest_of(images.arrays) == digest else None


def _save_index(images: ImageSet, index: pathlib.Path) -> None:
    try:
        images.save(index)
    except OSError as error:
        raise PretrainError(f"output_dir: {index}: cannot be written: {error.strerror}") from error
