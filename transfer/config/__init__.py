"""The configuration vocabulary of Detectron2, and the one place that changes a config."""
