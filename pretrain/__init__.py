"""MoCo pretraining: images in, checkpoints in the published layout out."""
