"""One optimiser step, its checks, its optimiser, and the numbers that it leaves."""
