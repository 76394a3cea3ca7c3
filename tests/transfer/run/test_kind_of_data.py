"""A detector learns from objects, a model of semantic segmentation from label maps: the other data are refused."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from transfer.errors import TransferError
from transfer.run.options import RunOptions
from transfer.run.plan import plan_run


def options(root: Path, output: Path, *overrides: str) -> RunOptions:
    config = ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"
    words = ("OUTPUT_DIR", str(output), *overrides)
    return RunOptions(config, words, engine="torchvision", dataset_root=root, init="random", seed=0)


def test_a_detector_does_not_learn_from_label_maps(shared_data: Path, tmp_path: Path) -> None:
    names = ("DATASETS.TRAIN", "['voc_2012_sem_seg_train']", "DATASETS.TEST", "['voc_2012_sem_seg_val']")
    with pytest.raises(TransferError, match=r"GeneralizedRCNN: a detector learns .*has label maps; use a recipe of"):
        plan_run(options(shared_data / "voc_seg_from_coco", tmp_path / "run", *names))
    assert not (tmp_path / "run").exists()
