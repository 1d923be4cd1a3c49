"""Calibrate recordings of a head camera and fixed cameras: find the head camera's path, the fixed
cameras' poses and the offsets of their clocks. Check the cameras that data sets state.

In: a folder with ``ego.mp4`` and ``exo*.mp4``. Out: take folders that ``prepare`` reads, and a
report of what is known how well."""
