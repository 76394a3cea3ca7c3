"""The pretraining stage, MoCo: images in, checkpoints in the published layout out."""
