"""The detectors, part by part under Detectron2's names."""
