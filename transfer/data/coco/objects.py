"""The objects of a COCO annotation file, each checked and treated by the rules for faults."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pycocotools.mask

from transfer.data.coco.file_wide import examine_box_forms, examine_crowds
from transfer.data.coco.object_faults import Size, annotation_faults, box_edges, is_polygon
from transfer.data.common import rle
from transfer.data.common.faults import FLAG, GONE, Findings
from transfer.data.common.values import are_numbers, clip_box, is_id, is_number


def apply_rules_to_annotations(
    annotations: Sequence[Any],
    sizes: Mapping[int, Size | None],
    categories: Mapping[int, int | None],
    path: str,
    unique_ids: bool,
    findings: Findings,
) -> list[dict[str, Any]]:
    """Return the annotations that pass by the rules of `findings`; those that no rule changes are the objects given.

    Args:
        sizes: image id -> (height, width); None where the file has no good one.
        categories: category id -> the number of its keypoints; None where it names none.
        path: of the file, for messages.
        unique_ids: True if an id used twice is a fault.
        findings: the rules for faults; every fault is added.
    """
    findings.totals["objects"] += len(annotations)
    annotations = examine_crowds(annotations, path, findings)
    forms = examine_box_forms(annotations, sizes, path, findings)
    masks = _examine_masks(forms.annotations, path, findings)
    kept: list[dict[str, Any]] = []
    ids = _Ids(forms.annotations, unique_ids)
    for i, annotation in enumerate(forms.annotations):
        where = f"{path}: annotations[{i}]"
        if not isinstance(annotation, dict):
            findings.add("annotation", where, "an object is expected, with id, image_id, category_id and bbox")
            continue
        where += f" (id {reprlib.repr(annotation['id'])})" if "id" in annotation else ""
        image_id = annotation.get("image_id")
        if not is_id(image_id):
            findings.add("annotation", where, f"image_id {reprlib.repr(image_id)} is not a whole number")
        elif image_id not in sizes:
            findings.add("orphan", where, f"image_id {image_id} is not in images")
        elif (usual := _in_usual_form(annotation, where, findings)) is not None:
            size = sizes[image_id]
            faults = annotation_faults(usual, size, categories)
            if (id_fault := ids.fault(usual)) is not None:
                faults.append(id_fault)
            if i in forms.fractions:
                faults.append(("fractions", forms.fractions[i]))
            known = ("outside",) if forms.explained else ()
            rules = {kind: findings.add(kind, where, what) for kind, what in faults if kind not in known}
            changed = _apply_rules(usual, rules, size, ids)
            if changed is not None and (whole := _complete(changed, size, masks, where, findings)) is not None:
                kept.append(whole)
    return kept


class _Ids:
    """The ids of annotations that have been read, and the next one that is free in the file."""

    def __init__(self, annotations: Sequence[Any], unique: bool) -> None:
        ids = [item["id"] for item in annotations if isinstance(item, dict) and is_id(item.get("id"))]
        self.unique, self._used, self._free = unique, set[int](), max(ids, default=0) + 1

    def fault(self, annotation: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return (kind of fault, description) where the annotation has no id of its own, and remember its id."""
        own = annotation.get("id")
        if not is_id(own):
            return "duplicate_id", "no id" if own is None else f"id {reprlib.repr(own)} is not a whole number"
        if own in self._used and self.unique:
            return "duplicate_id", "the id is used twice"
        self._used.add(own)
        return None

    def free(self) -> int:
        """Return an id that no annotation has, another one each time."""
        self._free += 1
        return self._free - 1


def _examine_masks(annotations: Sequence[Any], path: str, findings: Findings) -> bool:
    """Return True if any object has a mask; else add a fault where masks are needed."""
    found = any(isinstance(item, dict) and item.get("segmentation") for item in annotations)
    if annotations and not found and not findings.allows("boxes_only"):
        findings.add("boxes_only", f"{path}: annotations", "no object has a mask (segmentation)")
    return found


def _in_usual_form(annotation: dict[str, Any], where: str, findings: Findings) -> dict[str, Any] | None:
    """Return the annotation with polygons as flat lists and a box of sides from 0 up; None if a rule leaves it out."""
    polygons = _flat_polygons(annotation.get("segmentation"))
    if polygons is not None:
        findings.add("pairs", where, f"segmentation {reprlib.repr(annotation['segmentation'])}")
        annotation = {**annotation, "segmentation": polygons}
    box = annotation.get("bbox")
    if isinstance(box, list) and are_numbers(box, 4) and min(box[2:]) < 0:
        rule = findings.add("negative", where, f"bbox {reprlib.repr(box)} has a negative width or height")
        if rule in GONE:
            return None
        (x1, x2), (y1, y2) = sorted((box[0], box[0] + box[2])), sorted((box[1], box[1] + box[3]))
        annotation = {**annotation, "bbox": [x1, y1, x2 - x1, y2 - y1]}
    return annotation


