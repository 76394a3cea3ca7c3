"""The forms of export that are converted, recognised by the names of folders and files."""

from pathlib import Path

from transfer.data import layouts
from transfer.data.common.exports import has_masks, is_yolo
from transfer.errors import TransferError

from .annotated import find_annotated, read_annotated, refuse_parts
from .contents import Contents
from .masks import MaskOptions, read_masks
from .yolo import read_yolo

FORMS = ("masks", "yolo", "annotated")


def read_export(
    root: Path, form: str | None, options: MaskOptions, images: Path | None, masks: Path | None
) -> Contents:
    """Read an export.

    Args:
        root: its folder.
        form: one of FORMS; None: to be recognised.
        options: of images with masks.
        images, masks: the folders of both, where the user names them.

    Raises:
        TransferError: it is in none of the forms, or may be in several; or it has faults, which are listed.
    """
    if not root.is_dir():
        raise TransferError(f"{root}: no such folder")
    if form is None and masks is None:
        refuse_parts(root)
    found = [form] if form else [name for name in FORMS if _is_in(name, root, masks)]
    if len(found) > 1:
        raise TransferError(f"{root}: may be {' or '.join(found)}: choose one by --from")
    if not found:
        raise TransferError(f"{root}: no export is recognised in it; --help lists those that are")
    if found == ["annotated"]:
        return read_annotated(layouts.recognise(root))
    return read_masks(root, options, images, masks) if found == ["masks"] else read_yolo(root)


def _is_in(form: str, root: Path, masks: Path | None) -> bool:
    if form == "masks":
        return masks is not None or has_masks(root)
    return masks is None and (is_yolo(root) if form == "yolo" else find_annotated(root) is not None)
