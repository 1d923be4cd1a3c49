"""Read lists of clips to prepare, in the authors' formats or written by users.

The authors' entries know cameras, poses and caption; their tables (``task_name``, ``frame_range``,
``split``) and one's own lists name clips alone, whose cameras the dataset's annotations have. One's
own: a JSON ``{"clips": [{"take", "camera", "first", "last", "split", "caption"}, ...]}`` or a table
with these columns, of which take, first and last are needed; frames are counted from 0, ``last`` is
the clip's last frame."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from egox_core.errors import NO_NUMBERS, EgoXInputError, intact
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import read_json
from egox_core.takes import (
    LIST_KEYS,
    MAX_META_BYTES,
    differing_keys,
    listed_takes,
    parse_meta,
    take_name,
)

from ..options import Split

CLIP_NAME_PATTERN = re.compile(r"(.+)_(\d+)_(\d+)")
"""A clip of the authors: take, first and last frame."""
SPLITS: Mapping[str, Split] = {
    **dict(zip(LIST_KEYS, ("train", "validation", "test"), strict=True)),
    **{"train": "train", "seen": "validation", "val": "validation", "validation": "validation"},
    **{"unseen": "test", "test": "test"},
}
"""Our splits, by a list's key or a table's word."""
MAX_TABLE_BYTES = 64 * 2**20


@frozen
class ListedClip:
    """Clip that is listed in a file: its take, exo camera, frames and split."""

    take: str
    first_frame: int
    last_frame: int
    camera: str = ""  # "": the one that the dataset's annotators chose
    split: Split | None = None
    caption: str = ""
    # an entry of the authors' lists, which has cameras and poses
    entry: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the clip in the form that the authors' lists use."""
        return f"{self.take}_{self.first_frame}_{self.last_frame}"


def read_clip_lists(
    files: Sequence[Path],
    skipped: list[tuple[str, str]],
    progress: Progress = no_progress,
) -> list[ListedClip]:
    """Read the clips of all list files without duplicates, and report invalid entries in
    ``skipped``.

    Raises:
        EgoXInputError: a file that is none of these lists, no clip in any.
    """
    clips: dict[tuple[str, str, int, int], ListedClip] = {}
    for file in files:
        read_file = _clips_of_table if file.suffix.lower() == ".csv" else _clips_of_json
        for row_number, clip in read_file(file, progress):
            if isinstance(clip, str):
                skipped.append((f"{file.name}, {row_number}", clip))
                continue
            key = clip.take, clip.camera, clip.first_frame, clip.last_frame
            if key in clips:
                differing_names = differing_keys(clips[key].entry or {}, clip.entry or {})
                difference_text = (
                    f", as first listed: {', '.join(differing_names)} differ"
                    if differing_names
                    else ""
                )
                skipped.append(
                    (clip.name, f"listed again in {file.name}: prepared once{difference_text}")
                )
            clips.setdefault(key, clip)
    if not clips:
        raise EgoXInputError(
            "--clips",
            got=f"no clip in {', '.join(file.name for file in files)}",
            expected="at least one clip",
            fix=f"first reason: {skipped[0][1]}" if skipped else "give another list",
        )
    return list(clips.values())


def _clips_of_json(file: Path, progress: Progress) -> Iterator[tuple[str, ListedClip | str]]:
    list_content = read_json(file, "list of clips", MAX_META_BYTES)
    entries = listed_takes(list_content)
    list_keys = list_content if isinstance(list_content, dict) else {}
    if isinstance(entries, list):
        split_name = SPLITS[next(key for key in LIST_KEYS if key in list_keys)]
        for entry_number, entry in enumerate(entries):
            progress(entry_number, len(entries), f"entries of {file.name} checked")
            name = take_name(entry) if isinstance(entry, dict) else ""
            yield name or f"entry {entry_number}", _clip_of_entry(entry, split_name, file)
    elif isinstance(list_keys.get("clips"), list):
        for entry_number, entry in enumerate(list_keys["clips"]):
            is_object = isinstance(entry, dict)
            yield (
                f"clip {entry_number}",
                _clip_of_row(entry) if is_object else "no object with take, first and last",
            )
    else:
        raise _list_error(file, f"keys {sorted(list_keys)[:8]}")


