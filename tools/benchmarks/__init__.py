"""The measurements behind docs/measurements: steps, input, whole runs, and their published counterparts."""
