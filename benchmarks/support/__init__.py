"""What several benches use: how results are kept, peak memory, the checks behind `run.py fidelity`, workers."""
