#!/usr/bin/env python3
"""EgoX: the one front door. Needs nothing but Python itself.

    python3 run.py demo [--take FOLDER] [--frames N] [--size PX] [--steps N] [--keep-server]
    python3 run.py test [--all] [--browser [--screenshots]] [pytest arguments]
    python3 run.py test --host VERSION | --frontend VERSION [pytest arguments]
    python3 run.py ui
    python3 run.py bench NAME [arguments]
    python3 run.py make workflows | texts | help | sample | standins [arguments]
    python3 run.py prior | fidelity | train-demo [arguments]
"""

import sys

# Before any other import: what follows is written for Python 3.10 and would fail with a riddle on older ones.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(f"EgoX needs Python 3.10 or newer; this is {sys.version_info[0]}.{sys.version_info[1]} "
             f"({sys.executable}).\nRun it with a newer one, for instance: python3.12 run.py demo")

from tools.setup.commands import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
