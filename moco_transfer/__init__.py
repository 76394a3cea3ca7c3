"""The worth of a MoCo backbone for detection and segmentation: the package that pip installs."""
