"""The stages of a run: their typed options, the pipeline file, copies of code and configs, checks of results."""
