"""Arguments of ``train_egox.py`` (``train``, ``data``) and of ``run.py prior`` (``prior``), and their progress line.

In: a command line. Out: one call into the core, a line of result, an exit code. Heavy packages are imported by the
subcommand that needs them.
"""
