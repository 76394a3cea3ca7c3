"""The pretrained files of many origins, Detectron2's names for their tensors, and their place in a detector."""
