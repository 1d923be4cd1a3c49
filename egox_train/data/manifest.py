"""Read and write manifests of clips, and split takes into train, validation and test.

A take's split is the dataset's own, or follows from its room's name alone (the take's, where no
room is known): no room leaks and a new take never moves an old one. Each name is hashed to a number
in [0, 1) and the numbers are cut at fixed places. Only where a set is so small that a split would
stay empty, the takes of one room are put there."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from egox_core.choices import HiddenLines
from egox_core.errors import EgoXInputError, check_choice, intact
from egox_core.safe_files import NO_NAMES, atomic_write

from ..options import Split

logger = logging.getLogger(__name__)
FORMAT = "egox-clip/1"
SUBSTITUTE_DEPTH = "stand-in depth"
DepthSource = Literal["file", "model", "stand-in depth"]
CaptionSource = Literal["file", "source", "model", "none"]
MaskSource = Literal["mask file", "mask model", "depth file", "derived"]
SPLITS = get_args(Split)


class ClipRecord(BaseModel):
    """Entry of one clip in a manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["egox-clip/1"] = FORMAT
    clip: str = Field(min_length=1)
    take: str = Field(min_length=1)
    room: str = ""  # as RawTake's
    task: str = ""
    layout: Literal["egoexo4d", "released", "take"]
    exo_camera: str
    folder: str
    start: int = Field(ge=0)  # first source frame
    step: int = Field(ge=1)
    frames: int = Field(ge=1)
    fps: float = Field(gt=0)
    exo_size: tuple[int, int]  # (width, height) px
    ego_size: tuple[int, int]
    ego_lens: str = ""  # with its focal length in px of ego_size; "": a set of version 1.2 or older
    pictures: Literal["undistorted", "as filmed"]  # of the exo camera
    depth: DepthSource
    depth_scale: dict[str, Any] = Field(
        default_factory=dict
    )  # what the depth was multiplied by, and why; {}: nothing
    # how the exo camera moves, as far as it was asked for, and how well that is known
    exo_motion: dict[str, Any] = Field(default_factory=dict)
    hidden_lines: HiddenLines = "draw"  # of the prior
    moving: MaskSource  # source of the motion mask; derived: guessed from change
    notes: tuple[str, ...] = ()  # what the user should know about how its scene was built
    caption: CaptionSource
    predicted_coverage: float = Field(
        ge=0, le=1
    )  # of the ego view, by which exo cameras were ranked
    rank: int = Field(ge=1)  # of this exo camera within its take, 1 is the best
    coverage: float = Field(ge=0, le=1)  # of the rendered prior, mean over frames
    ground_truth: bool
    files: dict[str, str]  # name -> sha256


def write_manifest(file: Path, records: Iterable[ClipRecord]) -> None:
    """Write a manifest sorted by clip, atomically."""
    lines = [
        json.dumps(r.model_dump(mode="json"), ensure_ascii=False)
        for r in sorted(records, key=lambda r: r.clip)
    ]
    with atomic_write(file) as temporary_file:
        temporary_file.write_text("".join(line + "\n" for line in lines), "utf-8")


def read_manifest(file: Path, check_files: bool = True) -> list[ClipRecord]:
    """Read the clip records of a manifest, and check that their files exist.

    Raises:
        EgoXInputError: missing, empty, a line that doesn't fit the schema (its number is named), a
            clip named twice, a file that is not there.
    """
    if not file.is_file():
        raise EgoXInputError(
            "manifest",
            got=f"{file.name!r}, which is {'a folder' if file.is_dir() else 'not there'}",
            expected="a manifest.jsonl",
            fix="make it with `train_egox.py prepare`, or `join` after `prepare --shard`",
        )
    records: list[ClipRecord] = []
    clip_names: set[str] = set()
    with intact(f"manifest {file.name}", (UnicodeDecodeError,), expected="text in UTF-8"):
        lines = file.read_text("utf-8").splitlines()
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = ClipRecord.model_validate_json(line)
        except ValidationError as error:
            first_error = error.errors()[0]
            raise EgoXInputError(
                f"manifest {file.name}, line {line_number}",
                got=f"{'.'.join(map(str, first_error['loc']))}: {first_error['msg']}",
                expected=f"a record of {FORMAT}",
                fix="run prepare again, or mend the line",
            ) from error
        if record.clip in clip_names:
            raise EgoXInputError(
                f"manifest {file.name}, line {line_number}",
                got=f"clip {record.clip} once more",
                expected="each clip once",
                fix="remove one of the lines",
            )
        clip_names.add(record.clip)
        records.append(record)
        if check_files:
            _check_files(file, record)
    if clips_of_old_version := [
        r.clip for r in records if r.layout == "egoexo4d" and not r.ego_lens
    ]:
        logger.warning(
            "%d clips of Ego-Exo4D, first %s, are of version 1.2 or older: where a take has its "
            "glasses' calibration, their ego lens is 2.27 %% too short. Prepare them again",
            len(clips_of_old_version),
            clips_of_old_version[0],
        )
    if not records:
        raise EgoXInputError(
            "manifest", got="no clip", expected="at least one", fix="see prepare's report.json"
        )
    return records


