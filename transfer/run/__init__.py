"""Fine-tuning and evaluation runs, from a command line to result.json."""
