"""A pretrained file becomes a backbone, and an independent network checks the result."""