def read_splits(manifest: Path) -> dict[str, str]:
    """Read the split of each clip from the lists beside the manifest."""
    files = {name: manifest.parent / "splits" / f"{name}.txt" for name in SPLITS}
    return {
        clip: name
        for name, file in files.items()
        if file.is_file()
        for clip in file.read_text("utf-8").split()
    }


def in_splits(records: Sequence[ClipRecord], manifest: Path, split_names: str) -> list[ClipRecord]:
    """Select the manifest records of the named splits, sorted by clip.

    Raises:
        EgoXInputError: no such split, or no clip in them.
    """
    records = sorted(records, key=lambda r: r.clip)
    if not split_names:
        return records
    names, split_of = split_names.split(","), read_splits(manifest)
    for name in names:
        check_choice("split", name, SPLITS)
    records = [r for r in records if split_of.get(r.clip) in names]
    if not records:
        raise EgoXInputError(
            "split",
            got=f"no clip of {split_names}",
            expected="at least one",
            fix="choose a different split, or leave --split out",
        )
    return records


def _check_files(file: Path, record: ClipRecord) -> None:
    with intact(f"clip {record.clip[:120]}", NO_NAMES, expected="names of files"):
        folder = (file.parent / record.folder).resolve()
        missing_files = [name for name in record.files if not (folder / name).is_file()]
    if not folder.is_relative_to(file.parent.resolve()):
        raise EgoXInputError(
            f"clip {record.clip}",
            got=f"folder {record.folder!r}",
            expected="a folder next to the manifest",
            fix="correct the manifest",
        )
    if missing_files:
        raise EgoXInputError(
            f"clip {record.clip}",
            got=f"no file {record.folder}/{missing_files[0]}",
            expected="a whole take",
            fix="run prepare again: it makes missing files",
        )


def split_of(room: str, fractions: Mapping[str, float], seed: int = 0) -> str:
    """Assign all takes of a room to one split, by a hash of the room's name."""
    hash_share = (
        int.from_bytes(hashlib.sha256(f"{seed}:{room}".encode()).digest()[:8], "big") / 2**64
    )
    for name in ("test", "validation"):
        if hash_share < fractions.get(name, 0.0):
            return name
        hash_share -= fractions.get(name, 0.0)
    return "train"


def check_fractions(fractions: Mapping[str, float]) -> Mapping[str, float]:
    """Check that the shares of validation and test leave takes for training.

    Raises:
        EgoXInputError: unknown split, negative, or together 1 or more.
    """
    unknown_names = set(fractions) - {"validation", "test"}
    if unknown_names or any(f < 0 for f in fractions.values()) or sum(fractions.values()) >= 1:
        raise EgoXInputError(
            "split fractions",
            got=dict(fractions),
            expected="validation and test, together under 1",
            fix="for example validation 0.05, test 0.05; the rest is train",
        )
    return fractions


def split_lists(
    clips_of_take: Mapping[str, Iterable[str]],
    fractions: Mapping[str, float],
    seed: int = 0,
    *,
    rooms: Mapping[str, str] | None = None,
    official: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """List the clips of each split, sorted, and avoid empty splits if possible.

    If there are enough rooms, train is filled first, then validation, then test.

    Args:
        rooms: room by take; a take without one is a room of its own.
        official: split by take, where the dataset has one: it counts before the room's.
    """
    rooms, official = rooms or {}, official or {}
    takes: dict[str, dict[str, list[str]]] = {name: {} for name in SPLITS}  # by split and room
    for take in sorted(clips_of_take):
        room_name = rooms.get(take) or take
        takes[official.get(take) or split_of(room_name, fractions, seed)].setdefault(
            room_name, []
        ).append(take)
    splits = [name for name in SPLITS if name == "train" or fractions.get(name, 0.0) > 0]
    for split_index, name in enumerate(splits):
        if takes[name]:
            continue
        # A full one gives a room, else one that is less needed (also one that only the dataset
        # asked for).
        split_order = [
            *splits,
            *(other_split for other_split in SPLITS if other_split not in splits),
        ]
        largest_split = max(
            split_order,
            key=lambda other: (len(takes[other]) > 1, len(takes[other]), split_order.index(other)),
        )
        if len(takes[largest_split]) > 1 or (
            takes[largest_split] and split_order.index(largest_split) > split_index
        ):
            room_name = next(iter(takes[largest_split]))
            takes[name][room_name] = takes[largest_split].pop(room_name)
    return {
        name: sorted(
            clip
            for room_takes in takes_by_room.values()
            for take in room_takes
            for clip in clips_of_take[take]
        )
        for name, takes_by_room in takes.items()
    }
