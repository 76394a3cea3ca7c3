"""Temporary: the converter grows here."""

from transfer.names import detectron2_name, torchvision_name

__all__ = ["detectron2_name", "torchvision_name"]
