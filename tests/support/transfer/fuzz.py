"""Damaged annotations and results through validators and evaluators: a process of its own, as pycocotools may crash it.

python -m tests.support.transfer.fuzz KINDS FIRST COUNT FOLDER: cases FIRST to FIRST + COUNT of each of some kinds of
file, such as "coco_truth,voc_xml". Each case is named before it runs, and how many of a kind were refused at its
end. An exception that no user should see, 20 seconds of the processor for a case, or more than 3 GB beyond what the
imports take end the process with a code other than 0.
"""

import contextlib
import faulthandler
import io
import json
import logging
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from PIL import Image

import check_dataset
from tests.support.body import found_person, person, prism, write_body, write_people
from tests.support.cityscapes_layout import SCENE, draw, make_cityscapes, row
from tests.support.transfer.damage import damaged, damaged_json
from tests.support.transfer.layouts import SIZE, coco_content, make_coco, make_voc, voc_object
from tests.support.transfer.lvis_files import lvis_content, make_lvis
from transfer.data import catalog, layouts
from transfer.data.common.faults import KINDS, Findings
from transfer.data.densepose.body_model import read_body_model
from transfer.data.lvis.annotation_file import lvis_rules
from transfer.data.voc import records
from transfer.data.voc.records import read_voc_split
from transfer.errors import TransferError
from transfer.evaluation.cityscapes.folder import score_folder
from transfer.evaluation.coco import ap as coco
from transfer.evaluation.coco import results as coco_results
from transfer.evaluation.densepose.ap import evaluate_densepose
from transfer.evaluation.lvis import ap as lvis
from transfer.evaluation.semantic.folders import score_folders
from transfer.evaluation.voc import ap as voc
from transfer.evaluation.voc import results as voc_results

SECONDS = 20  # of the processor for one case: the machine may be busy
BYTES = 3 * 2**30

_FRAME = "ulm_000000_000019"
_POINTS = [value for i in range(17) for value in (5 + i, 6 + i, i % 3)]


def main() -> None:
    kinds, first, count, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)  # torch is imported here, some 3 GB of addresses, and not by what runs under the limit
    limit = _address_space() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    faulthandler.register(signal.SIGPROF, chain=True)  # shows where, then the signal ends the process, C code or not
    logging.disable(logging.WARNING)
    for kind in kinds.split(","):
        run = FILES[kind](folder / kind)
        refused = 0
        for number in range(first, first + count):
            print("case", kind, number, flush=True)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            random = Random(f"{kind} {number}")
            try:
                run(random, _rules(random))
            except TransferError:
                refused += 1
        print("refused", kind, refused)


def _address_space() -> int:
    """Return the bytes of memory that this process has reserved."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def check(*arguments: object, rules: dict[str, str]) -> None:
    """Call tools/check_dataset.py as `command.run` would, its output thrown away."""
    settings = [f"--rule={kind}={rule}" for kind, rule in rules.items()]
    sys.argv = ["check_dataset.py", *map(str, arguments), *settings]
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # strict, as a terminal is
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit, TransferError):
        check_dataset.main()


def _rules(random: Random) -> dict[str, str]:
    """No rule in half of the cases, as users run it; else one of each kind."""
    return {} if random.random() < 0.5 else {name: random.choice(kind.rules) for name, kind in KINDS.items()}


def _coco_truth(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged annotation file: loaded as for training, and scored."""
    content = _scored_content()
    path = make_coco(folder, content)
    text = path.read_bytes()

    def run(random: Random, rules: dict[str, str]) -> None:
        path.write_bytes(damaged(text, random) if random.random() < 0.4 else damaged_json(content, random))
        check("coco", "--annotations", path, "--images", folder / "train2017", rules=rules)
        with contextlib.suppress(TransferError):
            catalog.load_dataset([random.choice(("coco_2017_train", "keypoints_coco_2017_train"))], folder, rules=rules)
        coco.evaluate_coco(path, _rows(), random.choice(coco.IOU_TYPES), findings=Findings(rules))

    return run


