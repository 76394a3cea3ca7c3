"""The parts that scripts share: exit codes, flags, progress bars, picture sheets."""
