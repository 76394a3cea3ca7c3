"""What both engines share around their training loops."""
