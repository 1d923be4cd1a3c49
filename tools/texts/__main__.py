"""Write or check the nodes' texts in the translation files.

The English locale is written, what the translations lack is printed; with ``--check`` nothing is
written. Missing translations are no error; where English has changed or no longer has a text, the
exit code is 1 until it is translated anew or deleted."""

import argparse
import sys

from . import locales
from .node_schemas import pack_schemas


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="run.py make texts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    may_write = not parser.parse_args(arguments).check
    schemas = pack_schemas()
    missing_lines, outdated_lines = locales.renew(schemas, may_write)
    print(
        "\n".join([*missing_lines, *outdated_lines]) or f"{len(schemas)} nodes, all texts complete"
    )
    return 1 if outdated_lines else 0


if __name__ == "__main__":
    sys.exit(main())
