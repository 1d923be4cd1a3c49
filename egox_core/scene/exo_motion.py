"""Poses of an exo camera that moves, from the clip's frames and depth, and depth maps that agree
with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Literal, get_args

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from ..cameras.model import CameraModel
from ..errors import EgoXInputError, check_choice
from ..frame_store import store_frames
from ..progress import Progress, no_progress
from ..trajectory.poses import compose
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
DEPTH_DOUBT = 0.12  # spread of the points' depth around the maps' from which travel isn't believed
LEAST_AGREE, POOR_AGREE = 0.3, 0.5  # of a clip's matches; of the worst frame's
MAX_LOST = 2  # frames in a row without a pose of their own; poses between are interpolated
LENS_STEPS, LENS_TURN_DEG = (0.8, 0.9, 1.0, 1.12, 1.25), 10.0
LENS_GAIN = 0.01  # of the cost
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
    *,
    progress: Progress = no_progress,
) -> tuple[DepthVideo, ExoMotion]:
    """The depth with a pose per frame and mended maps; the same object where the camera stands.

    Corners (SIFT) outside of the depth's masks are matched to key frames; poses come from their
    depth and are adjusted together with the points, the lens held. auto: rotations alone, where
    they explain as much (with a rolling shutter), or where the travel isn't borne out by the depth.

    Raises:
        EgoXInputError: as :func:`build.build_scene`; a motion that was asked for and can't be
            followed.
    """
    check_choice("motion of the exo camera", motion, MOTIONS)
    check_scene_input(exo_frames, depth)
    if is_moving(depth.exo_w2c):
        note = "the depth already has a pose per frame: it is handed on as it came"
        return depth, ExoMotion(motion="moves", notes=(note,))
    masked = depth.dynamic is not None or depth.sky is not None
    masks = StillMasks(depth, "auto") if masked else None
    stands = motion == "auto" and camera_motion(exo_frames, masks) is None
    if motion == "stands" or stands or len(depth.depth_m) < 2:
        return depth, ExoMotion(motion="stands")
    tracks = find_tracks(exo_frames, depth.depth_m, depth.camera, masks, progress)
    lost = _lost(tracks)
    if lost:
        return _refused(depth, motion, f"{lost} can't be followed")
    size = depth.camera.stored_size
    fits = {
        turns: adjust(tracks, size, turns=turns, progress=progress)
        for turns in (True, False)
        if motion in ("auto", "turns" if turns else "moves")
    }
    turns, notes = motion == "turns", ()
    if motion == "auto":
        turns, notes = _turns_alone(tracks, fits[True], fits[False], depth)
    fit = fits[turns]
    if _corner_way(fit, tracks, size) < MOVED * size[0] and turns and motion == "auto":
        return depth, ExoMotion(motion="stands")
    agree = _agree(tracks, fit)
    if agree.mean() < LEAST_AGREE:
        return _refused(depth, motion, f"only {agree.mean():.0%} of the matches agree")
    if agree.min() < POOR_AGREE:
        notes += (f"warning: frame {agree.argmin() + 1} is known badly; look at the preview",)
    fov = None
    if depth.camera_guessed:
        fov, word = _lens(tracks, fit, depth.camera, turns)
        notes += word
    rotation, place = _between(tracks, fit)
    rows = _rows(tracks, fit, depth.depth_m)
    terms, spread = _mend(rows, fit, tracks, size, turns)
    poses = torch.from_numpy(np.concatenate([rotation, place[..., None]], 2))
    if depth.exo_w2c is not None:
        base = depth.exo_w2c.double()
        poses = compose(poses, base if base.ndim == 2 else base[0])
    centres = -np.einsum("tji,tj->ti", rotation, place)
    turned = Rotation.from_matrix(rotation).magnitude()
    found = ExoMotion(
        motion="turns" if turns else "moves",
        travel_m=float(np.linalg.norm(centres, axis=1).max()),
        turn_deg=float(np.degrees(turned.max())),
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
    return replace(depth, depth_m=_mended(depth.depth_m, terms), exo_w2c=poses), found


def _refused(depth: DepthVideo, motion: Motion, why: str) -> tuple[DepthVideo, ExoMotion]:
    """The depth as it came with a word, or an error where a motion was asked for."""
    fix = (
        "give a mask of what moves, use a part of the clip that is sharper and has more to see "
        "beside the people, or give poses of another program (camera_extrinsics in meta.json)"
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


def _turns_alone(
    tracks: Tracks, turned: Adjusted, moved: Adjusted, depth: DepthVideo
) -> tuple[bool, tuple[str, ...]]:
    """Choose between rotations alone and the full motion; a word where that is open."""
    of_turns, of_moves = (float(np.median(fit.off_px)) for fit in (turned, moved))
    if of_turns <= AS_MUCH * of_moves + AS_MUCH_PX:
        return True, ()
    centres = -np.einsum("tji,tj->ti", moved.rotation, moved.place)
    travel = np.linalg.norm(centres, axis=1).max() / np.median(moved.seen_m)
    steps = Rotation.from_matrix(turned.rotation[1:] @ turned.rotation[:-1].transpose(0, 2, 1))
    if travel < steps.magnitude().max() and of_turns <= DOUBTFUL * of_moves:
        return True, (
            f"warning: a travel of {travel:.1%} of the distance is no more than a rolling shutter "
            "looks like: the camera is taken to turn only",
        )
    rows = _rows(tracks, moved, depth.depth_m)
    spread = _spread(rows, rows.off, len(moved.rotation))
    if spread > DEPTH_DOUBT:
        return True, (
            f"warning: travel would explain the pictures better, but disagrees with the depth by "
            f"{spread:.0%}: the camera is taken to turn only. A wrong field of view or people who "
            "fill the picture do that: check the lens, and give a mask of what moves",
        )
    return False, ()


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


def _lens(
    tracks: Tracks, fit: Adjusted, camera: CameraModel, turns: bool
) -> tuple[float | None, tuple[str, ...]]:
    """Find a guessed lens's field of view from a turn; the words for it."""
    guess = (
        "warning: the lens was guessed, and the path is as wrong as the lens: give exo_fov of "
        "Depth Align"
    )
    turned = np.degrees(Rotation.from_matrix(fit.rotation).magnitude().max())
    if not turns or turned < LENS_TURN_DEG or camera.lens != "pinhole":
        return None, (guess,)
    costs = []
    for step in LENS_STEPS:
        scale = np.array([1 / step, 1 / step, 1.0])
        other = replace(
            tracks,
            ray=tracks.ray * scale,
            plane=tracks.plane / step,
            px=tracks.px * step,
            rotation=fit.rotation,
        )
        costs.append(adjust(other, camera.stored_size, turns=True).cost)
    best = int(np.argmin(costs))
    if best in (0, len(costs) - 1):
        return None, (guess,)
    at = slice(best - 1, best + 2)
    bend, slope, _ = np.polyfit(np.log(LENS_STEPS[at]), costs[at], 2)
    focal = camera.fx * float(np.exp(-slope / (2 * bend)))
    fov = float(np.degrees(2 * np.arctan(camera.width / (2 * focal))))
    if min(costs) > (1 - LENS_GAIN) * costs[LENS_STEPS.index(1.0)]:
        return fov, (f"the lens was guessed; the turn shows {fov:.0f}° across, which fits",)
    return fov, (
        f"warning: the lens was guessed, and the turn shows {fov:.0f}° across: give that as "
        "exo_fov of Depth Align",
    )


def _between(tracks: Tracks, fit: Adjusted) -> tuple[FloatArray, FloatArray]:
    """Poses of all frames; lost ones stand between their neighbours."""
    frames = np.arange(len(fit.rotation))
    known = np.setdiff1d(frames, tracks.weak)
    at = frames.clip(known[0], known[-1])
    rotation = Slerp(known, Rotation.from_matrix(fit.rotation[known]))(at).as_matrix()
    centres = -np.einsum("tji,tj->ti", fit.rotation, fit.place)
    centres = np.stack([np.interp(at, known, column[known]) for column in centres.T], 1)
    rotation[known] = fit.rotation[known]
    return rotation, -np.einsum("tij,tj->ti", rotation, centres)


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
    rows: _Rows, fit: Adjusted, tracks: Tracks, size: tuple[int, int], turns: bool
) -> tuple[FloatArray, float]:
    """([T, 6] of a polynomial of each map's log depth, what is left of the spread).

    Turning says nothing of distance: a point is then as far as all maps have it on average."""
    basis = _basis(*((rows.uv + 0.5) / size).T)
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
