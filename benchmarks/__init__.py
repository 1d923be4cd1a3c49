"""One script a claim: ``run.py bench NAME`` measures it and says whether its bars hold; ``results/`` keeps figures.

Scripts import ``support/``, ``tools`` and the core, never each other; only ``tests/benchmarks`` imports them.
"""
