"""The transfer stage: convert a pretrained backbone, fine-tune, evaluate, report."""
