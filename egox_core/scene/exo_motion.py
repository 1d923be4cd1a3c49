"""Poses of an exo camera that moves, from the clip's frames and depth, and depth maps that agree
with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from ..cameras.model import CameraModel
from ..errors import EgoXInputError, check_choice
from ..frame_store import store_frames
from ..progress import Progress, no_progress
from ..trajectory.poses import compose, invert, pose_of_frame
from ..types import DepthVideo
from .build import StillMasks, check_scene_input
from .camera_motion import MOVED, camera_motion
from .exo_adjust import Adjusted, adjust
from .exo_tracks import FloatArray, Tracks, find_tracks
from .moving_camera import is_moving

Motion = Literal["auto", "stands", "turns", "moves"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)
AGREES_PX = 3.0
AS_MUCH, AS_MUCH_PX = (
    1.1,
    0.02,
)  # rotations explain as much: so many times the residual, and px more
DOUBTFUL = 1.3  # times, where the travel is so small that a rolling shutter looks like it
LEAST_PARALLAX = 0.005
DEPTH_DOUBT = 0.12  # spread of the points' depth around the maps' from which travel isn't believed
LEAST_AGREE, POOR_AGREE = 0.3, 0.5  # of a clip's matches; of the worst frame's
MAX_LOST = 2  # frames in a row without a pose of their own; poses between are interpolated
LENS_RANGE, LENS_FITS = 0.4, 0.05  # of the focal length's logarithm
LENS_TURN_DEG, LENS_DOUBT, LENS_THINNED = 10.0, 3.0, 3  # deg; times the residual; sightings
SCALE_ROUNDS, SCALE_DONE, SCALE_OFF = 6, 0.002, 0.15  # of the scale's logarithm
LOOSE, KNOWN_POINTS = 1.0, 30.0  # of the points' depth, while the scale is found; their number
TERMS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))  # powers of x and y
TERM_RIDGE, LEAST_ROWS, MEND_SIGMA, MEND_ROUNDS, CONSENSUS_ROUNDS = 3.0, 20, 0.03, 6, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sightings:
    """Points that were found again, for a picture of them; all arrays [M]."""

    frame: FloatArray
    uv: FloatArray  # [M, 2] px
    off_px: FloatArray  # from where the poses put them


@dataclass(frozen=True, slots=True, kw_only=True)
class ExoMotion:
    """An exo camera's motion, and how well it is known."""

    motion: Motion  # never auto
    travel_m: float = 0.0  # farthest from frame 0
    turn_deg: float = 0.0
    matches: int = 0
    agree: float = 1.0  # share of the matches within AGREES_PX
    worst_frame: int = 0
    worst_agree: float = 1.0
    residual_px: float = 0.0  # median
    depth_spread: float = 0.0  # median over frames, relative, after the maps were mended
    shutter: tuple[float, float] = (0.0, 0.0)  # see :class:`exo_adjust.Adjusted`
    fov_deg: float | None = None  # across the picture, where a turn shows another one than assumed
    notes: tuple[str, ...] = ()
    sightings: Sightings | None = None

    def content(self) -> dict[str, object]:
        """The figures as they stand in a report's file."""
        shown = (field.name for field in fields(self) if field.name != "sightings")
        return {name: getattr(self, name) for name in shown}

    def text(self) -> str:
        """The report, a sentence per line."""
        if self.motion == "stands":
            return "\n".join(("the exo camera stands: depth is handed on as it came", *self.notes))
        way = f"{self.travel_m:.2g} m, {self.turn_deg:.0f}°"
        lines = [
            f"the exo camera {self.motion}: {way if self.motion == 'moves' else way.split()[-1]}",
            f"{self.agree:.0%} of {self.matches:,} matches agree, worst frame {self.worst_frame}: "
            f"{self.worst_agree:.0%}; residual {self.residual_px:.2f} px; depth agrees within "
            f"{self.depth_spread:.1%}",
        ]
        if max(map(abs, self.shutter)) > 0.1:
            down, across = self.shutter
            lines.append(
                f"rolling shutter: {down:.0%} of a frame's time down the picture, {across:.0%} "
                "across it"
            )
        return "\n".join((*lines, *self.notes))


