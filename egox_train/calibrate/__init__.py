"""Calibrate recordings of a head camera and fixed cameras: find their poses and synchronise their
clocks.

In: a folder with ``ego.mp4`` and ``exo*.mp4``. Out: take folders that ``prepare`` reads, and a
report of what is known how well."""
