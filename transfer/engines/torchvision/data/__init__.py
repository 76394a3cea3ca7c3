"""Dataset records to padded batches, with Detectron2's augmentations."""