def estimate_exo_motion(
    exo_frames: Sequence[Tensor] | Tensor,  # [T, H, W, 3] 0...1 or uint8, of the maps' size
    depth: DepthVideo,
    motion: Motion = "auto",
    given: Tensor | None = None,  # [T, 3, 4] w2c of another program
    metric: bool = True,  # the given path is in metres, in the depth's world
    *,
    progress: Progress = no_progress,
) -> tuple[DepthVideo, ExoMotion]:
    """The depth with a pose per frame and mended maps; the same object where the camera stands.

    Corners (SIFT) outside of the depth's masks are matched to key frames; poses come from their
    depth and are adjusted together with the points, the lens held. auto: rotations alone, where
    they explain as much (with a rolling shutter, or with another lens), or where the travel isn't
    borne out by the depth. A given path, or that of the depth, is checked against the same corners
    and depth.

    Raises:
        EgoXInputError: as :func:`build.build_scene`; a motion that was asked for and can't be
            followed; a given path that disagrees with the pictures, or isn't in metres.
    """
    check_choice("motion of the exo camera", motion, MOTIONS)
    check_scene_input(exo_frames, depth)
    if given is None and is_moving(depth.exo_w2c):
        given = depth.exo_w2c
    masked = depth.dynamic is not None or depth.sky is not None
    masks = StillMasks(depth, "auto") if masked else None
    stands = motion == "auto" and given is None and camera_motion(exo_frames, masks) is None
    if motion == "stands" or stands or len(depth.depth_m) < 2:
        return depth, ExoMotion(motion="stands")
    tracks = find_tracks(exo_frames, depth.depth_m, depth.camera, masks, progress)
    if given is not None:
        return _checked(depth, tracks, given.double(), metric)
    lost = _lost(tracks)
    if lost:
        return _refused(depth, motion, f"{lost} can't be followed")
    size = depth.camera.stored_size
    turned, moved = (
        adjust(tracks, size, turns=turns, progress=progress)
        if motion in ("auto", "turns" if turns else "moves")
        else None
        for turns in (True, False)
    )
    turns, fov, notes = _choose(tracks, turned, moved, depth)
    fit = turned if turns else moved
    assert fit is not None
    if _corner_way(fit, tracks, size) < MOVED * size[0] and turns and motion == "auto":
        return depth, ExoMotion(motion="stands")
    agree = _agree(tracks, fit)
    if agree.mean() < LEAST_AGREE:
        return _refused(depth, motion, f"only {agree.mean():.0%} of the matches agree")
    poses = torch.from_numpy(np.concatenate([*_between(tracks, fit)], 2))
    if depth.exo_w2c is not None:
        poses = compose(poses, pose_of_frame(depth.exo_w2c.double(), 0))
    return _handed_on(replace(depth, exo_w2c=poses), tracks, fit, turns, fov, notes)


