"""The COCO layout: one JSON file of annotations a split."""
