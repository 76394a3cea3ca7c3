"""The sub-commands of tools/evaluate.py, a module for each kind of data."""
