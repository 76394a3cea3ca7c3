"""The evaluation of data in the PASCAL VOC layout."""
