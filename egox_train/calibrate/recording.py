"""``calibrate``: one recording of a head camera and fixed ones, to take folders with known
cameras."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from egox_core.cameras import CameraModel, sensor_from_upright
from egox_core.errors import EgoXInputError
from egox_core.exchange import read_trajectory
from egox_core.file_names import VIDEO_SUFFIXES
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import require_folder
from egox_core.trajectory import worn_points
from egox_core.video import VideoInfo, probe_video

from ..data.depth_model import metric_depth, require_metric
from ..fingerprint import fingerprint
from ..options import CalibrateOptions
from ..takes.head_files import all_frames, read_keypoints
from .frames import (
    EGO_SIDE,
    EXO_SIDE,
    nearest_frames,
    picture_size,
    track_poses,
    write_moving,
    write_still,
)
from .lenses import from_colmap, lens_of, to_colmap
from .moving_point import MOST_DEG, SHARE, Place, SolvedCamera, camera_from_point, residual_deg
from .picture_sd import picture_sds
from .results import Outcome, SolvedExo
from .scale import Scale, floor_scale, similarity, upwards
from .sound import Clocks, clocks_by_sound, read_mono, way_sd_s
from .structure import Structure, solve_structure
from .written import WrittenExo, still_depth, write_report, write_takes

EGO, EXO = "ego", "exo"
SHORTEST_S = 8.0
FEWEST_POINTS = 40
"""Of a fixed camera: with fewer it isn't claimed."""
AGREES_DEG = 5.0
"""90 % of the ears, by the path and the camera by pictures, may be off by so much."""
EARS = slice(2, 4)  # of a head's points
ALONE_M = 0.05
"""A head that moves by less (standard deviation) is no target."""
SCAN_S, SCAN_STEP_S = 6.0, 0.1
CLEAR_LAG = 1.3
LEAST_PARALLAX = 0.01
"""0.6 degrees; points are seen to 0.2."""
USUAL_WAY_M = 5.0  # of sound, to a camera whose distance isn't known
LENS_OFF = 0.01
"""Share of its focal length by which a calibrated lens may differ from what pictures say."""
DEPTH_SD = 0.03  # share, of a network's metric depth as a whole
OFTEN = 4  # pictures that show a point, for it to tell the floor


@frozen
class ExoFile:
    """A fixed camera's files."""

    name: str
    video: Path
    info: VideoInfo
    keypoints: Path | None
    depth: Path | None  # metric z depth of its frames


