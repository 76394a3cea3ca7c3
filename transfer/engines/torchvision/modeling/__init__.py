"""The detectors, each part under its name in Detectron2."""