def _handed_on(
    depth: DepthVideo,  # with its poses
    tracks: Tracks,
    fit: Adjusted,
    turns: bool,
    fov: float | None,
    notes: tuple[str, ...],
) -> tuple[DepthVideo, ExoMotion]:
    """The depth with mended maps, and the report."""
    agree = _agree(tracks, fit)
    if agree.min() < POOR_AGREE:
        notes += (f"warning: frame {agree.argmin() + 1} is known badly; look at the preview",)
    terms, spread = _mend(_rows(tracks, fit, depth.depth_m), fit, tracks, depth.camera, turns)
    assert depth.exo_w2c is not None
    across = compose(depth.exo_w2c, invert(depth.exo_w2c[0])).numpy()
    found = ExoMotion(
        motion="turns" if turns else "moves",
        travel_m=float(np.linalg.norm(across[:, :, 3], axis=1).max()),
        turn_deg=float(np.degrees(Rotation.from_matrix(across[:, :, :3]).magnitude().max())),
        matches=int(tracks.matched.sum()),
        agree=float(agree.mean()),
        worst_frame=int(agree.argmin()) + 1,
        worst_agree=float(agree.min()),
        residual_px=float(np.median(fit.off_px)),
        depth_spread=spread,
        shutter=tuple(fit.shutter.tolist()),
        fov_deg=fov,
        notes=notes,
        sightings=Sightings(frame=tracks.frame, uv=tracks.uv, off_px=fit.off_px),
    )
    return replace(depth, depth_m=_mended(depth.depth_m, terms)), found


def _checked(
    depth: DepthVideo, tracks: Tracks, given: Tensor, metric: bool
) -> tuple[DepthVideo, ExoMotion]:
    """A given path [T, 3, 4], where the corners and their depth bear it out."""
    if len(tracks.frame) < 3 * len(given):
        if not metric:
            raise EgoXInputError(
                "given path of the exo camera",
                got="nothing in the pictures that can be followed, to scale it by",
                expected="corners that stand still",
                fix="give a path in metres",
            )
        note = "warning: nothing in the pictures can be followed: the given path isn't checked"
        return replace(depth, exo_w2c=given), ExoMotion(motion="moves", notes=(note,))
    across = compose(given, invert(given[0])).numpy()
    way = np.linalg.norm(across[:, :, 3], axis=1).max()
    turns, size, notes = bool(way < 1e-6), depth.camera.stored_size, ()
    scale, doubt = 1.0, None
    if not metric and not turns:
        travel, own = (np.linalg.norm(p - p.mean(0)) for p in (across[:, :, 3], tracks.place))
        scale = float(own / travel)
    tracks = replace(tracks, rotation=across[:, :, :3], place=across[:, :, 3])
    if not turns:
        scale, doubt = _scale(tracks, size, scale)
    if not metric:
        place = scale * torch.from_numpy(tracks.place)[..., None]
        given = torch.cat((torch.from_numpy(tracks.rotation), place), 2)
        if depth.exo_w2c is not None:
            given = compose(given, pose_of_frame(depth.exo_w2c.double(), 0))
        word = (
            "can't be told: it hardly moves"
            if doubt is None
            else f"agrees within {doubt:.1%} over the maps"
        )
        notes += () if turns else (f"scale from the depth: x {scale:.4g}; it {word}",)
        tracks = replace(tracks, place=scale * tracks.place)
    fit = adjust(tracks, size, turns=turns, held=True)
    agree, residual = _agree(tracks, fit), float(np.median(fit.off_px))
    other = metric and doubt is not None and abs(np.log(scale)) > max(SCALE_OFF, 3 * doubt)
    if agree.mean() < POOR_AGREE or other:
        raise EgoXInputError(
            "given path of the exo camera",
            got=f"{agree.mean():.0%} of the matches agree, residual {residual:.1f} px"
            + (f", and the depth has {scale:.2f} times its travel" if other else ""),
            expected="the path of this very clip"
            + (", in the metres of the depth" if other else ""),
            fix="give the path of these very frames, a mask where people fill the picture, or no "
            "path: it is estimated then",
        )
    return _handed_on(replace(depth, exo_w2c=given), tracks, fit, turns, None, notes)


