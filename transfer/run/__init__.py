"""The runs of fine-tuning and evaluation, from a command line to result.json."""
