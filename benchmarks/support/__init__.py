"""Shared parts of benches: how results are kept, peak memory, the checks behind `run.py fidelity`,
workers."""
