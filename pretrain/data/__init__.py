"""The two augmented views of each image, in an order that a resumed run repeats."""
