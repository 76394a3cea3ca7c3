"""The parts that both engines share around their training loops."""
