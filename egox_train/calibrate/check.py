"""``calibrate --check``: whether the cameras that a set states are those of its pictures.

Two measurements, neither of which needs the other. The head camera's turns from frame to frame tell
when its poses are, and whose. Its view of the scene, which exo's pictures and depth make, tells a
constant turn and shift."""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from egox_core.cameras import CameraPath, sensor_from_upright
from egox_core.errors import EgoXInputError
from egox_core.file_names import META, TRUTH
from egox_core.frozen import frozen
from egox_core.metrics import PathViews, exo_turned_error
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import read_json, write_json
from egox_core.stages import scene
from egox_core.take import Take, load_take
from egox_core.takes import MAX_META_BYTES, meta_entry
from egox_core.types import CameraTrajectory, DepthVideo
from egox_core.video import decode_frames, probe_video

from ..data.manifest import read_manifest
from ..data.sources import list_takes
from .deviation import Deviation, path_deviation
from .frames import poses_at
from .robot_episodes import is_robot_set, robot_episodes
from .stated import Stated
from .view_motion import Motion, compare_turns, picture_turns

MOST_TURNS, MOST_VIEWS, DRAWN_VIEWS = 900, 49, 9
"""Frames whose turns are compared; frames that make the scene, and of them those that are drawn."""
LIKE_SCENE, BETTER = 0.65, 0.15
"""Correlation of an ego video with its scene; a mirrored one must be better by so much."""
PATCHES = 60
"""Parts of a picture whose likeness counts as independent."""
SURE = 3.5
"""Standard deviations from which on a camera or a clock is called wrong."""
LEAST_FRAMES, LEAST_DEG, LEAST_M = 1.0, 1.0, 0.02
"""A fault that is smaller doesn't matter."""
AS_STATED = "meta_as_stated.json"
TITLES = ("episode", "sd", "late, frames", "turn, degrees", "shift, cm", "finding")


@frozen
class Row:
    """One episode: what would fit better than what is stated, and how sure that is."""

    name: str
    wrong: bool
    sigmas: float  # by how many standard deviations the largest deviation is not chance
    words: str
    motion: Motion | None = None
    frame_s: float = math.nan
    deviation: Deviation | None = None  # of the head camera against the scene, its lag mended
    of_exo: bool = False  # it is less as a turn and shift of the exo camera
    lag_s: float = 0.0  # that mends the poses
    mendable: bool = False
    folder: Path | None = None

    def cells(self) -> tuple[str, ...]:
        """Format the row's line of the table."""
        late = turn = shift = "-"
        if self.motion is not None and self.motion.lag_known:
            frames, sd = (x / self.frame_s for x in (self.motion.lag_s, self.motion.lag_sd_s))
            late = f"{frames:+.1f} ± {sd:.1f}"
        if (off := self.deviation) is not None:
            turn = f"{off.turn_deg:.1f} ± {off.turn_sd_deg:.1f}"
            shift = f"{100 * off.shift_m:.0f} ± {100 * off.shift_sd_m:.0f}"
        return self.name, f"{self.sigmas:.1f}", late, turn, shift, self.words

    def to_json(self) -> dict[str, object]:
        """Build the row's entry of the report."""
        late, off = self.motion, self.deviation
        return {
            "episode": self.name,
            "wrong": self.wrong,
            "sigmas": self.sigmas,
            "finding": self.words,
            "late_s": None if late is None or not late.lag_known else late.lag_s,
            "late_sd_s": None if late is None or not late.lag_known else late.lag_sd_s,
            "camera": None if off is None else "exo" if self.of_exo else "ego",
            "turn_deg": None if off is None else np.degrees(off.value[:3]).tolist(),
            "turn_sd_deg": None if off is None else off.turn_sd_deg,
            "shift_m": None if off is None else off.value[3:].tolist(),
            "shift_sd_m": None if off is None else off.shift_sd_m,
        }


