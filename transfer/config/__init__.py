"""Detectron2's configuration vocabulary, and the one place that changes a config."""
