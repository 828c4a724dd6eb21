"""How fast the losses are, beside named peers on the same machine in the same process: `python -m benchmarks`."""
