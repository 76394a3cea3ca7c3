"""The conversion of a pretrained file to a backbone, and the check of the result by an independent network."""
