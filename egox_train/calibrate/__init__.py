"""Two videos that nobody calibrated, and cameras that somebody stated: where the head camera was,
where exo stands, and by how much their clocks differ.

In: a folder with ``ego.mp4`` and ``exo*.mp4``. Out: take folders that ``prepare`` reads, and a
report of what is known how well."""
