"""The path from a data set's records to batches of samples, with Detectron2's augmentations."""
