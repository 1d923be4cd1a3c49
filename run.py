#!/usr/bin/env python3
"""Run all commands of the repository, with the standard library alone.

python3 run.py demo [--take FOLDER] [--frames N] [--size PX] [--steps N] [--keep-server]
python3 run.py test [--all] [--browser] [pytest arguments]
python3 run.py test --host VERSION | --frontend VERSION [pytest arguments]
python3 run.py ui
python3 run.py bench NAME [arguments]
python3 run.py make workflows | texts | sample | standins | api [arguments]
python3 run.py prior | preview | facts | fidelity | train-demo [arguments]
"""

import sys

# Before any other import: on older Pythons, what follows would fail with a riddle.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        "EgoX needs Python 3.10 or newer; this is {}.{} ({}).\nRun it with a newer one, for "
        "instance: python3.12 run.py demo".format(*sys.version_info[:2], sys.executable)
    )

try:
    from tools.setup.commands import main
except KeyboardInterrupt:
    print("run.py: interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
