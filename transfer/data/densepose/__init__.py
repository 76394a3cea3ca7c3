"""DensePose-COCO: people with points on the surface of the body, and the files of the body itself."""