def calibrate(
    folder: Path, out: Path, options: CalibrateOptions, progress: Progress = no_progress
) -> Outcome:
    """Find the cameras of a recording and write its takes into ``out``.

    What is solved by pictures is kept in ``out/work`` and taken up by the next call.

    Raises:
        EgoXInputError: files missing, a recording too short, neither pycolmap nor a path, clocks
            that nothing tells.
    """
    ego_video, exos = find_files(folder)
    ego = probe_video(ego_video)
    for info in (ego, *(exo.info for exo in exos)):
        if info.frame_count / info.fps < SHORTEST_S:
            raise EgoXInputError(
                f"recording {info.name}",
                got=f"{info.frame_count / info.fps:.1f} s",
                expected=f"{SHORTEST_S:g} s or more, of a head that looks around",
                fix="calibrate the whole recording, not a clip of it: in a short one the head "
                "moves too little for the cameras to be known",
            )
    if options.depth_model is not None:
        require_metric(options.depth_model, None)
    notes: list[str] = []
    clocks = {exo.name: _clocks(exo, ego_video, options, progress) for exo in exos}
    structure, ego_lens, poses = None, None, None
    lenses: Mapping[str, CameraModel] = {}
    if options.path is not None:
        poses, ego_lens = _given_path(options, ego, ego_video, notes)
    try:
        structure, lenses = _by_pictures(
            ego_video, ego, exos, clocks, options, out / "work", progress
        )
    except EgoXInputError as error:
        if poses is None:
            raise
        notes.append(f"not by pictures: {error}")
    if structure is not None and parallax(structure) < LEAST_PARALLAX:
        said = "not by pictures: the head turns without moving, so that they tell no distances"
        notes.append(said)
        structure, lenses = None, {}
    if structure is not None:
        notes.extend(_lens_notes(structure, options))
    if structure is None and poses is None:
        raise EgoXInputError(
            "head camera's path",
            got=f"pictures of {ego_video.name} that don't fit together, or of a head that turns "
            "without moving",
            expected="a slow look around and a step aside in a room with things in it, sharp pictures",
            fix="see docs/own_recordings.md; or give --path",
        )
    depth = (
        None
        if structure is None
        else _scale_by_depth(structure, exos, lenses, options, out / "work")
    )
    world = _World.of(structure, poses, ego, ego_video, lenses, options, depth, progress)
    if world.notes:
        notes.extend(world.notes)
    solved = []
    for number, exo in enumerate(exos):
        solved.append(_exo(exo, world, clocks[exo.name], lenses, options))
        progress(number + 1, len(exos), "fixed cameras")
    lens = ego_lens or world.lens
    written = [
        WrittenExo(
            name=each.name,
            video=exo.video,
            info=exo.info,
            w2c=each.w2c,
            lens=each.lens,
            clocks=each.clocks,
            depth=exo.depth,
        )
        for each, exo in zip(solved, exos, strict=True)
        if each.w2c is not None and each.lens is not None and each.clocks is not None
    ]
    takes: tuple[Path, ...] = ()
    if written and world.scale.metres is not None and lens is not None:
        takes = write_takes(
            out,
            folder.resolve().name,
            ego_video,
            ego,
            lens,
            world.w2c,
            written,
            world.points,
            progress,
        )
    outcome = Outcome(
        exos=tuple(solved),
        takes=takes,
        scale=world.scale,
        notes=tuple(notes),
        ego_w2c=world.w2c,
        ego_lens=lens,
    )
    write_report(out, outcome)
    return outcome


def find_files(folder: Path) -> tuple[Path, tuple[ExoFile, ...]]:
    """Find ``ego`` and ``exo*`` videos of a recording, and ``<exo>_keypoints`` and
    ``<exo>_depth.npz`` beside them.

    Raises:
        EgoXInputError: no such folder, one of the two is missing, two of one name.
    """
    require_folder(folder, "recording", "a folder with ego.mp4 and exo.mp4")
    videos = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    ego = [p for p in videos if p.stem.lower() == EGO]
    exo = [p for p in videos if p.stem.lower().startswith(EXO)]
    if len(ego) != 1 or not exo or len({p.stem.lower() for p in exo}) != len(exo):
        raise EgoXInputError(
            f"recording {folder.name}",
            got=", ".join(p.name for p in videos) or "no video",
            expected="ego.mp4 of the head camera, and exo.mp4 (or exo1.mp4, exo2.mp4, ...)",
            fix="rename the videos",
        )
    files = []
    for video in exo:
        beside = (folder / f"{video.stem}_keypoints{end}" for end in (".json", ".npz", ""))
        points = next((p for p in beside if p.exists()), None)
        files.append(
            ExoFile(
                name=video.stem,
                video=video,
                info=probe_video(video),
                keypoints=points,
                depth=depth if (depth := folder / f"{video.stem}_depth.npz").is_file() else None,
            )
        )
    return ego[0], tuple(files)


def _clocks(
    exo: ExoFile, ego_video: Path, options: CalibrateOptions, progress: Progress
) -> Clocks | None:
    if options.offset_s is not None:
        return Clocks(offset_s=options.offset_s, drift=0.0, sd_s=0.02, how="as given")
    progress(0, 1, f"sound of {exo.video.name}")
    one, other = read_mono(exo.video), read_mono(ego_video)
    if one is None or other is None:
        return None
    return clocks_by_sound(one, other)


