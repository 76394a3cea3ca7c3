"""Hangs that end: where a run comes no further, all of its processes write their stacks and end."""
