"""Semantic data: images with a label map each, a PNG whose pixels are the indices of classes."""
