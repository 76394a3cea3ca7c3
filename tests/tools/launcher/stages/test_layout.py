"""tools/launcher/stages/build.py: a wrong --dataset-root is found before a job has waited for its turn."""

from pathlib import Path

from launcher.cluster.resources import Resources
from launcher.stages.build import layout_faults
from launcher.stages.options import FinetuneOptions
from launcher.stages.stage import Stage
from tests.conftest import ROOT
from transfer.run.options import RunOptions

CONFIG = ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml"


def faults(root: Path) -> list[str]:
    run = RunOptions(CONFIG, engine="torchvision", dataset_root=root)
    trials = [Stage(name, FinetuneOptions(run), name, f"{name}/result.json", Resources()) for name in ("0", "1")]
    return layout_faults(trials)


def test_a_folder_without_the_data_is_told_once_as_the_job_would(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"{tmp_path}: holds neither VOC2007/ nor VOCdevkit/VOC2007/")
    assert faults(tmp_path / "not on this machine") == []
    (tmp_path / "VOCdevkit/VOC2007").mkdir(parents=True)
    (tmp_path / "VOCdevkit/VOC2012").mkdir(parents=True)
    assert faults(tmp_path) == []
