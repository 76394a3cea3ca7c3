"""Faults in Cityscapes' instance segmentation."""

from tests.architecture.mutations.fault import fault

_AP = "transfer/evaluation/cityscapes/test_ap.py"
_DATA = "transfer/data/cityscapes/test_dataset.py"

FAULTS = (
    fault(
        "cityscapes-overlap",
        "transfer/evaluation/cityscapes/matching.py",
        "matched = overlaps > threshold",
        "matched = overlaps >= threshold",
        "an IoU of exactly the threshold is a match",
        f"{_AP}::test_an_overlap_has_to_exceed_the_threshold",
    ),
    fault(
        "cityscapes-ties",
        "transfer/evaluation/cityscapes/ap.py",
        "found.scores[1:] != found.scores[:-1]",
        "found.scores[1:] == found.scores[1:]",
        "detections of one score make several points",
        f"{_AP}::test_detections_of_one_score_make_one_point",
    ),
    fault(
        "cityscapes-groups",
        "transfer/evaluation/cityscapes/matching.py",
        "np.where(matched, targets < 0, shares > threshold)",
        "np.where(matched, False, shares > threshold)",
        "a detection on a group is false",
        f"{_AP}::test_groups_small_objects_and_void_are_ignored",
    ),
    fault(
        "cityscapes-order",
        "transfer/data/cityscapes/visible_parts.py",
        "for outline in reversed(outlines):",
        "for outline in outlines:",
        "objects lie under those drawn before them",
        f"{_DATA}::test_a_later_object_hides_an_earlier_one",
    ),
    fault(
        "cityscapes-deleted",
        "transfer/data/cityscapes/polygon_file.py",
        '    if "deleted" in item:',
        '    if "removed" in item:',
        "deleted objects are trained on",
        f"{_DATA}::test_deleted_objects_and_licence_plates_hide_nothing",
    ),
)