def _coco_results(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged results file: scored against a whole annotation file."""
    truth, path = make_coco(folder, _scored_content()), folder / "results.json"
    text = json.dumps(_rows()).encode()

    def run(random: Random, rules: dict[str, str]) -> None:
        path.write_bytes(damaged(text, random) if random.random() < 0.4 else damaged_json(_rows(), random))
        rows, iou_type = coco_results.read_coco_results(path), random.choice(coco.IOU_TYPES)
        coco.evaluate_coco(truth, rows, iou_type, str(path), Findings(rules))

    return run


def _voc_xml(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged XML file, or list of images: loaded as for training, and scored."""
    split = records.VocSplit.of(_voc(folder), "trainval")
    voc_folder = split.annotations.parent
    xml, images = voc_folder / "Annotations" / "a.xml", voc_folder / "ImageSets" / "Main" / "trainval.txt"
    whole = {path: path.read_bytes() for path in (xml, images)}

    def run(random: Random, rules: dict[str, str]) -> None:
        for path, content in whole.items():
            path.write_bytes(content)
        path = xml if random.random() < 0.8 else images
        path.write_bytes(damaged(whole[path], random))
        check("voc", "--dataset-root", voc_folder, "--split", "trainval", rules=rules)
        read = read_voc_split(split, Findings(rules), ["cat", "dog"] if random.random() < 0.5 else None)
        names = records.class_names_in(read)
        records.voc_records(split, read, names, Findings(rules))
        truth = {image.image_id: image.objects for image in read}
        voc.evaluate_voc(truth, voc_results.devkit_detections([], names, range(len(names))), names)

    return run


def _voc_results(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged result file of the devkit: scored."""
    split, results = records.VocSplit.of(_voc(folder), "trainval"), folder / "results"
    truth = {image.image_id: image.objects for image in read_voc_split(split)}
    results.mkdir()
    (results / "dog.txt").write_text("b 0.5 1 1 40 30\n")

    def run(random: Random, rules: dict[str, str]) -> None:
        (results / "cat.txt").write_bytes(damaged(b"a 0.9 3 4 20 25\nb 0.4 1 1 9 9\na 0.1 1 1 40 30\n", random))
        images = truth if random.random() < 0.5 else None
        found, _ = voc_results.read_voc_results(results, ["cat", "dog"], "trainval", Findings(rules), images)
        voc.evaluate_voc(truth, found, ["cat", "dog"])

    return run


def _cityscapes_polygons(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged polygon file of Cityscapes, or image of objects: loaded as for training, and scored."""
    root = make_cityscapes(folder, {"val": {_FRAME: SCENE}})
    annotations = root / "gtFine" / "val" / "ulm"
    polygons, instances = (annotations / f"{_FRAME}_gtFine_{end}" for end in ("polygons.json", "instanceIds.png"))
    whole = {path: path.read_bytes() for path in (polygons, instances)}

    def run(random: Random, rules: dict[str, str]) -> None:
        for path, text in whole.items():
            path.write_bytes(text)
        if random.random() < 0.6:
            polygons.write_bytes(damaged_json(json.loads(whole[polygons]), random))
        else:
            path = random.choice((polygons, instances))
            path.write_bytes(damaged(whole[path], random))
        check("cityscapes", "--dataset-root", root, rules=rules)
        catalog.load_dataset(["cityscapes_fine_instance_seg_val"], root, rules=rules)
        score_folder(annotations.parent, _cityscapes_rows(), "rows", Findings(rules))

    return run


def _cityscapes_results(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged file of instance masks: scored against whole images of objects."""
    root, path = make_cityscapes(folder, {"val": {_FRAME: SCENE}}), folder / "results.json"
    text = json.dumps(_cityscapes_rows()).encode()

    def run(random: Random, rules: dict[str, str]) -> None:
        path.write_bytes(damaged(text, random) if random.random() < 0.4 else damaged_json(_cityscapes_rows(), random))
        rows = coco_results.read_coco_results(path)
        score_folder(root / "gtFine" / "val", rows, str(path), Findings(rules))

    return run


def _label_maps(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged label map, prediction, image or list: loaded as for training, and scored."""
    values = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
    values[0, 0] = 255
    for place in ("JPEGImages", "SegmentationClass", "predictions"):
        (folder / place).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 6)).save(folder / f"JPEGImages/{name}.jpg")
        for place in ("SegmentationClass", "predictions"):
            Image.fromarray(values).save(folder / f"{place}/{name}.png")
    images = folder / "ImageSets" / "Segmentation" / "train.txt"
    images.parent.mkdir(parents=True)
    images.write_text("a\nb\n")
    paths = [folder / name for name in ("SegmentationClass/a.png", "predictions/b.png", "JPEGImages/a.jpg")]
    whole = {path: path.read_bytes() for path in (*paths, images)}

    def run(random: Random, rules: dict[str, str]) -> None:
        for path, content in whole.items():
            path.write_bytes(content)
        path = random.choice(list(whole))
        path.write_bytes(damaged(whole[path], random))
        check("data", images, rules=rules)
        files = layouts.recognise(images)
        names = ("a", "b", "c") if random.random() < 0.5 else None
        catalog.load_dataset([files.name], None, names, rules=rules, files={files.name: files})
        score_folders(folder / "SegmentationClass", folder / "predictions", "abc", 255, Findings(rules))

    return run


def _lvis_truth(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged annotation file of LVIS: loaded as for training, and scored."""
    content = lvis_content(
        [[(1, 3, 4), (2, 40, 8)], [(3, 5, 5)]], neg_category_ids=[2], not_exhaustive_category_ids=[3]
    )
    path = make_lvis(folder, content)
    text = path.read_bytes()

    def run(random: Random, rules: dict[str, str]) -> None:
        path.write_bytes(damaged(text, random) if random.random() < 0.4 else damaged_json(content, random))
        check("lvis", "--annotations", path, "--images", folder / "coco", rules=rules)
        with contextlib.suppress(TransferError):
            catalog.load_dataset(["lvis_v1_val"], folder, rules=rules)
        lvis.evaluate_lvis(path, _lvis_rows(), random.choice(lvis.IOU_TYPES), findings=Findings(lvis_rules(rules)))

    return run


def _lvis_results(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged results file: scored against a whole annotation file of LVIS."""
    truth, path = make_lvis(folder, lvis_content([[(1, 3, 4), (2, 40, 8)], [(3, 5, 5)]])), folder / "results.json"
    text = json.dumps(_lvis_rows()).encode()

    def run(random: Random, rules: dict[str, str]) -> None:
        path.write_bytes(damaged(text, random) if random.random() < 0.4 else damaged_json(_lvis_rows(), random))
        rows, iou_type = coco_results.read_coco_results(path), random.choice(lvis.IOU_TYPES)
        lvis.evaluate_lvis(truth, rows, iou_type, str(path), Findings(lvis_rules(rules)))

    return run


def _densepose(folder: Path) -> Callable[[Random, dict[str, str]], None]:
    """A damaged annotation or results file of DensePose: checked, and scored."""
    body = read_body_model(write_body(folder / "body", prism()))
    truth, results = write_people(folder, person(), person(2), images=2), folder / "results.json"
    whole = {truth: json.loads(truth.read_text()), results: [found_person(), found_person(score=0.4)]}

    def run(random: Random, rules: dict[str, str]) -> None:
        for path, content in whole.items():
            path.write_text(json.dumps(content))
        path = random.choice((truth, results))
        text = json.dumps(whole[path]).encode()
        path.write_bytes(damaged(text, random) if random.random() < 0.4 else damaged_json(whole[path], random))
        check("densepose", "--annotations", truth, rules=rules)
        rows = coco_results.read_coco_results(results)
        evaluate_densepose(truth, rows, body, str(results), Findings(rules))

    return run


FILES = {
    "coco_truth": _coco_truth,
    "coco_results": _coco_results,
    "voc_xml": _voc_xml,
    "voc_results": _voc_results,
    "cityscapes_polygons": _cityscapes_polygons,
    "cityscapes_results": _cityscapes_results,
    "label_maps": _label_maps,
    "lvis_truth": _lvis_truth,
    "lvis_results": _lvis_results,
    "densepose": _densepose,
}


def _lvis_rows() -> list[dict[str, Any]]:
    mask = pycocotools.mask.encode(np.asfortranarray(np.eye(80, 100, dtype=np.uint8)))
    segmentation = {"size": [80, 100], "counts": mask["counts"].decode()}
    places = ((1, 1, 0.9), (1, 2, 0.8), (2, 3, 0.7))
    return [
        {"image_id": image, "category_id": of, "score": score, "bbox": [3, 4, 20, 20], "segmentation": segmentation}
        for image, of, score in places
    ]


def _cityscapes_rows() -> list[dict[str, Any]]:
    values = draw(SCENE)
    return [row(_FRAME, 26, values == 26000, 0.9), row(_FRAME, 24, values == 26, 0.4)]


def _voc(folder: Path) -> Path:
    objects = voc_object("cat", (3, 4, 20, 25)) + voc_object("dog", (1, 1, 40, 30), "<difficult>1</difficult>")
    return make_voc(folder / "VOC2007", {"a": SIZE + objects, "b": voc_object("dog")})


def _scored_content() -> dict[str, object]:
    """`coco_content` with persons' keypoints, of which every IoU type can be scored."""
    content = coco_content()
    content["annotations"][0]["segmentation"].pop()  # of two points
    content["annotations"][2]["segmentation"] = [[1, 1, 6, 1, 6, 6, 1, 6]]
    for annotation in content["annotations"]:
        annotation |= {"keypoints": _POINTS, "num_keypoints": sum(value > 0 for value in _POINTS[2::3])}
    return content


def _rows() -> list[dict[str, object]]:
    shared = {"segmentation": {"size": [30, 40], "counts": [100, 300, 800]}, "keypoints": _POINTS}
    return [
        {"image_id": 4, "category_id": 7, "score": 0.9, "bbox": [2, 3, 10, 20], **shared},
        {"image_id": 9, "category_id": 3, "score": 0.1, "bbox": [1, 1, 5, 5], **shared},
    ]


if __name__ == "__main__":
    main()
