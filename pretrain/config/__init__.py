"""The schema of every setting, and the YAML and KEY VALUE grammar that fills it."""
