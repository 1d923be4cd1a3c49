"""Write the files of a training set beside its clips: manifest, splits, report and contact sheet.

manifest.jsonl, splits/<split>.txt, report.json, contact_sheet.png
parts/<i>-of-<n>.json   of a finished ``--shard i/n``: what its clips' own files don't know, for
                        ``join`` to make the four of all parts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from egox_core.errors import EgoXInputError
from egox_core.file_names import EXO, PRIOR, TRUTH
from egox_core.frame_store import sample_frames
from egox_core.remarks import Remark, RemarkKind
from egox_core.safe_files import atomic_write, read_json, visible_files, write_json

from ..contact_sheet import SheetRow, make_contact_sheet, write_png
from .clip_files import middle_picture
from .clip_writer import finished_clips, read_clip_record
from .egoexo4d import NO_TASK
from .manifest import ClipRecord, split_lists, write_manifest
from .prepare_options import PARTS_FOLDER

MOST_WARNINGS = 10
"""Warnings of takes and clips that a run prints; the report has all."""
MANIFEST, REPORT, SHEET_FILE = "manifest.jsonl", "report.json", "contact_sheet.png"
MOST_SHEET_CLIPS, SHEET_PICTURE_HEIGHT = (
    24,
    112,
)  # of the contact sheet: clips shown, px of their pictures
MOST_SHEET_OMITTED_CLIPS = 12  # clips shown that are left out
MAX_PART_BYTES = 2**32


@dataclass(slots=True, kw_only=True)
class Part:
    """Part of a training set that one process prepares."""

    # Options, fractions, split seed and source, number of parts: they are the same for all
    # parts.
    settings: dict[str, Any]
    # Room, split of the dataset, and whether the task is unknown, by the take's name.
    takes: dict[str, dict[str, Any]]
    splits: dict[str, str] = field(default_factory=dict)  # of the clips that a list puts in one
    dark: list[str] = field(default_factory=list)  # clips left out for what their prior covers
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (clip, camera or take, why)
    notes: dict[str, list[str]] = field(default_factory=dict)  # by take
    warnings: dict[str, list[str]] = field(default_factory=dict)  # by take, those of the notes
    facts: dict[str, list[str]] = field(default_factory=dict)  # by take, and by whom
    new: int = 0  # clips made by this call; the others were there
    seconds: float = 0.0
    clips: dict[str, str] = field(default_factory=dict)  # fingerprint by name, of those there

    def official(self, take: str) -> str:
        """Look up the split that the data set itself assigns to a take."""
        return self.takes[take]["split"] or "" if self.settings["splits"] == "official" else ""


def part_file(root: Path, part: tuple[int, int]) -> Path:
    """Build the path of the file that describes part i of n."""
    return root / PARTS_FOLDER / f"{part[0]}-of-{part[1]}.json"


def join_parts(root: Path) -> tuple[Part, list[ClipRecord]]:
    """Join all parts of a training set, and read the records of its clips.

    Raises:
        EgoXInputError: none, some are missing or unfinished, they were made with other settings, or
            a clip isn't there as the part has made it.
    """
    files = visible_files(root / PARTS_FOLDER, "*-of-*.json")
    counts = sorted({file.stem.rpartition("-")[2] for file in files}, key=int)
    if len(counts) != 1:
        raise EgoXInputError(
            "parts",
            got=f"parts of {' and of '.join(counts) or 'no run'}",
            expected="those of one number of parts",
            fix=f"run prepare with --shard I/N for each I; remove old files from {PARTS_FOLDER}",
        )
    joined_part, records, missing_parts = None, [], []
    for index in range(int(counts[0])):
        file = part_file(root, (index, int(counts[0])))
        set_part = _read_part(root, file) if file.is_file() else None
        if set_part is None:
            missing_parts.append(f"{index}/{counts[0]}")
            continue
        part_records = finished_clips(root, set_part.clips)
        if lacking_clips := sorted(set_part.clips.keys() - part_records.keys()):
            raise EgoXInputError(
                "parts",
                got=(
                    f"{len(lacking_clips)} clips of {index}/{counts[0]} that are gone or were made "
                    f"anew since, first {lacking_clips[0]}"
                ),
                expected="the clips of all parts",
                fix="run prepare of that part again",
            )
        records += part_records.values()
        if joined_part is None:
            joined_part = set_part
            continue
        if joined_part.settings != set_part.settings:
            differing_settings = [
                k
                for k in joined_part.settings
                if joined_part.settings[k] != set_part.settings.get(k)
            ]
            raise EgoXInputError(
                "parts",
                got=f"part {index} made with other {', '.join(differing_settings)}",
                expected="one command for all",
                fix="run prepare of that part again",
            )
        joined_part.takes |= set_part.takes
        joined_part.notes |= set_part.notes
        joined_part.facts |= set_part.facts
        joined_part.warnings |= set_part.warnings
        joined_part.splits |= set_part.splits
        joined_part.dark = sorted({*joined_part.dark, *set_part.dark})
        joined_part.skipped = sorted({*joined_part.skipped, *set_part.skipped})
        joined_part.new = joined_part.new + set_part.new
        joined_part.seconds = max(joined_part.seconds, set_part.seconds)
    if joined_part is None or missing_parts:
        raise EgoXInputError(
            "parts",
            got=f"none finished of {', '.join(missing_parts)}",
            expected="all of them",
            fix="run prepare with --shard of those",
        )
    return joined_part, records


def _read_part(root: Path, file: Path) -> Part | None:
    """Read the file of one part of a training set, or return None if the part is unfinished."""
    part_content: Any = read_json(file, "part", MAX_PART_BYTES)
    try:
        if not part_content.pop("finished", True):
            return None
        records = [ClipRecord.model_validate(r) for r in part_content.pop("records", ())]
        set_part = Part(**part_content)
        set_part.skipped = [
            (skipped_item, skip_reason) for skipped_item, skip_reason in set_part.skipped
        ]
        for record in records:
            record_on_disk, fingerprint = read_clip_record(root / "clips" / record.clip)
            set_part.clips[record.clip] = str(fingerprint) if record_on_disk == record else ""
        return set_part
    except (AttributeError, TypeError, ValueError) as error:
        raise EgoXInputError(
            f"part {file.name}",
            got=f"different content ({error})",
            expected="the file that prepare wrote",
            fix="run prepare of that part again",
        ) from error


def write_lists(root: Path, part: Part, records: Sequence[ClipRecord]) -> dict[str, list[str]]:
    """Write the manifest and the lists of splits, and return the lists."""
    clips_by_take: dict[str, list[str]] = {}
    for record in records:
        if record.clip not in part.splits:
            clips_by_take.setdefault(record.take, []).append(record.clip)
    split_clips = split_lists(
        clips_by_take,
        part.settings["fractions"],
        part.settings["split_seed"],
        official={
            take: official_split
            for take in clips_by_take
            if (official_split := part.official(take))
        },
        rooms={take: part.takes[take]["room"] for take in clips_by_take},
    )
    for record in records:
        if record.clip in part.splits:
            split_clips[part.splits[record.clip]].append(record.clip)
    split_clips = {name: sorted(clips) for name, clips in split_clips.items()}
    write_manifest(root / MANIFEST, records)
    for name, clips in split_clips.items():
        with atomic_write(root / "splits" / f"{name}.txt") as temporary_file:
            temporary_file.write_text("".join(c + "\n" for c in clips), "utf-8")
    return split_clips


def write_set_files(root: Path, part: Part, records: Iterable[ClipRecord]) -> tuple[Remark, ...]:
    """Write manifest, splits, contact sheet and report of a complete training set."""
    records = sorted(records, key=lambda r: r.clip)
    split_clips = write_lists(root, part, records)
    _write_sheet(root, records, [read_clip_record(root / "clips" / clip)[0] for clip in part.dark])
    items_by_reason: dict[str, list[str]] = {}
    for skipped_item, skip_reason in sorted(part.skipped):
        items_by_reason.setdefault(skip_reason, []).append(skipped_item)
    take_lines = {take: [*lines] for take, lines in part.notes.items()}
    split_of = {clip: name for name, clips in split_clips.items() for clip in clips}
    for take, take_records in groupby(sorted(records, key=lambda r: r.take), key=lambda r: r.take):
        take_records = list(take_records)
        official_split, actual_split = part.official(take), split_of[take_records[0].clip]
        take_notes = take_lines.setdefault(take, [])
        if official_split not in ("", actual_split):
            take_notes.append(
                f"in {actual_split}, which would be empty; its dataset has it in {official_split}"
            )
        take_notes += merge_equal_notes((r.clip, note) for r in take_records for note in r.notes)
    write_json(
        root / REPORT,
        {
            "clips": len(records),
            "takes": len({r.take for r in records}),
            "splits": {k: len(v) for k, v in split_clips.items()},
            "depth": sorted({r.depth for r in records}),
            "moving": dict(sorted(Counter(r.moving for r in records).items())),
            "dark": len(part.dark),
            "skipped": [
                {"why": skip_reason, "what": skipped_item}
                for skip_reason, skipped_item in sorted(items_by_reason.items())
            ],
            "facts": fold_facts(part.facts),
            "notes": {take: lines for take, lines in sorted(take_lines.items()) if lines},
            "options": part.settings["options"],
            "this_run": {
                "made": part.new,
                "kept": len(records) - part.new,
                "seconds": round(part.seconds, 1),
            },
        },
    )
    takes = sorted({r.take for r in records})
    untimed_takes = [take for take in takes if part.takes[take]["untimed"]]
    lines = []
    if untimed_takes:
        lines.append(
            f"{len(untimed_takes)} of {len(takes)} takes, first {untimed_takes[0]}: {NO_TASK}"
        )
    if part.dark:
        lines.append(
            f"{len(part.dark)} clips are left out for what their prior covers, first "
            f"{part.dark[0]}: see the contact sheet and --least-coverage"
        )
    takes_without_truth = sorted({r.take for r in records if not r.ground_truth})
    if takes_without_truth:
        lines.append(
            f"{len(takes_without_truth)} of {len(takes)} takes have no ego video, first "
            f"{takes_without_truth[0]}: their clips can be generated, but not trained on or "
            "evaluated"
        )
    derived_count = sum(r.moving == "derived" for r in records)
    if derived_count:
        lines.append(
            f"{derived_count} of {len(records)} clips have no mask of what moves, so it was "
            "derived from change, which is poor on real footage: give --mask-root or --mask-model"
        )
    take_warnings = [
        (take, note) for take, take_lines in part.warnings.items() for note in take_lines
    ]
    clip_warnings = [(record.clip, note) for record in records for note in record.notes]
    warnings = [
        merged_line
        for item_notes in (take_warnings, clip_warnings)
        for merged_line in merge_equal_notes(
            (item, note.removeprefix("warning: ")) for item, note in item_notes
        )
    ]
    lines += warnings[:MOST_WARNINGS]
    if len(warnings) > MOST_WARNINGS:
        lines.append(
            f"{len(warnings) - MOST_WARNINGS} more warnings of takes and clips: see {REPORT}"
        )
    return tuple(Remark(line, RemarkKind.WARNING) for line in lines)


def fold_facts(facts_by_take: Mapping[str, Sequence[str]]) -> list[str]:
    """Fold the lines of takes' facts, equal ones into one, those on which sources differ first."""
    takes_by_line: dict[str, list[str]] = {}
    for take, lines in facts_by_take.items():
        for line in lines:
            takes_by_line.setdefault(line, []).append(take)
    total = len(facts_by_take)
    return [
        f"all {total} takes: {line}"
        if len(takes) == total
        else f"{len(takes)} of {total} takes, first {takes[0]}: {line}"
        for line, takes in sorted(
            takes_by_line.items(), key=lambda item: ("; otherwise: " not in item[0], item[0])
        )
    ]


