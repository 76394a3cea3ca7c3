"""The labels of other tools, read into pictures with objects and written in COCO's or PASCAL VOC's layout."""
