"""Provide the benchmarks' shared code: result files, memory measurements, numerical comparisons,
and worker processes."""
