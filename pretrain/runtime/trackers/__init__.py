"""The services that a run is logged to besides its own files: Weights & Biases and MLflow."""