def check_set(root: Path, write: bool = False, progress: Progress = no_progress) -> tuple[Row, ...]:
    """Check every episode of a set, and list the surest fault first.

    Args:
        write: mend the poses in the ``meta.json`` of take folders whose fault is sure.

    Raises:
        EgoXInputError: no set, none with an ego video, ``write`` with another than take folders.
    """
    stated = tuple(_stated(root, write))
    if not stated:
        raise EgoXInputError(
            "set",
            got=f"no episode with an ego video in {root.name!r}",
            expected="takes, clips or episodes with the wearer's own video",
            fix="give the takes that the set was made from",
        )
    rows = []
    for number, each in enumerate(stated):
        progress(number, len(stated), f"cameras of {each.name}")
        try:
            rows.append(_checked(each, progress))
        except EgoXInputError as error:
            rows.append(Row(name=each.name, wrong=False, sigmas=0.0, words=f"not read: {error}"))
    if write:
        for row in rows:
            if row.wrong and row.mendable and row.folder is not None:
                _mend(row, row.folder)
    return tuple(sorted(rows, key=lambda row: (not row.wrong, -row.sigmas)))


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lay rows out in columns."""
    cells = [TITLES, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(TITLES))]
    for line in cells:
        parts = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        yield "  ".join(parts).rstrip()


def _stated(root: Path, write: bool) -> Iterator[Stated]:
    manifest = root / "manifest.jsonl"
    takes = not manifest.is_file() and not is_robot_set(root)
    if write and not takes:
        raise EgoXInputError(
            "--write",
            got=f"{root.name!r}, which was made from takes",
            expected="take folders",
            fix="mend the takes, and make the set again: its priors follow from the poses",
        )
    if manifest.is_file():
        for record in read_manifest(manifest):
            if record.ground_truth:
                folder = root / record.folder
                yield Stated(
                    name=record.clip,
                    ego_video=folder / TRUTH,
                    folder=folder,
                    frames=record.frames,
                )
        return
    if not takes:
        yield from robot_episodes(root)
        return
    skipped: list[tuple[str, str]] = []
    for take in list_takes(root, "auto", skipped):
        for view in take.exos:
            folder = view.video.parent if take.layout == "take" else None
            name = take.name if len(take.exos) == 1 else f"{take.name}/{view.name}"
            yield Stated(name=name, ego_video=take.ego_video, folder=folder, ego=take.ego)
    for name, why in skipped:
        yield Stated(name=name, ego_video=None, problem=why)


def _checked(stated: Stated, progress: Progress) -> Row:
    if stated.ego_video is None:
        words = stated.problem or "not testable: no ego video"
        return Row(name=stated.name, wrong=False, sigmas=0.0, words=words)
    take, why = None, "no depth"
    if stated.folder is not None:
        try:
            take = _loaded(stated.folder, stated, progress)
        except EgoXInputError as error:
            why = str(error)
    ego = stated.ego
    if ego is None and take is not None:
        ego = take.trajectory.ego
    if ego is None:
        return Row(name=stated.name, wrong=False, sigmas=0.0, words=f"not testable: {why}")
    info = probe_video(stated.ego_video)
    first = stated.first
    posed = min(info.frame_count - first, len(ego))
    times_s = np.asarray(info.times_s[first : first + posed])
    count = min(posed, MOST_TURNS)
    numbers = range(first, first + count)
    upright = ego.upright
    pictures = (picture for _, picture in decode_frames(stated.ego_video, info, numbers))
    turns = picture_turns(pictures, upright.camera.rescale(info.width, info.height), progress)
    w2c = upright.poses(len(ego)).numpy()[:posed]
    motion = compare_turns(turns, times_s[:count], w2c[:count])
    frame_s = float(np.median(np.diff(times_s))) if count > 1 else math.nan
    row = Row(
        name=stated.name,
        wrong=False,
        sigmas=0.0,
        words="",
        motion=motion,
        frame_s=frame_s,
        folder=stated.folder,
    )
    notes, lag_s = [], 0.0
    if motion is None:
        notes.append("its clock is not testable: too few frames with poses")
    elif not motion.told:
        notes.append("the head hardly turns: its clock is not testable")
    elif motion.mirrored:
        words = "mirrored: the head turns to the left in its pictures and to the right in its poses"
        return replace(row, wrong=True, sigmas=motion.strange_sigmas, words=words)
    elif motion.others:
        words = f"other poses: they explain {max(motion.explained, 0):.0%} of the head's turns"
        return replace(row, wrong=True, sigmas=motion.strange_sigmas, words=words)
    elif motion.lag_known:
        sigmas = abs(motion.lag_s) / motion.lag_sd_s
        late = sigmas >= SURE and abs(motion.lag_s) >= LEAST_FRAMES * frame_s
        mendable = late and stated.folder is not None
        row = replace(row, sigmas=sigmas, wrong=late, mendable=mendable)
        if late:
            lag_s = motion.lag_s
            notes.append("late" if lag_s > 0 else "early")
            row = replace(row, lag_s=lag_s)
    else:
        notes.append("its clock is not testable: pictures and poses turn too differently")
    if take is None:
        notes.append(f"turn and shift are not testable: {why}")
    else:
        row, said = _by_view(row, take, stated.ego_video, lag_s, times_s, w2c, progress)
        notes.append(said)
    return replace(row, words="; ".join(notes))


def _loaded(folder: Path, stated: Stated, progress: Progress) -> Take:
    """Read so many frames of a take as make its scene, evenly spaced."""
    info = probe_video(folder / "exo.mp4")
    count = stated.frames or info.frame_count
    fps = 0.0 if count <= MOST_VIEWS else info.fps * MOST_VIEWS / count
    return load_take(
        folder,
        frame_count=None,
        target_fps=fps,
        # A clip of a set was judged when it was made.
        one_shot=stated.frames is not None,
        progress=progress,
    )


def _by_view(
    row: Row,
    take: Take,
    ego_video: Path,
    lag_s: float,
    times_s: np.ndarray,  # [T] of the ego video
    w2c: np.ndarray,  # [T, 3, 4] upright
    progress: Progress,
) -> tuple[Row, str]:
    """Compare the ego video with the scene, its poses' lag mended."""
    info = probe_video(ego_video)
    path = take.trajectory.beside(take.depth.exo)
    indices = path.frames.indices.numpy()
    indices = indices[indices < len(times_s)]
    used = len(indices) - (len(indices) - 1) % 4
    indices = indices[:used]
    if used < 5:
        return row, "turn and shift are not testable: fewer than 5 frames"
    path = replace(path, ego=path.ego.resized(info.width, info.height))
    if lag_s:
        moved = torch.from_numpy(poses_at(times_s, w2c, times_s[indices] + lag_s))
        moved = _sensor(path.ego, moved)
        whole = torch.cat([moved, path.ego.w2c[used:]])
        path = replace(path, ego=replace(path.ego, w2c=whole))
    ego = np.stack([picture for _, picture in decode_frames(ego_video, info, indices.tolist())])
    ego = torch.from_numpy(ego).float() / 255
    if used < len(path):
        ego = torch.cat([ego, ego[-1:].expand(len(path) - used, *ego.shape[1:])])
    exo = take.read_exo(progress)
    deviation, score = _deviation(exo, take.depth, path, ego, progress)
    if score < LIKE_SCENE:
        flipped = replace(take.depth, depth_m=take.depth.depth_m.flip(2))
        ways = (
            ("its own picture", exo, take.depth, ego.flip(2)),
            ("exo's picture", exo.flip(2), take.depth, ego),
            ("exo's picture and depth", exo.flip(2), flipped, ego),
        )
        for what, pictures, depth, video in ways:
            _, other = _deviation(pictures, depth, path, video, progress, search=False)
            if other >= max(LIKE_SCENE, score + BETTER):
                sigmas = (math.atanh(other) - math.atanh(max(score, 0.0))) * math.sqrt(PATCHES)
                words = f"mirrored: {what} ({other:.2f} like the scene, {score:.2f} as stated)"
                return replace(row, wrong=True, sigmas=sigmas, mendable=False), words
    if deviation is None or score < LIKE_SCENE:
        return row, f"turn and shift are not testable: too little like the scene ({score:.2f})"
    as_exo = _as_exo(deviation, path)
    of_exo = _size(as_exo) < _size(deviation)
    shown = as_exo if of_exo else deviation
    sigmas = deviation.sigmas
    wrong = sigmas >= SURE and _matters(shown)
    row = replace(
        row,
        deviation=shown,
        of_exo=of_exo,
        wrong=row.wrong or wrong,
        mendable=row.mendable or wrong,
        sigmas=max(row.sigmas, sigmas),
    )
    words = f"{'exo' if of_exo else 'head'} camera turned or moved" if wrong else "its view fits"
    return row, words


