"""Parse the arguments of ``train_egox.py`` (``train``, ``data``) and ``run.py prior`` (``prior``),
and print their progress.

In: a command line. Out: one call into the core, a line of result, an exit code. Heavy packages are imported by the
subcommand that needs them.
"""
