"""The published rows of the recipes, and the published data behind the names of data sets."""
