"""Predict the number of clips, disk space and time of a ``prepare`` run."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress

from ..options import DEFAULT_RUN_OPTIONS, DEFAULT_SET_OPTIONS, RunOptions, TrainingSetOptions
from ..parallel import cluster_cpus
from .clip_writer import OpenMaps, make_clip
from .plan import choose_clips
from .planned_run import plan_run
from .prepare_options import PrepareOptions

MEASURED_CLIPS = 2  # clips that are made to tell what all of them take
MEASURED_FRAMES = 5  # first frames of each that are made; time and size count for all of them
FILES_PER_CLIP = 7  # exo, prior, depth, coverage, seen, meta.json, clip.json
FILES_PER_SET = 6  # manifest, report, contact sheet, three splits


@frozen
class PrepareEstimate:
    """Predicted clips, disk space and time of a ``prepare`` run."""

    takes: int
    clips: int
    skipped: int
    files: int
    size_bytes: int
    hours: float
    parallel_clips: int  # clips that are made at the same time
    measured_clips: int  # clips that were made, to tell


def estimate_preparation(
    source: Path,
    options: PrepareOptions,
    set_options: TrainingSetOptions = DEFAULT_SET_OPTIONS,
    run_options: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    progress: Progress = no_progress,
) -> PrepareEstimate:
    """Predict the number of clips, disk space and duration of a ``prepare`` run from a few
    frames.

    Those are made in a folder that is removed again. What a clip takes once counts for each part of
    it, so that time and size are rather too large.

    Raises:
        EgoXInputError: as :func:`.prepare.prepare`; no clip could be made.
    """
    planned_run = plan_run(source, options, set_options, run_options, progress)
    clips = [clip for take_clips in planned_run.clips for clip in take_clips]
    if not clips:
        raise EgoXInputError(
            "prepare",
            got=f"no clip from {len(planned_run.part.takes)} takes",
            expected="at least one clip",
            fix="start without --dry-run and see the reasons",
        )
    clip_bytes, clip_seconds, first_error = [], [], ""
    with tempfile.TemporaryDirectory(prefix="egox-") as folder, OpenMaps() as open_maps:
        for count, clip in enumerate(
            choose_clips(clips, MEASURED_CLIPS, replace(options, draw="spread"), "")
        ):
            device = (
                planned_run.devices[0]
                if planned_run.devices and run_options.engine != "ray"
                else None
            )  # a cluster's aren't here
            frame_count = min(MEASURED_FRAMES, clip.window.frames)
            frame_share = frame_count / clip.window.frames
            clip = replace(
                clip,
                options=replace(clip.options, device=device, frames=frame_count),
                window=replace(clip.window, frames=frame_count),
            )
            start_time_s = time.monotonic()
            try:
                record, _ = make_clip(clip, Path(folder), planned_run.captions, open_maps)
            except EgoXInputError as error:
                first_error = str(error)
                continue
            clip_seconds.append((time.monotonic() - start_time_s) / frame_share)
            clip_bytes.append(
                sum(file.stat().st_size for file in (Path(folder) / record.folder).iterdir())
                / frame_share
            )
            progress(count + 1, MEASURED_CLIPS, "clips measured")
    if not clip_bytes:
        raise EgoXInputError(
            "prepare",
            got=f"none of {MEASURED_CLIPS} clips that could be made; {first_error}",
            expected="clips to measure",
            fix="see the reason",
        )
    # The first one has the models to load, which a run does once.
    seconds_per_clip = sorted(clip_seconds)[(len(clip_seconds) - 1) // 2]
    parallel_clips = min(
        len(clips),
        cluster_cpus()
        if run_options.engine == "ray"
        else max(run_options.workers, len(planned_run.devices), 1),
    )
    files = sum(
        FILES_PER_CLIP + (clip.take.ego_video is not None) + clip.hands.is_file() for clip in clips
    )
    return PrepareEstimate(
        takes=sum(map(bool, planned_run.clips)),
        clips=len(clips),
        skipped=len(planned_run.part.skipped),
        files=files + FILES_PER_SET,
        size_bytes=round(sum(clip_bytes) / len(clip_bytes) * len(clips)),
        measured_clips=len(clip_bytes),
        hours=seconds_per_clip * len(clips) / parallel_clips / 3600,
        parallel_clips=parallel_clips,
    )
