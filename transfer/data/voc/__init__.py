"""The PASCAL VOC layout: one XML file an image, and lists of the images of a split."""
