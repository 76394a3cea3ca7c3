"""The evaluation of data in the COCO layout."""