def _deviation(
    exo: Tensor,  # [T, H, W, 3] uint8
    depth: DepthVideo,
    path: CameraTrajectory,
    ego: Tensor,  # [T, h, w, 3] float
    progress: Progress,
    search: bool = True,
) -> tuple[Deviation | None, float]:
    """Measure how far an ego video is off its scene, and how alike they are."""
    points, _ = scene(exo, depth, progress=progress)
    views = PathViews.of(points, path, most=DRAWN_VIEWS, progress=progress)
    error = views.error(ego)
    score = float(error.score.median())
    if score < LIKE_SCENE and search:
        turned = exo_turned_error(points, path, ego, progress)
        if float(turned.score.median()) > max(score, LIKE_SCENE):
            first = np.concatenate(
                [
                    np.radians(turned.turn_deg.nanmedian(0).values.numpy()),
                    turned.shift_m.nanmedian(0).values.numpy(),
                ]
            )
            moved = _sensor(path.ego, torch.from_numpy(_moved(path.ego.upright_w2c.numpy(), first)))
            nearer = replace(path, ego=replace(path.ego, w2c=moved))
            rest, score = _deviation(exo, depth, nearer, ego, progress, search=False)
            return rest and replace(rest, value=_composed(first, rest.value)), score
    return path_deviation(views, ego, error, path), score


