"""The evaluation: detections in, AP out, with the breakdown of errors and the bootstrap."""