def _given_path(
    options: CalibrateOptions, ego: VideoInfo, video: Path, notes: list[str]
) -> tuple[np.ndarray, CameraModel]:
    """Read poses of the head camera, upright, for each frame of its video."""
    assert options.path is not None
    plain, _ = lens_of("fisheye", ego.width, ego.height)
    named = options.ego_lens != "free"
    lens = lens_of(options.ego_lens, ego.width, ego.height)[0] if named else plain
    trajectory, said = read_trajectory(options.path, lens, all_frames(ego, video), lens=not named)
    camera = trajectory.ego.camera
    notes.append(f"path of {options.path.name}" + (f", {said.placed}" if said.placed else ""))
    own = camera if camera.stored_size == (ego.width, ego.height) else lens
    w2c = trajectory.ego.upright_w2c.numpy()
    return w2c, own.upright()


def _spans(
    ego: VideoInfo, exos: Sequence[ExoFile], clocks: Mapping[str, Clocks | None]
) -> tuple[range, dict[str, range]]:
    """Find the frames of the head camera, and of each fixed one, that other recordings also cover."""
    ego_s, begin, end = np.asarray(ego.times_s), math.inf, -math.inf
    spans = {}
    for exo in exos:
        times, clock = np.asarray(exo.info.times_s), clocks[exo.name]
        if clock is None:
            spans[exo.name] = range(len(times))
            begin, end = min(begin, ego_s[0]), max(end, ego_s[-1])
            continue
        there = clock.ego_s(times)
        both = np.flatnonzero((there >= ego_s[0]) & (there <= ego_s[-1]))
        if len(both) < SHORTEST_S * exo.info.fps:
            raise EgoXInputError(
                f"recording {exo.video.name}",
                got=f"{len(both) / exo.info.fps:.1f} s that the head camera has, too",
                expected=f"{SHORTEST_S:g} s or more",
                fix="give videos of the same moments",
            )
        spans[exo.name] = range(both[0], both[-1] + 1)
        begin, end = min(begin, there[both[0]]), max(end, there[both[-1]])
    used = np.flatnonzero((ego_s >= begin - 1e-6) & (ego_s <= end + 1e-6))
    return range(used[0], used[-1] + 1), spans


def _by_pictures(
    ego_video: Path,
    ego: VideoInfo,
    exos: Sequence[ExoFile],
    clocks: Mapping[str, Clocks | None],
    options: CalibrateOptions,
    work: Path,
    progress: Progress,
) -> tuple[Structure | None, dict[str, CameraModel]]:
    """Solve pictures with each candidate lens, and return the best solution with its lenses, of the
    small pictures."""
    from .structure import require_pycolmap

    require_pycolmap()
    span, spans = _spans(ego, exos, clocks)
    sources = [ego_video, *(exo.video for exo in exos)]
    ranges = [span, *(spans[exo.name] for exo in exos)]
    marks = [[p.stat().st_size, r.start, r.stop] for p, r in zip(sources, ranges, strict=True)]
    root = work / fingerprint([marks, EGO_SIDE, EXO_SIDE])[:12]
    done = root / "pictures.done"
    if not done.is_file():
        write_moving(ego_video, ego, span, root / EGO, progress)
        for exo in exos:
            write_still(exo.video, exo.info, spans[exo.name], root / exo.name / "still.png")
        done.write_text("", "utf-8")
    pictures = {EGO: sorted(p.name for p in (root / EGO).glob("*.png"))}
    pictures |= {exo.name: ["still.png"] for exo in exos}
    sizes = {EGO: picture_size(ego.width, ego.height, EGO_SIDE)}
    sizes |= {e.name: picture_size(e.info.width, e.info.height, EXO_SIDE) for e in exos}
    best: tuple[tuple, Structure] | None = None
    choices = (("fisheye", "phone"), ("phone", "phone"), ("fisheye", "fisheye"))
    tried = set()
    for ego_kind, exo_kind in choices:
        kind = (
            options.ego_lens if options.ego_lens != "free" else ego_kind,
            options.exo_lens if options.exo_lens != "free" else exo_kind,
        )
        if kind in tried:
            continue
        tried.add(kind)
        lenses = {}
        for name, size in sizes.items():
            lens, free = lens_of(kind[name != EGO], *size)
            lenses[name] = (*to_colmap(lens), free)
        found = solve_structure(root, pictures, lenses, EGO, progress)
        if found is None:
            continue
        points = [len(found.rows.get(f"{exo.name}/still.png", ())) for exo in exos]
        claimed = sum(count >= FEWEST_POINTS for count in points)
        ego_count = sum(name.startswith(f"{EGO}/") for name in found.w2c)
        rank = (ego_count >= 0.5 * len(pictures[EGO]), claimed, ego_count, -found.error_px)
        if best is None or rank > best[0]:
            best = rank, found
    if best is None:
        return None, {}
    structure = best[1]
    lenses = {
        name: from_colmap(model, numbers, *sizes[name])
        for name, (model, numbers) in structure.cameras.items()
    }
    return structure, lenses


