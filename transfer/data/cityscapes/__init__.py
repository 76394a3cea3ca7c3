"""Data in the layout of Cityscapes."""
