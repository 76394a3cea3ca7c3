"""Pictures with objects, written in COCO layout: annotation files, and the images beside them."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretrain.runtime.errors import UserError
from pretrain.runtime.files import naming_full_disk

from .contents import Picture

_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Give a folder to write in, which takes the name `output` when the block has ended well, and is removed if not.

    Raises:
        UserError: `output` exists.
    """
    refuse_existing(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        with naming_full_disk(output):
            yield unfinished
        unfinished.chmod(0o755)  # mkdtemp's own is for this user alone
        os.rename(unfinished, output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def refuse_existing(output: Path) -> None:
    """Raise UserError where `output` exists."""
    if output.exists():
        raise UserError(f"--output {output}: exists, and nothing is overwritten; name another or remove it")


def write_coco(
    root: Path, splits: Mapping[str, Sequence[Picture]], class_names: Sequence[str], info: Mapping[str, object]
) -> int:
    """Write annotations/instances_<split>.json and the images <split>/.

    An image is a second name of the same file (a hard link), which takes no room; where the file system has none, a
    copy.

    Args:
        info: goes into the files: where they come from.

    Returns:
        The number of images that were copied.
    """
    (root / "annotations").mkdir()
    copied = 0
    for split, pictures in splits.items():
        names = image_names(pictures)
        for picture, name in zip(pictures, names, strict=True):
            copied += place_file(picture.file, root / split / name)
        content = coco_content(pictures, names, class_names, info)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content) + "\n")
    return copied


def image_names(pictures: Sequence[Picture]) -> list[str]:
    """Return a name for each image of a split: its own, or its path below the export where two have one name."""
    paths = [[part for part in re.split(r"[/\\]", each.name) if part not in ("", ".", "..")] for each in pictures]
    short = {path[-1].casefold() for path in paths}
    return [path[-1] if len(short) == len(paths) else "/".join(path) for path in paths]


def place_file(file: Path, target: Path) -> bool:
    """Give a file a second name, or copy it where the file system has no such links; return True if it was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = file.resolve()
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
        return True
    return False


def coco_content(
    pictures: Sequence[Picture], names: Sequence[str], class_names: Sequence[str], info: Mapping[str, object]
) -> dict[str, Any]:
    """Return the content of an annotation file; ids count from 1 in the order of the images and objects."""
    ids = {name: number for number, name in enumerate(class_names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (picture, file_name) in enumerate(zip(pictures, names, strict=True), start=1):
        height, width = picture.size
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for item in picture.items:
            row = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": ids[item.class_name],
                "bbox": list(item.box),
                "area": item.area,
                "iscrowd": 0,
            }
            annotations.append(row | ({} if item.segmentation is None else {"segmentation": item.segmentation}))
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"info": dict(info), "images": images, "annotations": annotations, "categories": categories}
