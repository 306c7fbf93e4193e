"""Benchmarks: `python -m benchmarks NAME` runs one and writes its page below docs/benchmarks."""
