"""What a pretrained backbone is worth: convert, fine-tune, evaluate, report."""
