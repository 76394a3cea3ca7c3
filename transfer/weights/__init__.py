"""Pretrained files of many origins, and Detectron2's names for their tensors."""
