"""The worth of a MoCo backbone for detection and segmentation, from Python: a function for each stage of the job."""

from moco_transfer.child import CommandError, run_command
from moco_transfer.results import Backbone, FineTuning, Pretraining, Report, Trial
from moco_transfer.stages import convert_backbone, finetune_detector, pretrain_backbone, write_report

__all__ = [
    "Backbone",
    "CommandError",
    "FineTuning",
    "Pretraining",
    "Report",
    "Trial",
    "convert_backbone",
    "finetune_detector",
    "pretrain_backbone",
    "run_command",
    "write_report",
]
