"""A small data set as labelling tools export it: Roboflow, CVAT, labelImg, YOLO."""

import json
from pathlib import Path
from typing import Any


def write_exports(folder: Path, scenes: Path) -> None:
    """Write the exports that docs/guides/data.md names into a folder, from the data set of tools/make_scenes.py."""
    parts = {name: coco_of(scenes, name) for name in ("train", "val")}
    for project in ("cells", "cells.v3i.coco", "export"):
        for split, part in (("train", "train"), ("valid", "val")):
            linked_images(folder / project / split, scenes, part)
            save(folder / project / split / "_annotations.coco.json", parts[part])
    save(folder / "test.json", parts["val"])
    linked_images(folder / "photos", scenes, "val")
    for image in (scenes / "unlabelled").iterdir():
        (folder / "photos" / f"unlabelled_{image.name}").symlink_to(image)
    linked_images(folder / "task_12" / "images", scenes, "train")
    save(folder / "task_12" / "annotations" / "instances_default.json", parts["train"])
    voc = scenes / "VOC2007"
    (folder / "xml").symlink_to(voc / "Annotations")
    (folder / "photos_and_xml").mkdir()
    for name, part in (("train.txt", "trainval.txt"), ("test.txt", "test.txt")):
        (folder / name).symlink_to(voc / "ImageSets" / "Main" / part)
        for image in (folder / name).read_text().split():
            (folder / "photos" / f"{image}.jpg").symlink_to(voc / "JPEGImages" / f"{image}.jpg")
    for image in (folder / "train.txt").read_text().split():
        for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
            (folder / "photos_and_xml" / f"{image}.{suffix}").symlink_to(voc / kind / f"{image}.{suffix}")
    names = "\n".join(category["name"] for category in parts["train"]["categories"])
    for split, part in (("train", "train"), ("valid", "val")):
        linked_images(folder / "cells.yolov8" / split / "images", scenes, part)
        save_yolo(folder / "cells.yolov8" / split / "labels", parts[part])
    (folder / "cells.yolov8" / "data.yaml").write_text(f"names: [{', '.join(names.split())}]\n")
    linked_images(folder / "unsplit_yolo", scenes, "train")
    save_yolo(folder / "unsplit_yolo", parts["train"])
    (folder / "unsplit_yolo" / "classes.txt").write_text(f"{names}\n")


def coco_of(scenes: Path, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scenes / "annotations" / f"instances_{part}2017.json").read_text())
    return found


def linked_images(folder: Path, scenes: Path, part: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in sorted((scenes / f"{part}2017").iterdir()):
        (folder / image.name).symlink_to(image)


def save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def save_yolo(folder: Path, content: dict[str, Any]) -> None:
    """Write a text file for each image: class, and centre and size of the box as fractions of the image."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {category["id"]: place for place, category in enumerate(content["categories"])}
    for image in content["images"]:
        lines = []
        for item in content["annotations"]:
            if item["image_id"] == image["id"]:
                x, y, width, height = item["bbox"]
                row = (x + width / 2) / image["width"], (y + height / 2) / image["height"]
                row += width / image["width"], height / image["height"]
                lines.append(" ".join([str(places[item["category_id"]]), *(f"{side:.6f}" for side in row)]))
        (folder / Path(image["file_name"]).with_suffix(".txt").name).write_text("\n".join(lines) + "\n")
