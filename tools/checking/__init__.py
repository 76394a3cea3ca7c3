"""The sub-commands of tools/check_dataset.py, a module for each kind of data."""
