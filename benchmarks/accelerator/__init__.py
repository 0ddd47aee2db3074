"""What decides speed on a GPU or TPU, each part a table: see `python -m benchmarks.accelerator --help`."""
