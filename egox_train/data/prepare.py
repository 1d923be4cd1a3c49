"""``prepare``: raw takes to a training set; goes on where it stopped, skips what can't be used and
says why."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.remarks import Remark, StageReport
from egox_core.safe_files import clear_leftovers

from ..options import ALONE, PLAIN_SET, RunOptions, TrainingSetOptions
from ..parallel import RemoteModels, RunPlaces, remote_models, run_items, with_failures
from .clip_writer import ClipJob, OpenMaps, make_clip
from .manifest import ClipRecord, read_manifest
from .plan import by_camera
from .planned_run import plan_run
from .prepare_options import PrepareOptions
from .set_files import (
    MANIFEST,
    Part,
    finish,
    join_parts,
    part_file,
    write_lists,
    write_part,
)

KEPT_EVERY_S = 30.0
"""Between two writings of manifest and splits; more where one takes long."""
MAX_ALIKE = 20
"""Failures of the file system of one kind after which nothing more is tried."""
SYSTEM_ERROR = re.compile(r"(\w*Error: \[Errno \d+\] [^:]*)")


@frozen
class ClipsMade:
    """Clips of one camera, made or not."""

    records: tuple[ClipRecord, ...]
    new: int
    skipped: tuple[tuple[str, str], ...]  # (clip, why)


@frozen
class PrepareOutcome(StageReport):
    """Result of ``prepare``, as in its report."""

    clips: int
    new: int  # this time; the others were there
    skipped: int
    manifest: Path  # or the part's file


def prepare(
    source: Path,
    root: Path,
    options: PrepareOptions,
    chosen: TrainingSetOptions = PLAIN_SET,
    how: RunOptions = ALONE,
    *,
    progress: Progress = no_progress,
) -> PrepareOutcome:
    """Prepares all takes of ``source`` into ``root``: clips, manifest, splits, contact sheet,
    report.

    Manifest and splits are there from the first half minute on, so that a run that is ended leaves
    what it finished.

    Args:
        chosen: of its splits ``official`` keeps a take in the split that its dataset puts it in,
            ``rooms`` does not; takes without one are split by room, by its shares.
        how: its part (i, n) prepares every n-th take from the i-th on, for :func:`join` to
            complete.

    Raises:
        EgoXInputError: no such source or nothing usable in it, bad options or captions, a full disk
            or no permission. A bad take or clip never stops the others: it is named in the report.
    """
    started = time.monotonic()
    run, part = plan_run(source, root, options, chosen, how, progress), how.part
    own = run.part
    clear_leftovers(root / "clips")
    # The clips of one exo camera of a take are what a process does at once.
    jobs = [clips for plan in run.plans for clips in by_camera(plan.clips)]
    work = partial(make_clips, root=root, captions=run.captions)
    keeper = _Keeper(root=root, part=own, place=part, jobs=jobs, started_s=started)
    failed: Counter[str] = Counter()
    try:
        with remote_models(how.engine, run.devices) as models:
            devices = run.devices
            if models:
                work, devices = partial(work, device=models), ()
            places = RunPlaces(engine=how.engine, workers=how.workers, devices=devices)
            results = run_items(work, jobs, places)
            for count, (index, result, error) in enumerate(results, 1):
                keeper.done(index)
                if error:
                    first = jobs[index][0]
                    own.skipped.append((f"{first.take.name}__{first.view.name}", error))
                    failed[_kind(error)] += 1
                    if failed[_kind(error)] >= MAX_ALIKE and _kind(error):
                        break
                else:
                    own.records += result.records
                    own.new += result.new
                    own.skipped += result.skipped
                keeper.now_and_then()
                stage = with_failures("cameras prepared", sum(failed.values()))
                progress(count, len(jobs), stage)
    except BaseException:
        with contextlib.suppress(OSError):
            keeper.write()
        raise
    disk = [(what, why) for what, why in own.skipped if _kind(why)]
    if disk:  # a set that lacks clips because of the disk must not look finished
        with contextlib.suppress(OSError):
            keeper.write()
        raise EgoXInputError(
            "prepare",
            got=f"{len(disk)} cameras that could not be written, of {len(jobs)}; first "
            f"{disk[0][0]}: {disk[0][1]}",
            expected="room on the disk, and the right to write",
            fix="mend it and start again: the clips that are done are kept, "
            "and those of the manifest can be used",
        )
    if not own.records and part == (0, 1):
        reason = own.skipped[0][1] if own.skipped else "none"
        raise EgoXInputError(
            "prepare",
            got=f"no clip from {len(own.takes)} takes; first reason: {reason}",
            expected="at least one clip",
            fix="see the reasons; fewer frames fit shorter takes",
        )
    own.finished = True
    if part == (0, 1):
        own.seconds = time.monotonic() - started
        return _outcome(own, root / MANIFEST, finish(root, own))
    keeper.write()
    return _outcome(own, part_file(root, part), ())


def join(root: Path) -> PrepareOutcome:
    """The set of all parts that are in ``root``.

    Raises:
        EgoXInputError: as :func:`.set_files.join_parts`; no clip in any.
    """
    whole = join_parts(root)
    if not whole.records:
        raise EgoXInputError(
            "parts", got="no clip in any", expected="at least one clip", fix="see their reasons"
        )
    return _outcome(whole, root / MANIFEST, finish(root, whole))


def _outcome(part: Part, manifest: Path, notes: tuple[Remark, ...]) -> PrepareOutcome:
    return PrepareOutcome(
        clips=len(part.records),
        new=part.new,
        skipped=len(part.skipped),
        manifest=manifest,
        notes=notes,
    )


@dataclass(slots=True, kw_only=True)
class _Keeper:
    """Writes what is finished while the rest is made."""

    root: Path
    part: Part
    place: tuple[int, int]
    jobs: Sequence[Sequence[ClipJob]]
    started_s: float
    next_s: float = field(init=False)
    waiting: set[str] = field(init=False)  # clips that weren't looked at yet
    before: list[ClipRecord] = field(init=False)  # of an earlier run

    def __post_init__(self) -> None:
        self.next_s = self.started_s + KEPT_EVERY_S
        self.waiting = {clip.name for clips in self.jobs for clip in clips}
        file = self.root / MANIFEST
        self.before = (
            read_manifest(file, check_files=False)
            if file.is_file() and self.place == (0, 1)
            else []
        )

    def done(self, index: int) -> None:
        """The clips of this job are made, or can't be."""
        self.waiting -= {clip.name for clip in self.jobs[index]}

    def now_and_then(self) -> None:
        """Writes, unless it did a moment ago."""
        if time.monotonic() < self.next_s:
            return
        began = time.monotonic()
        self.write()
        self.next_s = time.monotonic() + max(KEPT_EVERY_S, 20 * (time.monotonic() - began))

    def write(self) -> None:
        """Manifest and splits, or the part's file. Clips that weren't looked at again are those of
        the run before."""
        self.part.seconds = time.monotonic() - self.started_s
        if self.place != (0, 1):
            write_part(part_file(self.root, self.place), self.part)
            return
        records = self.part.records + [
            record for record in self.before if record.clip in self.waiting
        ]
        if records:
            write_lists(self.root, self.part, records)


def _kind(error: str) -> str:
    """Of an error of the file system, what is the same for all files; "" of any other."""
    found = SYSTEM_ERROR.match(error)
    return found[1] if found else ""


def make_clips(
    clips: Sequence[ClipJob],
    device: str | RemoteModels | None = None,
    *,
    root: Path,
    captions: Mapping[str, str],
) -> ClipsMade:
    """All clips of one camera; a clip that fails is reported and the next one is made.

    Args:
        device: for the models, instead of the options'.
    """
    records, new, skipped = [], 0, []
    with OpenMaps() as maps:
        for clip in clips:
            if device is not None:
                clip = replace(clip, options=replace(clip.options, device=device))
            try:
                record, is_new = make_clip(clip, root, captions, maps)
            except EgoXInputError as error:
                skipped.append((clip.name, str(error)))
                continue
            records.append(record)
            new += is_new
    return ClipsMade(records=tuple(records), new=new, skipped=tuple(skipped))
