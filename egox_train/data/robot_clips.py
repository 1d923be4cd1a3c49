"""A LeRobot data set of many clips: a folder of takes, or a prepared set with its generated videos, as episodes of one
robot data set."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.file_names import EXO, HANDS, META, SEEN, TRUTH
from egox_core.frozen import frozen
from egox_core.hands import read_hands
from egox_core.progress import Progress, no_progress
from egox_core.robots import RobotSet, SetOptions, camera_fit, make_episode, open_set
from egox_core.sizes import FRAMES_PER_LATENT
from egox_core.stages import prior, scene
from egox_core.take import Take, load_take
from egox_core.types import PointCloud
from egox_core.video import probe_video

from ..options import RobotOptions
from .clip_files import read_all
from .manifest import read_manifest


@frozen
class _Source:
    """One clip: its files, and what a manifest says of it."""

    name: str
    folder: Path
    task: str
    frames: int | None  # None: as many as the video has
    ego: Path
    seen: Path  # classes of its pixels, where they were kept
    generated: bool

    @property
    def files(self) -> tuple[Path, ...]:
        own = (EXO, META, HANDS)
        return (self.ego, *(self.folder / name for name in own if (self.folder / name).is_file()))


def write_robots(options: RobotOptions, progress: Progress = no_progress) -> Iterator[str]:
    """Append every clip that the set doesn't hold yet; a line of words for each.

    Raises:
        EgoXInputError: no clips, what :func:`open_set` refuses; clips that failed are named after all
            others are written.
    """
    sources, failed = list(_sources(options)), {}
    settings = SetOptions(made_by=options.made_by, gpu_hours=options.gpu_hours)
    if options.check:
        for source in sources:
            yield f"{source.name}: {_fit_words(source, progress)}"
        return
    with open_set(options.out, settings) as robots:
        for done, source in enumerate(sources):
            progress(done, len(sources), "episodes")
            try:
                digest = _digest(source, options)
                if robots.holds(source.name, digest):
                    continue
                words = _append(source, options, robots, digest, progress)
                yield f"{source.name}: {words}"
            except EgoXInputError as error:
                failed[source.name] = str(error)
                yield f"{source.name}: left out, {error}"
    if failed:
        raise EgoXInputError(
            "lerobot",
            got=f"{len(failed)} of {len(sources)} clips that failed: {', '.join(failed)}",
            expected="all of them",
            fix="see the messages; the others are in the set, and the same command goes on",
        )


def _sources(options: RobotOptions) -> Iterator[_Source]:
    root, manifest = options.clips, options.clips / "manifest.jsonl"
    if manifest.is_file():
        found = [(r.clip, root / r.folder, r.task, r.frames) for r in read_manifest(manifest)]
    else:
        folders = [root, *sorted(root.iterdir())] if root.is_dir() else []
        found = [(f.name, f, "", None) for f in folders if (f / EXO).is_file()]
    if not found:
        raise EgoXInputError(
            "clips",
            got=f"{root.name!r} without any",
            expected=f"folders with {EXO} and {META}, or a set of `prepare`",
            fix="check the path",
        )
    for name, folder, task, frames in found:
        ego, seen = folder / TRUTH, folder / SEEN
        if options.ego is not None:
            ego, seen = options.ego / f"{name}.mp4", options.ego / f"{name}.{SEEN}"
        yield _Source(
            name=name,
            folder=folder,
            task=task or options.task,
            frames=frames,
            ego=ego,
            seen=seen,
            generated=options.ego is not None,
        )


def _digest(source: _Source, options: RobotOptions) -> str:
    """Of the files, and of what changes an episode's content."""
    digest = hashlib.sha256(repr((options.rectify_deg, options.depth, options.seen)).encode())
    for file in source.files:
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def _append(
    source: _Source, options: RobotOptions, robots: RobotSet, digest: str, progress: Progress
) -> str:
    """Add a clip with all that is asked for; what its checks said."""
    take, frames, size = _take(source, progress)
    fps = robots.rate_for(
        source.name, take.trajectory.times_s, fps=options.fps, resample=options.resample
    )
    exo, ego, points = _pictures(source, take, frames, size, progress)
    fit = camera_fit(points, take.trajectory, ego.float() / 255, source.generated, progress)
    seen = (
        read_all(source.seen, frames, size)[..., 0]
        if options.seen and source.seen.is_file()
        else None
    )
    depth_m = None
    if options.depth or (options.seen and seen is None):
        classes = options.seen and seen is None
        drawn, _ = prior(points, take.trajectory, classes=classes, progress=progress)
        depth_m, seen = drawn.depth_m if options.depth else None, drawn.seen if classes else seen
    detected = None
    if options.detected is not None:
        detected = read_hands(options.detected / f"{source.name}.json")
    camera = take.depth.camera if take.trajectory.exo_camera is None else take.trajectory.exo_camera
    episode = make_episode(
        source.name,
        source.task or take.notes.prompt,
        exo,
        ego,
        take.trajectory,
        camera,
        take.hands,
        fps=fps,
        resample=options.resample,
        generated=source.generated,
        depth_m=depth_m,
        seen=seen,
        detected=detected,
        rectify_deg=options.rectify_deg,
        fit=fit,
        strict=options.strict,
        made_from=digest,
        progress=progress,
    )
    robots.append(episode, progress)
    return f"{len(episode)} frames. {fit.text()}"


def _fit_words(source: _Source, progress: Progress) -> str:
    try:
        take, frames, size = _take(source, progress)
        _, ego, points = _pictures(source, take, frames, size, progress)
        fit = camera_fit(points, take.trajectory, ego.float() / 255, source.generated, progress)
    except EgoXInputError as error:
        return f"can't be read, {error}"
    return fit.text()


def _take(source: _Source, progress: Progress) -> tuple[Take, int, tuple[int, int]]:
    """(take whose ego lens is that of the ego video, frames, size of that video)."""
    info = probe_video(source.ego)
    count = source.frames or min(info.frame_count, probe_video(source.folder / EXO).frame_count)
    size = (info.width, info.height)
    frames = count - (count - 1) % FRAMES_PER_LATENT  # of whole latents, as all clips
    take = load_take(source.folder, frame_count=frames, ego_size=size[1], progress=progress)
    camera = take.trajectory.camera.rescale(*size)
    return replace(take, trajectory=replace(take.trajectory, camera=camera)), frames, size


def _pictures(
    source: _Source, take: Take, frames: int, size: tuple[int, int], progress: Progress
) -> tuple[Tensor, Tensor, PointCloud]:
    """(exo frames, ego frames [T, H, W, 3] uint8, the scene)."""
    exo = take.read_exo(progress)
    points, _ = scene(exo, take.depth, progress=progress)
    return exo, read_all(source.ego, frames, size), points
