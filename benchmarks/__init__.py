"""Measure one claim a script: ``run.py bench NAME`` says whether its bars hold.

``results/`` keeps figures, those of benches that are gone with the commit at which they stood
(``bench_stood_at``).

Scripts import ``support/``, ``tools`` and the core, never each other; only ``tests/benchmarks``
imports them."""
