"""What the scripts share: exit codes, flags, progress bars, picture sheets."""