def _flat_polygons(mask: Any) -> list[list[float]] | None:
    """Return [[x1, y1, ...], ...] of a polygon as numbers, [x1, y1, ...], or as points, [[x, y], ...], or of polygons
    of points; None if the mask is of none of these forms."""
    if not isinstance(mask, list) or not mask:
        return None
    if are_numbers(mask):
        return [mask]
    if _are_points(mask):
        return [[value for point in mask for value in point]]
    if all(isinstance(polygon, list) and _are_points(polygon) for polygon in mask):
        return [[value for point in polygon for value in point] for polygon in mask]
    return None


def _are_points(values: Sequence[Any]) -> bool:
    return len(values) > 2 and all(are_numbers(point, 2) for point in values)


def _apply_rules(
    annotation: dict[str, Any], rules: Mapping[str, str], size: Size | None, ids: _Ids
) -> dict[str, Any] | None:
    """Return the annotation as changed by rules (kind of fault -> rule); None if they drop it."""
    if any(rule in GONE for kind, rule in rules.items() if (kind, rule) != ("polygon", "drop")):
        return None
    if rules.get("polygon") in ("drop", "rectangle"):  # an object with other polygons loses the short ones only
        polygons = list(_polygons(annotation["segmentation"], rectangles=rules["polygon"] == "rectangle"))
        if not polygons:
            return None
        annotation = {**annotation, "segmentation": polygons}
    if rules.get("outside") == "clip" and size is not None:
        x1, y1, x2, y2 = clip_box(box_edges(annotation["bbox"]), *size)
        annotation = {**annotation, "bbox": [x1, y1, x2 - x1, y2 - y1]}
    if rules.get("duplicate_id") == "renumber":
        annotation = {**annotation, "id": ids.free()}
    return annotation


def _polygons(polygons: Sequence[Sequence[float]], rectangles: bool) -> Iterator[Sequence[float]]:
    """Yield the polygons of at least 3 points; with `rectangles` also those of 2, its opposite corners."""
    for polygon in polygons:
        if is_polygon(polygon):
            yield polygon
        elif rectangles and len(polygon) == 4:
            x1, y1, x2, y2 = polygon
            yield [x1, y1, x2, y1, x2, y2, x1, y2]


def _complete(
    annotation: dict[str, Any], size: Size | None, masks: bool, where: str, findings: Findings
) -> dict[str, Any] | None:
    """Return an annotation without other faults, with what it lacks filled in; None if a rule leaves it out.

    Args:
        masks: True if the file has masks.
    """
    computed: dict[str, Any] = {}
    area: Any = annotation.get("area")
    width, height = annotation["bbox"][2:]
    if not is_number(area) or (area <= 0 and width * height > 0):
        computed["area"] = _area(annotation, size)
    if annotation.get("iscrowd") is None:
        computed["iscrowd"] = 0
    points = annotation.get("keypoints")
    if points and annotation.get("num_keypoints") is None:
        computed["num_keypoints"] = sum(value > 0 for value in points[2::3])
    if computed and findings.add("incomplete", where, _missing(annotation, computed)) == "fill":
        annotation = {**annotation, **computed}
    if masks and not annotation.get("iscrowd"):
        fault = _missing_mask(annotation)
        if fault is not None and not findings.allows(fault[0]) and findings.add(fault[0], where, fault[1]) in GONE:
            return None
    return annotation


def _missing(annotation: Mapping[str, Any], computed: Mapping[str, Any]) -> str:
    """Describe the fields that are not there, or have no value that can be used."""
    return " and ".join(
        f"no {field}" if annotation.get(field) is None else f"{field} {reprlib.repr(annotation[field])}"
        for field in computed
    )


def _area(annotation: Mapping[str, Any], size: Size | None) -> float:
    """Return the area of the mask, or of the box where there is no valid mask."""
    mask = annotation.get("segmentation")
    if size is not None and isinstance(mask, dict):
        return float(pycocotools.mask.area(rle.compress_mask(mask)))
    polygons = [polygon for polygon in mask or () if is_polygon(polygon)]
    if size is not None and polygons:
        return float(pycocotools.mask.area(pycocotools.mask.merge(pycocotools.mask.frPyObjects(polygons, *size))))
    return float(annotation["bbox"][2] * annotation["bbox"][3])


def _missing_mask(annotation: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (kind of fault, description) of an object that a detector with masks cannot use as it is."""
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        return "run_length", "segmentation is a run-length mask, and iscrowd 0"
    if mask and any(map(is_polygon, mask)):
        return None
    if mask and all(len(polygon) == 4 for polygon in mask):
        return (
            "no_mask",
            f"segmentation has two points, the corners of a box: {FLAG} polygon=rectangle makes masks",
        )
    return "no_mask", f"no mask: segmentation {reprlib.repr(mask)}" if "segmentation" in annotation else "no mask"
