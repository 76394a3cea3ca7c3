"""The layers and the arithmetic of boxes that all detectors share."""