def _matrix(value: np.ndarray) -> np.ndarray:  # [6] -> [4, 4]
    """Give the transform of a deviation's turn and shift."""
    turn = Rotation.from_rotvec(value[:3]).as_matrix()
    return np.block([[turn, (turn @ value[3:])[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])


def _moved(w2c: np.ndarray, value: np.ndarray) -> np.ndarray:  # [T, 3, 4]
    """Put a camera's poses where a deviation says that they are."""
    by = _matrix(value)
    turned = by[:3, :3] @ w2c
    turned[:, :, 3] += by[:3, 3]
    return turned


def _composed(first: np.ndarray, then: np.ndarray) -> np.ndarray:  # [6]
    """Give the deviation of two, one after the other."""
    both = _matrix(then) @ _matrix(first)
    turn = both[:3, :3]
    return np.concatenate([Rotation.from_matrix(turn).as_rotvec(), turn.T @ both[:3, 3]])


def _inverse(value: np.ndarray) -> np.ndarray:  # [6]
    """Give the way back."""
    back = np.linalg.inv(_matrix(value))
    turn = back[:3, :3]
    return np.concatenate([Rotation.from_matrix(turn).as_rotvec(), turn.T @ back[:3, 3]])


def _size(off: Deviation) -> float:
    """Compare a turn with a shift: the least of each that matters."""
    return math.hypot(off.turn_deg / LEAST_DEG, off.shift_m / LEAST_M)


def _as_exo(off: Deviation, path: CameraTrajectory) -> Deviation:
    """Turn a deviation of the head camera into that of the exo camera, in exo's own axes."""
    ego_from_exo = path.ego.upright.seen_from(path.known_exo.upright).mean(0).numpy()
    left, _, right = np.linalg.svd(ego_from_exo[:, :3])
    back = (left @ right).T
    x, y, z = ego_from_exo[:, 3]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    change = np.block([[back, np.zeros((3, 3))], [-back @ cross, back]])
    return Deviation(value=change @ off.value, covariance=change @ off.covariance @ change.T)


def _sensor(ego: CameraPath, upright: Tensor) -> Tensor:  # [N, 3, 4]
    """Turn poses of the upright camera into those of its sensor."""
    turn = sensor_from_upright(ego.camera.quarter_turns).to(upright)
    return turn @ upright


def _matters(off: Deviation) -> bool:
    """Check whether a deviation is large enough to mend."""
    return off.turn_deg >= LEAST_DEG or off.shift_m >= LEAST_M


def _mend(row: Row, folder: Path) -> None:
    """Write better poses into a take's meta.json, with the stated ones kept beside it."""
    file = folder / META
    content = read_json(file, META, MAX_META_BYTES)
    entry = meta_entry(content, file)
    if not (folder / AS_STATED).exists():
        shutil.copyfile(file, folder / AS_STATED)
    (take,) = list_takes(folder, "take", [])
    ego, exo = take.ego, take.exos[0].exo
    poses = ego.upright_w2c.numpy()
    if row.lag_s and take.ego_video is not None:
        times = np.asarray(probe_video(take.ego_video).times_s)
        times = np.arange(len(poses)) * row.frame_s if len(times) < len(poses) else times
        times = times[: len(poses)]
        moved = poses_at(times, poses, times + row.lag_s)
        poses = np.where(np.isfinite(poses), moved, poses)
    off = row.deviation
    if off is not None and off.sigmas >= SURE and _matters(off):
        if row.of_exo:
            stated = exo.upright_w2c.numpy()
            better = _moved(stated, _inverse(off.value))
            entry["camera_extrinsics"] = (better[0] if len(better) == 1 else better).tolist()
        else:
            poses = _moved(poses, off.value)
    rows = _sensor(ego, torch.from_numpy(poses)).numpy()
    entry["ego_extrinsics"] = [pose.tolist() if np.isfinite(pose).all() else None for pose in rows]
    write_json(file, content)
