"""Write undistorted exo videos, as input for depth or mask tools (``undistort``).

    OUT/<take>__<camera>.mp4    every frame of the source video, in its order, so that maps made of
    it keep its indices OUT/<take>__<camera>.json   the camera that the picture belongs to, and what
    it was made from

Maps that a tool names after them, in a folder of their own, are what ``prepare`` looks for in
``--depth-root`` and ``--mask-root``. Goes on where it stopped."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import clear_leftovers, write_json

from ..fingerprint import fingerprint
from ..options import DEFAULT_RUN_OPTIONS, Layout, RunOptions
from ..parallel import WorkerPlan, make_once, run_all, select_shard
from ..video_writer import write_video
from .exo_pictures import ExoPictures, exo_pictures
from .prepare_options import PrepareOptions
from .raw_take import RawView, SourceLayout
from .sources import list_takes


@frozen
class VideosOutcome:
    """Result of ``undistort``."""

    videos: int
    new: int  # this time; the others were there
    skipped: tuple[tuple[str, str], ...]  # (take or video, why)


@frozen
class _VideoJob:
    """Job for a worker process, which writes one undistorted exo video."""

    name: str  # <take>__<camera>
    view: RawView
    layout: SourceLayout
    out: Path
    options: PrepareOptions
    wait: bool = False  # for another process that makes this very video


def undistort_videos(
    source: Path,
    out: Path,
    options: PrepareOptions,
    layout: Layout = "auto",
    run_options: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    progress: Progress = no_progress,
) -> VideosOutcome:
    """Write the undistorted exo videos of all takes of ``source`` into ``out``.

    Args:
        run_options: its part (i, n) writes every n-th video from the i-th on.

    Raises:
        EgoXInputError: no such source or part, or no video that could be written. One that can't is
            named in the outcome.
    """
    skipped_videos: list[tuple[str, str]] = []
    jobs = [
        _VideoJob(
            name=f"{take.name}__{exo_view.name}",
            view=exo_view,
            layout=take.layout,
            out=out,
            options=options,
        )
        for take in list_takes(source, layout, skipped_videos, options.source_lens)
        for exo_view in take.exos
    ]
    jobs = select_shard(jobs, run_options.part)
    clear_leftovers(out, names={job.name for job in jobs})
    failed_videos, videos = run_all(
        _write_video_once,
        jobs,
        [job.name for job in jobs],
        WorkerPlan(engine=run_options.engine, workers=run_options.workers),
        stage="exo videos",
        progress=progress,
    )
    skipped_videos += failed_videos.items()
    if not videos:
        raise EgoXInputError(
            "undistort",
            got="no video" + (f"; first: {': '.join(skipped_videos[0])}" if skipped_videos else ""),
            expected="at least one exo video",
            fix="see the message; check the source folder",
        )
    new_count = sum(is_new for _, is_new in videos)
    return VideosOutcome(videos=len(videos), new=new_count, skipped=tuple(skipped_videos))


def _write_video_once(job: _VideoJob) -> tuple[Path, bool] | str:
    """Write one undistorted video and its camera file, unless both exist."""
    pictures = exo_pictures(job.view, job.layout, job.options)
    video_file, camera_file = job.out / f"{job.name}.mp4", job.out / f"{job.name}.json"
    camera_json = _camera_json(job, pictures)

    def finished_video() -> Path | None:
        try:
            is_current = (
                video_file.is_file() and json.loads(camera_file.read_text("utf-8")) == camera_json
            )
        except (OSError, ValueError):
            return None
        return video_file if is_current else None

    def write() -> Path:
        camera_file.unlink(missing_ok=True)  # written last, so that it stands for a whole video
        frames = map(
            torch.from_numpy, pictures.decode_pictures(list(range(pictures.info.frame_count)))
        )
        write_video(video_file, frames, pictures.info.fps, quality=job.options.quality, threads=1)
        write_json(camera_file, camera_json)
        return video_file

    return make_once(job.out / job.name, finished_video, write, job.wait)


def _camera_json(job: _VideoJob, pictures: ExoPictures) -> Mapping[str, object]:
    camera = pictures.camera.to_json()
    made_from = [
        camera,
        job.view.exo.camera.to_json(),
        job.view.video.stat().st_size,
        job.options.quality,
    ]
    return {
        "exo_camera": camera,
        "pictures": pictures.kind,
        "frames": pictures.info.frame_count,
        "fps": pictures.info.fps,
        "made_from": fingerprint(made_from),
    }