def _lens_notes(structure: Structure, options: CalibrateOptions) -> list[str]:
    """Tell of lenses from a file that the pictures contradict."""
    notes = []
    for name, (share, sd) in structure.longer.items():
        if abs(share) > max(LENS_OFF, 3 * sd):
            file = options.ego_lens if name == EGO else options.exo_lens
            notes.append(
                f"lens of {name}: by the pictures its focal length is {abs(share):.1%} "
                f"{'longer' if share > 0 else 'shorter'} (sd {sd:.1%}) than in {Path(file).name}: "
                "is that file of this video's mode, size and crop?"
            )
    return notes


@frozen
class _World:
    """The head camera's path in metres, z up, and the still points."""

    w2c: np.ndarray  # [T, 3, 4] by ego frame
    lens: CameraModel | None  # upright, of the whole ego video
    scale: Scale
    points: np.ndarray  # [P, 3]
    structure: Structure | None
    # world = scale turn structure's + shift
    from_structure: tuple[float, np.ndarray, np.ndarray]
    times_s: np.ndarray  # [T] of the ego video
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        structure: Structure | None,
        given: np.ndarray | None,
        ego: VideoInfo,
        video: Path,
        lenses: Mapping[str, CameraModel],
        options: CalibrateOptions,
        by_depth: tuple[float, float, str] | None,
        progress: Progress,
    ) -> "_World":
        times, notes = np.asarray(ego.times_s), []
        whole = ego.width, ego.height
        lens = None if EGO not in lenses else lenses[EGO].rescale(*whole)
        poses = np.full((len(times), 3, 4), np.nan)
        if structure is not None:
            solved = {
                int(name.split("/")[1].split(".")[0]): (
                    pose,
                    structure.points[structure.rows[name]],
                    structure.pixels[name] - 0.5,
                )
                for name, pose in structure.w2c.items()
                if name.startswith(f"{EGO}/")
            }
            span = range(min(solved), max(solved) + 1)
            poses[span.start : span.stop] = track_poses(
                video, ego, span, lenses[EGO], solved, progress
            )
        same = (1.0, np.eye(3), np.zeros(3))
        if given is not None:
            scale = Scale(
                metres=1.0, sd=0.01, up=_up_of(given), how=f"the path of {_name(options)}"
            )
            if structure is not None:
                both = np.isfinite(poses[:, 0, 0]) & np.isfinite(given[:, 0, 0])
                same = similarity(_centres(poses[both]), _centres(given[both]))
                off = np.linalg.norm(
                    same[0] * _centres(poses[both]) @ same[1].T + same[2] - _centres(given[both]),
                    axis=1,
                )
                notes.append(f"path by pictures and as given: {100 * np.median(off):.1f} cm apart")
            points = np.zeros((0, 3)) if structure is None else structure.points
            return cls(
                w2c=given,
                lens=lens,
                scale=scale,
                structure=structure,
                from_structure=same,
                points=same[0] * points @ same[1].T + same[2],
                times_s=times,
                notes=tuple(notes),
            )
        assert structure is not None
        known = poses[np.isfinite(poses[:, 0, 0])]
        up = upwards(known[:, 0, :3], known[:, 1, :3])
        sure = _often_seen(structure)
        scale = floor_scale(structure.points[sure], _centres(known), up, options.eye_height_m)
        if by_depth is not None:
            metres, sd, how = by_depth
            scale = replace(scale, metres=metres, sd=sd, how=how)
        metres = scale.metres or 1.0
        turn = _turn_to_z(scale.up)
        origin = _centres(known).mean(axis=0)
        shift = -metres * turn @ origin
        moved = np.concatenate([poses[:, :, :3] @ turn.T, metres * poses[:, :, 3:]], axis=2)
        moved[:, :, 3] -= np.einsum("tij,j->ti", moved[:, :, :3], shift)
        return cls(
            w2c=moved,
            lens=lens,
            scale=scale,
            structure=structure,
            from_structure=(metres, turn, shift),
            points=metres * structure.points @ turn.T + shift,
            times_s=times,
        )

    def pose_of(self, w2c: np.ndarray) -> np.ndarray:
        """Bring a pose of the structure here."""
        scale, turn, shift = self.from_structure
        rotation = w2c[:, :3] @ turn.T
        return np.concatenate([rotation, (scale * w2c[:, 3] - rotation @ shift)[:, None]], axis=1)

    def carrier(self) -> Place:
        """Interpolate the head camera between its known poses."""
        known = np.isfinite(self.w2c[:, 0, 0])
        times = self.times_s[known]
        turns = Rotation.from_matrix(self.w2c[known][:, :, :3].transpose(0, 2, 1))
        slerp, centres = Slerp(times, turns), _centres(self.w2c[known])

        def place(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            moments = np.clip(moments, times[0], times[-1])
            where = np.stack([np.interp(moments, times, centres[:, i]) for i in range(3)], axis=1)
            return where, slerp(moments).as_matrix()

        return place


def ears_middle() -> np.ndarray:  # [3] metres
    """Find the ears' middle in the upright axes of a camera worn as Aria glasses."""
    of_sensor = worn_points(torch.eye(3, 4, dtype=torch.float64)[None])[0, EARS].mean(dim=0)
    return (sensor_from_upright(1).T @ of_sensor).numpy()


def _exo(
    exo: ExoFile,
    world: _World,
    clocks: Clocks | None,
    lenses: Mapping[str, CameraModel],
    options: CalibrateOptions,
) -> SolvedExo:
    """Find one fixed camera: by pictures where they show enough, by the head else."""
    whole = exo.info.width, exo.info.height
    name = f"{exo.name}/still.png"
    lens = lenses[exo.name].rescale(*whole) if exo.name in lenses else None
    if lens is None and options.exo_lens not in ("free", "phone", "fisheye"):
        lens, _ = lens_of(options.exo_lens, *whole)
    by_head, why = _by_head(exo, world, clocks, lens)
    if clocks is None and by_head is not None and by_head.solved:
        clocks = Clocks(
            offset_s=by_head.lag_s, drift=0.0, sd_s=by_head.lag_sd_s, how="by the head's path"
        )
    structure = world.structure
    count = 0 if structure is None else len(structure.rows.get(name, ()))
    notes = []
    shown = f"{count} points by pictures, {FEWEST_POINTS} needed" if count else "not by pictures"
    if clocks is None:
        return SolvedExo(
            name=exo.name,
            w2c=None,
            lens=lens,
            clocks=None,
            how=f"the clocks' offset is not known: no sound of one moment, and {why}",
        )
    if structure is not None and count >= FEWEST_POINTS and lens is not None:
        pose = world.pose_of(structure.w2c[name])
        heads = _centres(world.w2c[np.isfinite(world.w2c[:, 0, 0])])
        distance = float(np.median(np.linalg.norm(heads - _centres(pose[None])[0], axis=1)))
        kind = "phone" if options.exo_lens == "free" else options.exo_lens
        _, free = lens_of(kind, *whole)
        sd_units, sd_deg = picture_sds(structure, name, f"{EGO}/", lenses[exo.name], free)
        sd_m = sd_units * world.from_structure[0]
        by_scale = 0.0 if world.scale.metres is None else world.scale.sd * distance
        fits = _ears_off(exo, world, clocks, pose, lens)
        if fits is not None:
            notes.append(f"the ears are off by {fits[0]:.1f} / {fits[1]:.1f} degrees (90 %)")
        if fits is not None and fits[1] > AGREES_DEG:
            return SolvedExo(
                name=exo.name,
                w2c=None,
                lens=lens,
                clocks=clocks,
                how=f"pictures and the wearer's head don't agree ({notes[-1]})",
            )
        if sd_m <= SHARE * distance and sd_deg <= MOST_DEG:
            return SolvedExo(
                name=exo.name,
                w2c=pose,
                lens=lens,
                clocks=_with_way(clocks, distance),
                how=f"by pictures, {count} points",
                sd_m=math.hypot(sd_m, by_scale),
                sd_deg=sd_deg,
                distance_m=distance,
                notes=tuple(notes),
            )
        shown = (
            f"{count} points by pictures tell it to {100 * sd_m / distance:.0f} % of its distance and "
            f"{sd_deg:.1f} degrees (sd) only"
        )
    if by_head is not None and by_head.solved:
        return SolvedExo(
            name=exo.name,
            w2c=by_head.w2c,
            lens=lens,
            clocks=_with_way(clocks, by_head.distance_m),
            how=f"by the wearer's head ({shown})",
            sd_m=by_head.sd_m,
            sd_deg=by_head.sd_deg,
            distance_m=by_head.distance_m,
            notes=(f"ears off by {by_head.residual_deg[0]:.1f} degrees (median)",),
        )
    return SolvedExo(
        name=exo.name,
        w2c=None,
        lens=lens,
        clocks=clocks and _with_way(clocks, USUAL_WAY_M),
        how=f"not known: {shown}, and {why}",
    )


def _by_head(
    exo: ExoFile, world: _World, clocks: Clocks | None, lens: CameraModel | None
) -> tuple[SolvedCamera | None, str]:
    """Solve a camera by the wearer's ears, or say why it can't be solved."""
    if exo.keypoints is None:
        return None, f"there are no key points ({exo.name}_keypoints.json)"
    if lens is None:
        return None, "the lens is not known (--exo-lens)"
    if world.scale.metres is None:
        return None, "the scale is not known"
    known = _centres(world.w2c[np.isfinite(world.w2c[:, 0, 0])])
    if np.sqrt(known.var(axis=0).sum()) < ALONE_M:
        return None, "the head stands still"
    uv, times = _ears(exo)
    if not len(uv):
        return None, "both ears are never seen"
    if clocks is not None:
        moments = clocks.ego_s(times)
        uv, moments = _known_at(world, uv, moments)
        found = camera_from_point(
            lens, uv, moments, world.carrier(), ears_middle(), lag_sd_s=max(clocks.sd_s, 0.02)
        )
    else:
        lags = np.arange(-SCAN_S, SCAN_S + SCAN_STEP_S / 2, SCAN_STEP_S)
        found = camera_from_point(lens, uv, times, world.carrier(), ears_middle(), lags_s=lags)
    if found is None:
        return None, "the head's path doesn't tell it"
    if not found.solved:
        return found, (
            f"the head tells it to {100 * found.sd_m:.0f} cm and {found.sd_deg:.1f} degrees (sd) "
            f"at {found.distance_m:.1f} m only"
        )
    return found, ""


def _ears(exo: ExoFile) -> tuple[np.ndarray, np.ndarray]:
    """Find pixels [N, 2] of the ears' middle where both are seen, and their moments [N]."""
    assert exo.keypoints is not None
    points = read_keypoints(exo.keypoints, all_frames(exo.info, exo.video))
    points = points.resized((exo.info.width, exo.info.height))
    both = points.seen[:, EARS].all(dim=1).numpy()
    uv = points.uv[:, EARS].mean(dim=1).numpy()[both]
    return uv, np.asarray(exo.info.times_s)[: len(both)][both]


def _known_at(world: _World, uv: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave those moments at which the head camera's pose is known."""
    known = np.isfinite(world.w2c[:, 0, 0])
    at = nearest_frames(world.times_s, moments)
    inside = known[at] & (moments >= world.times_s[0]) & (moments <= world.times_s[-1])
    return uv[inside], moments[inside]


def _ears_off(
    exo: ExoFile, world: _World, clocks: Clocks, pose: np.ndarray, lens: CameraModel
) -> tuple[float, float] | None:
    if exo.keypoints is None or world.scale.metres is None:
        return None
    uv, times = _ears(exo)
    uv, moments = _known_at(world, uv, clocks.ego_s(times))
    if len(uv) < 12:
        return None
    place, turn = world.carrier()(moments)
    off = residual_deg(pose, lens, uv, place + turn @ ears_middle())
    return float(np.median(off)), float(np.percentile(off, 90))


def _scale_by_depth(
    structure: Structure,
    exos: Sequence[ExoFile],
    lenses: Mapping[str, CameraModel],
    options: CalibrateOptions,
    work: Path,
) -> tuple[float, float, str] | None:
    """Compare the points that a fixed camera shows with its metric depth: metres of a unit, sd
    (share), in words."""
    shares = []
    for exo in exos:
        name = f"{exo.name}/still.png"
        if len(structure.rows.get(name, ())) < FEWEST_POINTS:
            continue
        if exo.depth is not None:
            depth = still_depth(exo.depth)
        elif options.depth_model is not None:
            frames = range(exo.info.frame_count)
            still = write_still(exo.video, exo.info, frames, work / f"{exo.name}_still.png")
            (of_model,) = metric_depth(options.depth_model, torch.from_numpy(still)[None], None)
            depth = of_model.numpy()
        else:
            continue
        size = lenses[exo.name].stored_size
        scale = np.array([depth.shape[1], depth.shape[0]]) / np.array(size)
        column, row = np.floor(structure.pixels[name] * scale).astype(int).T
        pose = structure.w2c[name]
        z = structure.points[structure.rows[name]] @ pose[2, :3] + pose[2, 3]
        inside = (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0])
        metres = depth[row[inside], column[inside]] / z[inside]
        shares.append(metres[np.isfinite(metres) & (metres > 0)])
    every = np.concatenate(shares) if shares else np.zeros(0)
    if len(every) < FEWEST_POINTS / 2:
        return None
    middle = float(np.median(every))
    spread = 1.48 * float(np.median(np.abs(every - middle))) / middle
    sd = math.hypot(1.25 * spread / math.sqrt(len(every)), DEPTH_SD)
    return middle, sd, f"by exo's metric depth at {len(every)} points, which differ by {spread:.0%}"


def parallax(structure: Structure) -> float:
    """Compare the way of the head camera (standard deviation) with the points' distance
    (median)."""
    own = [pose for name, pose in structure.w2c.items() if name.startswith(f"{EGO}/")]
    if not own:
        return 0.0
    centres = _centres(np.stack(own))
    distance = np.median(np.linalg.norm(structure.points - centres.mean(axis=0), axis=1))
    return float(np.sqrt(centres.var(axis=0).sum()) / max(distance, 1e-12))


def _often_seen(structure: Structure) -> np.ndarray:  # [P] bool
    """Find points that several pictures show: others are off along the sight line."""
    rows = np.concatenate([*structure.rows.values()])
    return np.bincount(rows, minlength=len(structure.points)) >= OFTEN


def _with_way(clocks: Clocks, distance_m: float) -> Clocks:
    if not clocks.how.startswith("by sound"):
        return clocks
    return replace(clocks, sd_s=math.hypot(clocks.sd_s, way_sd_s(distance_m)))


def _centres(w2c: np.ndarray) -> np.ndarray:  # [N, 3, 4] -> [N, 3]
    return -np.einsum("nji,nj->ni", w2c[:, :, :3], w2c[:, :, 3])


def _turn_to_z(up: np.ndarray) -> np.ndarray:  # [3, 3]
    """Give a rotation that takes ``up`` to z."""
    return Rotation.align_vectors([[0.0, 0.0, 1.0]], [up])[0].as_matrix()


def _up_of(w2c: np.ndarray) -> np.ndarray:
    known = w2c[np.isfinite(w2c[:, 0, 0])]
    return upwards(known[:, 0, :3], known[:, 1, :3])


def _name(options: CalibrateOptions) -> str:
    return "" if options.path is None else options.path.name
