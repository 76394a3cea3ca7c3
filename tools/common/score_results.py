"""The scores of tools/evaluate.py: result files against ground truth, in COCO or VOC layout."""

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from transfer.data import catalog, own
from transfer.data.common import faults
from transfer.data.common.faults import Findings
from transfer.data.voc import records
from transfer.data.voc.records import VocImage, VocSplit, read_voc_split
from transfer.errors import TransferError
from transfer.evaluation.coco import ap as coco_eval
from transfer.evaluation.coco.results import read_coco_results
from transfer.evaluation.voc import ap as voc_eval
from transfer.evaluation.voc.remarks import voc_remarks
from transfer.evaluation.voc.results import read_voc_results

from .score_tables import print_coco_scores, print_voc_scores


def score_coco(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a COCO results file; return its scores, remarks and the faults of the data by rule."""
    rules = faults.parse_rules(arguments.data_rules)
    findings = Findings(faults.rules_for(rules, masks=arguments.iou_type == "segm"))
    rows = read_coco_results(arguments.results)
    scores = coco_eval.evaluate_coco(arguments.annotations, rows, arguments.iou_type, str(arguments.results), findings)
    return {"iou_type": arguments.iou_type, **scores, "data_faults": findings.counts()}


def score_voc(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a folder of VOC result files by the metric of the year and by both, as `score_coco` does."""
    year = 2007 if "2007" in arguments.dataset_root.resolve().name else 2012
    return _score_split(VocSplit.of(arguments.dataset_root, arguments.split), arguments.split, year, arguments)


def score_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score results on data that are named by path, or by a name of a YAML file, as the functions above do."""
    known = own.read_data_file(arguments.data) if arguments.data else {}
    found = own.find_data(arguments.name, known)
    if found is None:
        raise TransferError(f"{arguments.name}: a built-in name; `voc` and `coco` score on those data, by their paths")
    if found.format == "coco":
        arguments.annotations, arguments.show = found.annotations, print_coco_scores
        return score_coco(arguments)
    arguments.show = print_voc_scores
    split = VocSplit(found.annotations, found.images, found.image_list)
    return _score_split(split, found.name, voc_eval.NEWEST_YEAR, arguments)


def _score_split(split: VocSplit, title: str, year: int, arguments: argparse.Namespace) -> dict[str, Any]:
    findings = Findings(faults.parse_rules(arguments.data_rules))
    asked = None if arguments.classes is None else catalog.parse_class_names(arguments.classes)
    images = read_voc_split(split, findings, asked)
    class_names = asked or _found_classes(images, title)
    split_name = split.image_list.stem if split.image_list else title
    ground_truth = {image.image_id: image.objects for image in images}
    detections, ignored = read_voc_results(arguments.results, class_names, split_name, findings, ground_truth)
    if ignored:
        names = ", ".join(path.name for path in ignored)
        logging.warning("not read, no class that is scored (--classes names them) has such a file: %s", names)
    scores = voc_eval.evaluate_voc(ground_truth, detections, class_names)
    metric = voc_eval.official_metric(year)
    remarks = voc_remarks(ground_truth, detections, scores[metric])
    official = voc_eval.headline(scores[metric])
    return {"metric": metric, **official, **scores, "remarks": list(remarks), "data_faults": findings.counts()}


def _found_classes(images: Sequence[VocImage], split: str) -> tuple[str, ...]:
    """Return the classes that the split shows, with a word where these are a part of VOC's 20."""
    found = records.class_names_in(images)
    if found != records.CLASS_NAMES and set(found) <= set(records.CLASS_NAMES):
        logging.warning(
            "%d of PASCAL VOC's 20 classes occur in %s and are scored; --classes voc scores all 20", len(found), split
        )
    return found
