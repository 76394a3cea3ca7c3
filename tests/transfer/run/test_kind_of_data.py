"""A detector learns from objects, a model of semantic segmentation from label maps: the other data are refused."""

import dataclasses
import shutil
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


def test_label_maps_that_are_trained_on_are_not_tested_on(shared_data: Path, tmp_path: Path) -> None:
    names = ("DATASETS.TRAIN", "['voc_2012_sem_seg_trainval']", "DATASETS.TEST", "['voc_2012_sem_seg_val']")
    root = shutil.copytree(shared_data / "voc_seg_from_coco", tmp_path / "data")
    lists = root / "VOC2012/ImageSets/Segmentation"
    trained, tested = ((lists / f"{split}.txt").read_text().split() for split in ("train", "val"))
    (lists / "trainval.txt").write_text("\n".join([*trained[:2], *tested[:2]]))
    given = dataclasses.replace(
        options(root, tmp_path / "run", *names), config_file=ROOT / "configs/transfer/voc_r18_fcn32s_cpu.yaml"
    )
    with pytest.raises(TransferError, match=r"2 of 10 test images are training images too .*the mIoU would not tell"):
        plan_run(given)


def test_a_model_of_label_maps_does_not_learn_from_objects(scenes: Path, tmp_path: Path) -> None:
    names = ("DATASETS.TRAIN", "['coco_2017_train']", "DATASETS.TEST", "['coco_2017_val']")
    given = dataclasses.replace(
        options(scenes, tmp_path / "run", *names), config_file=ROOT / "configs/transfer/voc_r18_fcn32s_cpu.yaml"
    )
    with pytest.raises(TransferError, match=r"SemanticSegmentor: it learns the class of every pixel, and coco_2017_tr"):
        plan_run(given)
