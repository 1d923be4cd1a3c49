"""Shared code of the benchmarks: result files, peak memory, the comparisons of `run.py fidelity`,
and worker processes."""
