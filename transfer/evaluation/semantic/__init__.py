"""The evaluation of label maps: the mean IoU over classes."""