def _clip_of_entry(entry: object, split: Split, file: Path) -> ListedClip | str:
    """Parse a clip from an entry of the authors' lists, or explain why it can't be used."""
    name_match = CLIP_NAME_PATTERN.fullmatch(take_name(entry)) if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or name_match is None:
        return "no exo_path in a folder <take>_<first frame>_<last frame>"
    try:
        ego_path = parse_meta(entry, file).ego
    except EgoXInputError as error:
        return str(error)
    poses = 0 if ego_path is None else len(ego_path.w2c)
    frames = int(name_match[3]) - int(name_match[2]) + 1
    if poses != frames:
        return f"{poses} ego poses for {frames} frames"
    return ListedClip(
        take=name_match[1],
        first_frame=int(name_match[2]),
        last_frame=int(name_match[3]),
        camera=str(entry.get("best_camera") or ""),
        split=split,
        caption=str(entry.get("prompt") or ""),
        entry=entry,
    )


def _clips_of_table(file: Path, progress: Progress) -> Iterator[tuple[str, ListedClip | str]]:
    progress(0, 1, f"{file.name} read")
    with intact(f"list of clips {file.name}", (UnicodeDecodeError,), expected="text in UTF-8"):
        if file.stat().st_size > MAX_TABLE_BYTES:
            raise _list_error(file, "a table of over 64 MB")
        rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
    for line_number, row in enumerate(rows, 2):
        row_cells = {(key or "").strip(): (value or "") for key, value in row.items() if key}
        if "task_name" in row_cells and "frame_range" in row_cells:
            frames = re.findall(r"\d+", row_cells["frame_range"])
            name = row_cells["task_name"].strip()
            name_match = CLIP_NAME_PATTERN.fullmatch(name)
            if (
                len(frames) == 2
                and name_match is not None
                and [name_match[2], name_match[3]] == frames
            ):
                name = name_match[1]
            row_cells = {
                **row_cells,
                "take": name,
                **dict(zip(("first", "last"), frames, strict=False)),
            }
        elif line_number == 2 and not {"take", "first", "last"} <= row_cells.keys():
            raise _list_error(file, f"columns {', '.join(row_cells)}")
        yield f"line {line_number}", _clip_of_row(row_cells)


def _clip_of_row(cells: Mapping[str, Any]) -> ListedClip | str:
    """Parse a clip from a row of a user's table, or explain why it can't be used."""
    try:
        first_frame, last_frame = int(cells["first"]), int(cells["last"])
    except (KeyError, *NO_NUMBERS) as error:
        return f"no frames: {error}"
    take, split_name = (str(cells.get(key) or "").strip() for key in ("take", "split"))
    if not take or not 0 <= first_frame <= last_frame:
        return f"take {take!r}, frames {first_frame} to {last_frame}"
    if split_name and split_name.lower() not in SPLITS:
        return f"split {split_name!r}, none of {', '.join(SPLITS)}"
    return ListedClip(
        take=take,
        first_frame=first_frame,
        last_frame=last_frame,
        camera=str(cells.get("camera") or "").strip(),
        split=SPLITS[split_name.lower()] if split_name else None,
        caption=str(cells.get("caption") or ""),
    )


def _list_error(file: Path, problem: str) -> EgoXInputError:
    return EgoXInputError(
        f"list of clips {file.name}",
        got=problem,
        expected=f"a list under one of {LIST_KEYS}, clips under 'clips', or a table with "
        "task_name and frame_range, or take, first and last",
        fix="give the authors' file unchanged, or write your own as docs/paper_table.md has it",
    )
