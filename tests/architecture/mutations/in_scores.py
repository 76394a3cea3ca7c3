"""Faults in what is measured and reported."""

from tests.architecture.mutations.fault import fault

FAULTS = (
    # evaluation
    fault(
        "voc-inclusive-pixels",
        "transfer/evaluation/voc.py",
        "shared = np.maximum(high - low + 1.0, 0.0)",
        "shared = np.maximum(high - low, 0.0)",
        "VOC AP is lower than Detectron2's",
        "transfer/evaluation/test_voc.py::test_overlap_exceeds_the_threshold_pixels_are_inclusive",
    ),
    fault(
        "voc-eleven-points",
        "transfer/evaluation/voc.py",
        "for point in np.arange(0.0, 1.1, 0.1):",
        "for point in np.arange(0.0, 1.0, 0.1):",
        "VOC 2007 AP leaves out recall 1",
        "transfer/evaluation/test_voc.py::test_exact_detections_score_one",
    ),
    fault(
        "voc-difficult-wrong",
        "transfer/evaluation/voc.py",
        "return true, hit & overlaps.difficult",
        "return true, np.zeros_like(hit)",
        "finding a difficult object costs precision",
        "transfer/evaluation/test_voc.py::test_finding_a_difficult_object_is_neither_right_nor_wrong",
    ),
    fault(
        "coco-area-of-boxes",
        "transfer/evaluation/coco.py",
        'made["area"] = float(pycocotools.mask.area(made["segmentation"]))',
        'made["area"] = detection["bbox"][2] * detection["bbox"][3] if "bbox" in detection else 0.0',
        "APs, APm and APl of masks are not Detectron2's",
        "transfer/evaluation/test_coco.py::test_masks_are_small_or_large_by_their_own_area",
    ),
    fault(
        "coco-id-0",
        "transfer/evaluation/coco.py",
        "    for number, detection in enumerate(detections, start=1):\n",
        "    for number, detection in enumerate(detections):\n",
        "a second detection of the first one's object counts as right",
        "transfer/evaluation/test_coco.py::test_a_second_detection_of_an_object_is_wrong",
    ),
    fault(
        "bootstrap-all-trials",
        "transfer/evaluation/bootstrap.py",
        "size=(max(1, n - 1), resamples))",
        "size=(n, resamples))",
        "intervals are too narrow: differences of chance look real",
        "transfer/evaluation/test_bootstrap.py::test_the_mean_over_drawn_trials_varies_as_a_mean_of_n_does",
    ),
    fault(
        "bootstrap-90-percent",
        "transfer/evaluation/bootstrap.py",
        "[(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]",
        "[1 - CONFIDENCE, CONFIDENCE]",
        "the interval called 95 % is one of 90 %",
        "transfer/evaluation/test_bootstrap.py::test_the_interval_covers_the_true_difference_as_stated",
    ),
    fault(
        "tide-fixes-twice",
        "transfer/evaluation/tide.py",
        "        errors = errors[~self.found[self.objects[errors]]]\n",
        "",
        "an object is found twice when errors are fixed, and dAP is too large",
        "transfer/evaluation/test_tide.py::test_an_error_on_an_object_that_is_found_goes",
    ),
    fault(
        "precision-not-monotone",
        "transfer/evaluation/precision_recall.py",
        "envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]",
        "envelope = precision",
        "the resampled AP is not that of the evaluators",
        "transfer/evaluation/test_bootstrap.py::test_weighted_ap_is_voc_ap_of_the_repeated_test_set",
    ),
    # the report
    fault(
        "report-deviation",
        "transfer/report/tables.py",
        "statistics.stdev(values)",
        "statistics.pstdev(values)",
        "deviations over trials are too small",
        "transfer/report/test_page.py::test_mean_and_sample_deviation",
    ),
    fault(
        "report-delta-sign",
        "transfer/report/tables.py",
        "score.mean - base.scores[key].mean for key",
        "base.scores[key].mean - score.mean for key",
        "a better backbone is reported as a worse one",
        "transfer/report/test_page.py::test_trials_make_a_row_and_deltas_compare_means",
    ),
    fault(
        "report-mixes-configurations",
        "transfer/report/tables.py",
        '        "configuration": task.config_sha256,\n',
        "",
        "runs of different recipes are averaged in one row",
        "transfer/report/test_page.py::test_different_experiments_get_own_tables_and_a_warning",
    ),
)
