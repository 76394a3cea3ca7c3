"""The published checkpoint layout, and the thread that writes it."""
