"""Write the core's messages with a command's flags and with paths as the user typed them."""

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from egox_core import file_names
from egox_core.errors import in_words

FLAGS: Mapping[str, str] = {
    "frame_count": "--frames",
    "leave every_nth at 0": "leave ego.every_nth out",
    "set every_nth ": "give --declare ego.every_nth=",
    "set file_frames to": "give --file-frames",
    "set file_frames:": "give --file-frames",
    "file_frames": "--file-frames",
    "set one_shot": "give --one-shot",
    "draw_anyway": "--draw-anyway",
    "scene_scale": "--scene-scale",
    "fov_deg of stages.align": "--exo-fov",
    "give camera, meta or fov_deg": "declare exo.fov_deg, or state the lens in meta.json",
    "estimate its motion (estimate_exo_motion)": "give --exo-motion auto",
    ", or give the path of another program (given)": "",
    ", or give stages.path a camera": ", or state ego_camera in meta.json (preview: --camera)",
    "convert it with safetensors.torch.save_file: ": "convert it once with: python "
    "tools/convert_to_safetensors.py ",
    ": give stages.path the scene": ": it is taken to be the scene's",
}
TAKE_FILES = {name for name in vars(file_names).values() if isinstance(name, str)}
"""Names that files have in every take's folder."""
LENS_SUFFIXES = ".json", ".jsonl"


def given_paths(name: str, value: Any) -> Iterator[Path]:
    """Find the paths in an argument's value, which may also be words (zeros:8x8, free)."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from given_paths(name, part)
    elif isinstance(value, str):
        is_text_encoder = name == "text" and not value.startswith("zeros:")
        if is_text_encoder or (name.endswith("_lens") and value.endswith(LENS_SUFFIXES)):
            yield Path(value)


def in_flags(message: object, args: argparse.Namespace | None = None) -> str:
    """Write a message of the core with a command's flags, and with the paths of its arguments."""
    text = in_words(str(message), FLAGS)
    return text if args is None else _in_typed_paths(text, args)


def _in_typed_paths(text: str, args: argparse.Namespace) -> str:
    """Put the paths of arguments in the place of their last names.

    The core names no folders, which in a graph are the host's. A name of letters alone may be a
    word of the message, so it counts in quotes. One that several arguments have, or the files of
    every take, may mean another file."""
    typed_paths = {
        path
        for name, value in vars(args).items()
        if name != "out"
        for path in given_paths(name, value)
        if path.name.strip(".")
    }
    names = [path.name for path in typed_paths]
    has_folders = any(path.is_dir() for path in typed_paths)
    for path in typed_paths:
        if names.count(path.name) > 1 or (has_folders and path.name in TAKE_FILES):
            continue
        whole_name = rf"(?<![\w.\\/-]){re.escape(path.name)}(?![\w\\/-]|\.\w)"
        if re.fullmatch("[^\\W\\d_]*", path.name):
            whole_name = f"(?<='){re.escape(path.name)}(?=')"
        text = re.sub(whole_name, lambda _, typed_path=str(path): typed_path, text)
    return text
