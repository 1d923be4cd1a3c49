"""Run a module as ``python -m`` does, but end without a traceback if Ctrl-C stops its imports."""

import runpy
import sys

if __name__ == "__main__":
    try:
        runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # run.py says so
        sys.exit(130)