def _scale(tracks: Tracks, size: tuple[int, int], scale: float) -> tuple[float, float | None]:
    """(by how much a path's travel must be multiplied to fit the depth, how far that may be off;
    None: it hardly moves), from a first guess."""
    doubt = None
    for _ in range(SCALE_ROUNDS):
        scaled = replace(tracks, place=scale * tracks.place)
        fit = adjust(scaled, size, turns=False, held=True, sigma=LOOSE)
        if fit.known.sum() < KNOWN_POINTS:
            break
        off = np.log(tracks.depth_m / fit.depth_m)
        step = _weighted_median(off, fit.known)
        scale *= float(np.exp(step))
        of_keys = [
            _weighted_median(off[at], fit.known[at]) - step
            for at in (tracks.home == key for key in np.unique(tracks.home))
        ]
        doubt = float(np.std(of_keys) / len(of_keys) ** 0.5)
        if abs(step) < SCALE_DONE:
            break
    return scale, doubt


def _weighted_median(values: FloatArray, weights: FloatArray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _refused(depth: DepthVideo, motion: Motion, why: str) -> tuple[DepthVideo, ExoMotion]:
    """The depth as it came with a word, or an error where a motion was asked for."""
    fix = (
        "give a mask of what moves, use a part of the clip that is sharper and has more to see "
        "beside the people, or give the path of another program (poses_file)"
    )
    if motion != "auto":
        raise EgoXInputError(
            "motion of the exo camera", got=why, expected="corners that stand still", fix=fix
        )
    note = f"warning: the exo camera moves, but {why}: it is taken to stand, and the scene smears"
    return depth, ExoMotion(motion="stands", notes=(f"{note}. {fix}",))


def _lost(tracks: Tracks) -> str:
    """A run of frames without poses that is too long to be interpolated; empty: there is none."""
    if len(tracks.frame) < 3 * len(tracks.rotation):
        return "the background"
    by_run = groupby(enumerate(tracks.weak), lambda pair: pair[1] - pair[0])
    runs = [[frame for _, frame in run] for _, run in by_run]
    longest = max(runs, key=len, default=[])
    if len(longest) <= MAX_LOST:
        return ""
    return f"frames {longest[0]} to {longest[-1]}"


def _choose(
    tracks: Tracks, turned: Adjusted | None, moved: Adjusted | None, depth: DepthVideo
) -> tuple[bool, float | None, tuple[str, ...]]:
    """Choose between rotations alone and the full motion: (rotations, the field of view that they
    show, words on what is open)."""
    guess = (
        "warning: the lens was guessed, and the path is as wrong as the lens: give exo_fov of "
        "Depth Align",
    )
    guess = guess if depth.camera_guessed else ()
    if turned is None:
        return False, None, guess
    of_turns = float(np.median(turned.off_px))
    of_moves = np.inf if moved is None else float(np.median(moved.off_px))
    enough = AS_MUCH * of_moves + AS_MUCH_PX
    turn = np.degrees(Rotation.from_matrix(turned.rotation).magnitude().max())
    if (
        turn > LENS_TURN_DEG
        and depth.camera.lens == "pinhole"
        and of_turns <= LENS_DOUBT * of_moves
    ):
        longer, other = _lens(tracks, turned, depth.camera)
        if abs(longer) < 0.95 * LENS_RANGE and np.median(other.off_px) <= enough:
            view = depth.camera.width / 2 / (depth.camera.fx * np.exp([longer, 0.0]))
            fov, given = np.degrees(2 * np.arctan(view)).tolist()
            if abs(longer) < LENS_FITS:
                return True, fov, (f"the lens fits: the turn shows {fov:.0f}° across",)
            return (
                True,
                fov,
                (
                    f"warning: the pictures are those of a turn seen {fov:.0f}° across, not "
                    f"{given:.0f}°: the path is as wrong as the lens: give exo_fov of Depth Align",
                ),
            )
    if of_turns <= enough:
        return True, None, guess
    assert moved is not None
    centres = -np.einsum("tji,tj->ti", moved.rotation, moved.place)
    travel = np.linalg.norm(centres, axis=1).max() / np.median(moved.seen_m)
    steps = Rotation.from_matrix(turned.rotation[1:] @ turned.rotation[:-1].transpose(0, 2, 1))
    # What no turn explains, of the way that the picture goes by the travel.
    parallax = (of_turns**2 - of_moves**2) ** 0.5 / (travel * np.median(tracks.px))
    shutter = travel < steps.magnitude().max() and of_turns <= DOUBTFUL * of_moves
    if shutter or parallax < LEAST_PARALLAX:
        return (
            True,
            None,
            (
                f"warning: a travel of {travel:.1%} of the distance is no more than a rolling shutter or "
                "people who fill the picture look like: the camera is taken to turn only",
                *guess,
            ),
        )
    rows = _rows(tracks, moved, depth.depth_m)
    spread = _spread(rows, rows.off, len(moved.rotation))
    if spread > DEPTH_DOUBT:
        return (
            True,
            None,
            (
                f"warning: travel would explain the pictures better, but disagrees with the depth by "
                f"{spread:.0%}: the camera is taken to turn only. A wrong field of view or people who "
                "fill the picture do that: check the lens, and give a mask of what moves",
                *guess,
            ),
        )
    return False, None, guess


def _corner_way(fit: Adjusted, tracks: Tracks, size: tuple[int, int]) -> float:
    """Px that the picture's centre region goes by turning, the most of all frames."""
    turns = Rotation.from_matrix(fit.rotation).magnitude().max()
    return float(turns * np.median(tracks.px))


def _agree(tracks: Tracks, fit: Adjusted) -> FloatArray:  # [T - 1] of frames 1...
    kept = np.bincount(tracks.frame[fit.off_px < AGREES_PX], minlength=len(fit.rotation))
    known = np.bincount(tracks.frame, minlength=len(fit.rotation))
    share = kept / np.maximum(known, 1) * tracks.agreed
    share[list(tracks.weak)] = 1.0  # told by :func:`_lost`
    return share[1:]


def _lens(tracks: Tracks, turned: Adjusted, camera: CameraModel) -> tuple[float, Adjusted]:
    """(logarithm by which the focal length is longer in the turn that explains most, that turn)."""

    def through(longer: float, tracks: Tracks) -> Adjusted:
        scale = np.exp(longer)
        seen = replace(
            tracks,
            ray=tracks.ray / [scale, scale, 1.0],
            plane=tracks.plane / scale,
            px=tracks.px * scale,
            rotation=turned.rotation,
        )
        return adjust(seen, camera.stored_size, turns=True)

    names = ("point", "frame", "plane", "uv", "px")
    few = replace(tracks, **{name: getattr(tracks, name)[::LENS_THINNED] for name in names})
    best = minimize_scalar(
        lambda longer: through(longer, few).cost,
        bounds=(-LENS_RANGE, LENS_RANGE),
        method="bounded",
        options={"xatol": 0.005},
    )
    return float(best.x), through(best.x, tracks)


def _between(tracks: Tracks, fit: Adjusted) -> tuple[FloatArray, FloatArray]:
    """[T, 3, 3] and [T, 3, 1] of all frames; lost ones stand between their neighbours."""
    frames = np.arange(len(fit.rotation))
    known = np.setdiff1d(frames, tracks.weak)
    at = frames.clip(known[0], known[-1])
    rotation = Slerp(known, Rotation.from_matrix(fit.rotation[known]))(at).as_matrix()
    centres = -np.einsum("tji,tj->ti", fit.rotation, fit.place)
    centres = np.stack([np.interp(at, known, column[known]) for column in centres.T], 1)
    rotation[known] = fit.rotation[known]
    return rotation, -np.einsum("tij,tj->ti", rotation, centres)[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Places at which a point's depth meets a map; all arrays [K]."""

    frame: FloatArray
    point: FloatArray
    uv: FloatArray  # [K, 2] px
    ahead: FloatArray  # logarithm of z depth there over z depth in the key frame
    off: FloatArray  # logarithm of the adjusted depth over the map's


def _rows(tracks: Tracks, fit: Adjusted, depth_m: Sequence[Tensor] | Tensor) -> _Rows:
    """Sightings that agree, and the points' own key frames."""
    good = fit.off_px < AGREES_PX
    frame = np.r_[tracks.frame[good], tracks.home]
    point = np.r_[tracks.point[good], np.arange(len(tracks.home))]
    uv = np.r_[tracks.uv[good], tracks.home_uv]
    ahead = np.log(np.r_[fit.seen_m[good], np.ones(len(tracks.home))])
    if fit.place.any():
        ahead -= np.r_[np.log(fit.depth_m)[tracks.point[good]], np.zeros(len(tracks.home))]
    given = np.empty(len(frame))
    for t in np.unique(frame):
        at, depth = frame == t, depth_m[t].float().numpy()
        column, row = uv[at].round().astype(int).clip(0, np.array(depth.shape[::-1]) - 1).T
        given[at] = depth[row, column]
    off = np.log(fit.depth_m)[point] + ahead - np.log(given)
    keep = np.isfinite(off)
    return _Rows(
        frame=frame[keep], point=point[keep], uv=uv[keep], ahead=ahead[keep], off=off[keep]
    )


def _spread(rows: _Rows, off: FloatArray, count: int) -> float:
    """Median over frames of how far the depths of a frame's points are off their own median."""
    spreads = []
    for t in range(count):
        own = off[rows.frame == t]
        if len(own) >= LEAST_ROWS:
            spreads.append(np.median(np.abs(own - np.median(own))))
    return float(np.median(spreads)) if spreads else 0.0


def _basis(x: FloatArray, y: FloatArray) -> FloatArray:
    """[..., 6] of places 0...1."""
    return np.stack([(2 * x - 1) ** i * (2 * y - 1) ** j for i, j in TERMS], -1)


def _mend(
    rows: _Rows, fit: Adjusted, tracks: Tracks, camera: CameraModel, turns: bool
) -> tuple[FloatArray, float]:
    """([T, 6] of a polynomial of each map's log depth, what is left of the spread).

    Turning says nothing of distance: a point is then as far as all maps have it on average."""
    basis = _basis(*((rows.uv + 0.5) / camera.stored_size).T)
    count, points = len(fit.rotation), len(tracks.home)
    terms, off, moved = np.zeros((count, len(TERMS))), rows.off, np.zeros(points)
    often = np.maximum(np.bincount(rows.point, minlength=points), 1)
    for _ in range(CONSENSUS_ROUNDS if turns else 1):
        off = rows.off + moved[rows.point]
        for t in range(count):
            at = rows.frame == t
            if at.sum() >= LEAST_ROWS:
                terms[t] = _robust_fit(basis[at], off[at])
        left = off - (basis * terms[rows.frame]).sum(1)
        if turns:
            moved -= np.bincount(rows.point, left.clip(-0.2, 0.2), points) / often
    return terms, _spread(rows, left, count)


def _robust_fit(basis: FloatArray, off: FloatArray) -> FloatArray:  # [6]
    ridge = TERM_RIDGE * np.diag(np.arange(len(TERMS)) > 0) + 1e-9
    terms = np.zeros(len(TERMS))
    terms[0] = np.median(off)
    for _ in range(MEND_ROUNDS):
        weighted = basis.T / (1 + ((off - basis @ terms) / MEND_SIGMA) ** 2)
        terms = np.linalg.solve(weighted @ basis + ridge, weighted @ off)
    return terms


def _mended(depth_m: Sequence[Tensor] | Tensor, terms: FloatArray) -> Tensor:  # [T, H, W]
    height, width = depth_m[0].shape
    y, x = np.mgrid[0.5:height, 0.5:width] / np.array([height, width])[:, None, None]
    basis = torch.from_numpy(_basis(x, y)).float()
    maps = (
        depth.float() * torch.exp(basis @ torch.from_numpy(term).float())
        for depth, term in zip(depth_m, terms, strict=True)
    )
    return store_frames(maps, len(depth_m))
