"""List what is taken of a take, and by whom: ``run.py facts TAKE``, ``train_egox.py facts``."""

import argparse
import sys
from pathlib import Path

from egox_core.choices import FileFrames
from egox_core.errors import EgoXInputError
from egox_core.file_names import EXO, META
from egox_core.progress import Progress, no_progress
from egox_core.remarks import facts_text
from egox_core.safe_files import require_there

from ..options import DECLARE_KEYWORDS, FILE_FRAMES_KEYWORDS, declared_of
from .advice import in_flags

FRAMES = 1
"""Frames that are read of a take: what is taken of it is the same for all."""


def main(arguments: list[str] | None = None) -> int:
    """Print the facts of one take from command line arguments, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="run.py facts",
        description="List unit, axes, world, lens and other facts that are taken of a take's "
        "files, and by whom; those on which sources differ come first.",
    )
    parser.add_argument("take", type=Path, metavar="TAKE", help="exo.mp4, depth.npz, meta.json")
    parser.add_argument("--file-frames", **FILE_FRAMES_KEYWORDS)
    parser.add_argument("--declare", **DECLARE_KEYWORDS)
    args = parser.parse_args(arguments)
    try:
        require_there(args.take, "TAKE")
        print(facts_of_take(args.take, args.declare, args.file_frames))
    except (EgoXInputError, OSError) as error:
        print(f"run.py facts: {in_flags(error, args)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # run.py says so
        return 130
    return 0


def facts_of_take(
    folder: Path,
    declare: list[str] | None,
    file_frames: FileFrames = "auto",
    progress: Progress = no_progress,
) -> str:
    """List the facts of a take folder as lines of text.

    Raises:
        EgoXInputError: as :func:`egox_core.take.load_take`.
    """
    from egox_core.take import load_take

    take = load_take(
        folder,
        frame_count=FRAMES,
        declared=declared_of(declare),
        file_frames=file_frames,
        one_shot=True,
        progress=progress,
    )
    return facts_text(take.facts)


def facts_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="a take, a folder of takes, or a set of `prepare`",
    )
    parser.add_argument("--file-frames", **FILE_FRAMES_KEYWORDS)
    parser.add_argument("--declare", **DECLARE_KEYWORDS)


def run_facts(args: argparse.Namespace, progress: Progress) -> int:
    """Print the facts of all takes of a folder, equal ones once.

    Raises:
        EgoXInputError: no take in the folder, or none that can be read.
    """
    from ..data.set_files import fold_facts

    folders = [args.root, *sorted(args.root.glob("*/")), *sorted(args.root.glob("clips/*/"))]
    folders = [folder for folder in folders if all((folder / n).is_file() for n in (EXO, META))]
    facts_by_take, unreadable_takes = {}, []
    for count, folder in enumerate(folders):
        progress(count, len(folders), "takes")
        try:
            facts = facts_of_take(folder, args.declare, args.file_frames)
            facts_by_take[folder.name] = facts.splitlines()
        except EgoXInputError as error:
            unreadable_takes.append(f"{folder.name}: {error}")
    progress(len(folders), len(folders), "takes")
    if not facts_by_take:
        raise EgoXInputError(
            "--root",
            got="; ".join(unreadable_takes[:1]) or f"{str(args.root)!r} without any take",
            expected=f"folders with {EXO} and {META}",
            fix="check the path",
        )
    print(*fold_facts(facts_by_take), sep="\n")
    for reason in unreadable_takes:
        print(f"left out: {reason}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
