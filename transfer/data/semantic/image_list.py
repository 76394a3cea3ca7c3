"""The list of the images of a split, ImageSets/Segmentation/x.txt, in the forms that are handed round."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from transfer.data.common.faults import Findings
from transfer.data.voc.files import FilesById


def read_image_list(path: Path, label_maps: FilesById, findings: Findings) -> list[str]:
    """Return the ids of the images of a list, each once, in its order.

    A line is an image's name with or without its suffix; or, as in lists for DeepLab, the path of the image and that of
    its label map: /JPEGImages/x.jpg /SegmentationClassAug/x.png.

    Args:
        label_maps: those of the images; a line is read so that there is one for it.
        findings: every fault is added.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        findings.add("file", str(path), "no such list of images")
        return []
    except (OSError, ValueError) as error:
        findings.add("file", str(path), f"not readable as a list of image names ({error})")
        return []
    ids: dict[str, int] = {}  # id -> line
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry:
            continue
        where = f"{path}, line {number}"
        if "\0" in entry or ".." in PurePosixPath(entry.replace("\\", "/")).parts:
            findings.add("image", where, f"{entry!r} is not the name of an image in the data set")
            continue
        image_id = next((one for one in _readings(entry) if label_maps.find(one)), entry)
        if image_id in ids:
            findings.add("image", where, f"{image_id} is listed twice (first in line {ids[image_id]})")
            continue
        ids[image_id] = number
    if not ids:
        findings.add("file", str(path), "lists no image")
    return list(ids)


def _readings(entry: str) -> Iterator[str]:
    for text in dict.fromkeys((entry, entry.split()[0])):
        plain = text.replace("\\", "/").lstrip("/")
        parts = plain.split("/")
        for path in dict.fromkeys((plain, "/".join(parts[1:]), parts[-1])):
            if path:
                yield path
                yield str(PurePosixPath(path).with_suffix(""))
