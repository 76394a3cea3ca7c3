"""The evaluation of instance segmentation on data in the layout of Cityscapes."""
