"""Benchmark scripts that each measure one claim: ``run.py bench NAME`` prints the figures and
whether they meet their limits.

``results/`` keeps figures, those of benches that are gone with the commit at which they stood
(``bench_stood_at``).

Scripts import ``support/``, ``tools`` and the core, never each other; only ``tests/benchmarks``
imports them."""
