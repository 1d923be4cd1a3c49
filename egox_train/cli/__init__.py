"""Parse command line arguments of ``train_egox.py`` and ``run.py prior``, and print the progress.

In: a command line. Out: one call into the core, a line of result, an exit code. Heavy packages are
imported by the subcommand that needs them.
"""