def merge_equal_notes(notes: Iterable[tuple[str, str]], shown_clips: int = 1) -> list[str]:
    """Merge equal notes on different clips into one line that names the first ``shown_clips``."""
    clips_by_note: dict[str, list[str]] = {}
    for clip, note in notes:
        note_text = note.removeprefix(f"{EgoXInputError.__name__}: ")
        clips_by_note.setdefault(note_text, []).append(clip)
    lines = []
    for note_text, clips in clips_by_note.items():
        hidden_count = len(clips) - shown_clips
        more_text = f" and {hidden_count} more" if hidden_count > 0 else ""
        lines.append(f"{', '.join(clips[:shown_clips])}{more_text}: {note_text}")
    return lines


def _write_sheet(root: Path, records: list[ClipRecord], dark: Sequence[ClipRecord]) -> None:
    """Write a contact sheet with one row of pictures per clip."""
    rows = []
    sample_records = [records[index] for index in sample_frames(len(records), MOST_SHEET_CLIPS)]
    for record in (*sample_records, *dark[:MOST_SHEET_OMITTED_CLIPS]):
        label_prefix = "LEFT OUT  " if record in dark else ""
        files = (EXO, PRIOR, TRUTH) if record.ground_truth else (EXO, PRIOR)
        rows.append(
            SheetRow(
                pictures=[
                    middle_picture(root / record.folder / file, record.frames) for file in files
                ],
                labels=[
                    (
                        f"{label_prefix}{record.clip}  prior covers {record.coverage:.0%}, depth: "
                        f"{record.depth}"
                    )
                ],
            )
        )
    write_png(root / SHEET_FILE, make_contact_sheet(rows, SHEET_PICTURE_HEIGHT))
