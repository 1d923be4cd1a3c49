"""Poses of an exo camera that moves, from the clip's frames and depth, and depth maps that agree
with them."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import get_args

import numpy as np
import scipy
import torch
from numpy.polynomial.polynomial import polyvander2d
from torch import Tensor

from ..cameras import CameraModel, CameraPath, World, compose, invert
from ..errors import EgoXInputError, check_choice
from ..frame_store import store_frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind, StageReport
from ..types import DepthVideo, Motion
from .build import StillMasks, check_scene_input
from .camera_motion import camera_motion
from .exo_adjust import Adjusted, adjust
from .exo_tracks import FloatArray, Tracks, find_tracks

AGREES_PX = 3.0
AS_MUCH, AS_MUCH_PX = 1.1, 0.02  # rotations explain as much: times the residual, and px more
DOUBTFUL = 1.3  # times, where the travel is so small that a rolling shutter looks like it
LEAST_PARALLAX = 0.005
DEPTH_DOUBT = 0.12  # spread of the points' depth around the maps' from which travel isn't believed
LEAST_AGREE, POOR_AGREE = 0.3, 0.5  # of a clip's matches; of the worst frame's
MAX_LOST = 2  # frames in a row without a pose of their own; poses between are interpolated
LENS_FITS, LENS_TURN_DEG = 0.05, 10.0  # of the focal length's logarithm; deg that show it
SCALE_OFF = 0.15  # of the scale's logarithm
TERM_RIDGE, LEAST_ROWS, MEND_SIGMA, MEND_ROUNDS = 3.0, 20, 0.03, 3


@frozen
class ExoMotion(StageReport):
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
    # points that were found again: frame, u, v, and px from where the poses put them
    sightings: FloatArray | None = None  # [M, 4]

    def content(self) -> dict[str, object]:
        """The figures as they stand in a report's file."""
        figures = asdict(self)
        del figures["sightings"], figures["notes"]
        return figures | {"notes": list(map(str, self.notes))}

    def text(self) -> str:
        """The report, a sentence per line."""
        way = f"{self.travel_m:.2g} m, " if self.motion == "moves" else ""
        figures = (
            f"the exo camera {self.motion}: {way}{self.turn_deg:.0f}°",
            f"{self.agree:.0%} of {self.matches:,} matches agree, worst frame "
            f"{self.worst_frame}: {self.worst_agree:.0%}; residual {self.residual_px:.2f} px; "
            f"depth agrees within {self.depth_spread:.1%}",
        )
        if self.motion == "stands":
            figures = ("the exo camera is static: the depth is not changed",)
        return "\n".join(map(str, (*figures, *self.notes)))


def estimate_exo_motion(
    exo_frames: Sequence[Tensor] | Tensor,  # [T, H, W, 3] 0...1 or uint8, of the maps' size
    depth: DepthVideo,
    motion: Motion = "auto",
    # A path of another program; if its world is unknown, it isn't in metres.
    given: CameraPath | None = None,
    *,
    progress: Progress = no_progress,
) -> tuple[DepthVideo, ExoMotion]:
    """The depth with a pose per frame and mended maps; the same object where the camera is static.

    Corners (SIFT) outside of the depth's masks are matched to key frames; poses come from their
    depth and are adjusted together with the points, the lens held. auto: rotations alone, where
    they explain as much (with this lens or another), or where the travel isn't borne out by the
    depth. A given path, or that of the depth, is checked against the same corners and depth.

    Raises:
        EgoXInputError: as :func:`build.build_scene`; a motion that was asked for and can't be
            followed; a given path that disagrees with the pictures, or isn't in metres, or with
            a camera that is said to stand.
    """
    check_choice("motion of the exo camera", motion, get_args(Motion))
    check_scene_input(exo_frames, depth)
    if motion == "stands" and given is not None:
        raise EgoXInputError(
            "given path of the exo camera",
            got="a path together with motion 'stands'",
            expected="one of them",
            fix="set motion to auto, or leave the path out",
        )
    if given is None and depth.exo.moves:
        given = depth.exo
    masks = StillMasks(depth, "auto")
    stands = motion == "auto" and given is None and camera_motion(exo_frames, masks) is None
    if motion == "stands" or stands or len(depth.depth_m) < 2:
        return depth, ExoMotion(motion="stands")
    tracks = find_tracks(exo_frames, depth.depth_m, depth.exo.camera, masks, progress)
    lost = _lost(tracks)
    if given is not None:
        return _checked(depth, tracks, lost, given)
    if lost:
        return _refused(depth, motion, f"{lost} can't be followed")
    progress(0, 1, "the exo camera's motion: adjustment")
    turned, moved = (adjust(tracks, turns=turns) for turns in (True, False))
    turns, notes = _choose(tracks, turned, moved, depth, motion)
    fit = turned if turns else moved
    agree = _agree(tracks, fit).mean()
    if agree < LEAST_AGREE:
        return _refused(depth, motion, f"only {agree:.0%} of the matches agree")
    from scipy.interpolate import make_interp_spline  # a tenth of torch's time

    known = np.flatnonzero(~tracks.weak)  # lost ones stand between their neighbours
    at = np.arange(len(tracks.weak)).clip(known[0], known[-1])
    rotation = scipy.spatial.transform.Slerp(
        known, scipy.spatial.transform.Rotation.from_matrix(fit.rotation[known])
    )(at).as_matrix()
    poses = _placed(depth, rotation, make_interp_spline(known, fit.place[known], k=1)(at))
    return _handed_on(_posed(depth, poses, depth.exo.world), tracks, fit, turns, notes)


def _placed(depth: DepthVideo, rotation: FloatArray, place: FloatArray) -> Tensor:  # [T, 3, 4]
    """Poses from frame 0, in the depth's world."""
    poses = torch.from_numpy(np.concatenate([rotation, place[..., None]], 2))
    return compose(poses, depth.exo.at(0))


def _posed(
    depth: DepthVideo,
    w2c: Tensor,  # [T, 3, 4]
    world: World,
) -> DepthVideo:
    return replace(depth, exo=replace(depth.exo, w2c=w2c, world=world))


def _handed_on(
    # The depth with its poses.
    depth: DepthVideo,
    tracks: Tracks,
    fit: Adjusted,
    turns: bool,
    notes: tuple[Remark, ...],
) -> tuple[DepthVideo, ExoMotion]:
    """The depth with mended maps, and the report."""
    agree = _agree(tracks, fit)
    if agree.min() < POOR_AGREE:
        notes += _warned(f"frame {agree.argmin() + 1} is known badly; look at the preview")
    depth_m, spread = _mended(depth, tracks, fit)
    found = ExoMotion(
        motion="turns" if turns else "moves",
        travel_m=float(np.linalg.norm(fit.place, axis=1).max()),
        turn_deg=float(
            np.degrees(scipy.spatial.transform.Rotation.from_matrix(fit.rotation).magnitude().max())
        ),
        matches=tracks.matches,
        agree=float(agree.mean()),
        worst_frame=int(agree.argmin()) + 1,
        worst_agree=float(agree.min()),
        residual_px=float(np.median(fit.off_px)),
        depth_spread=spread,
        notes=notes,
        sightings=np.c_[tracks.frame, tracks.uv, fit.off_px],
    )
    return replace(depth, depth_m=depth_m), found


def _checked(
    depth: DepthVideo, tracks: Tracks, lost: str, path: CameraPath
) -> tuple[DepthVideo, ExoMotion]:
    """A given path, where the corners and their depth bear it out."""
    given, metric = path.poses(len(depth.depth_m), "given path"), path.world != "unknown"
    world = path.world if metric else depth.exo.world
    if len(tracks.frame) < 3 * len(given):
        if not metric:
            raise EgoXInputError(
                "given path of the exo camera",
                got=f"{lost} can't be followed, to scale it by",
                expected="static corners",
                fix="give a path in metres",
            )
        notes = _warned(f"{lost} can't be followed: the given path isn't checked")
        return _posed(depth, given, world), ExoMotion(motion="moves", notes=notes)
    rotation, place = np.split(compose(given, invert(given[0])).numpy(), [3], 2)
    place, notes, scale, doubt = place[:, :, 0], (), 1.0, 0.0
    turns = bool(np.abs(place).max() < 1e-6)
    if not turns:
        own, theirs = (p[~tracks.weak] for p in (adjust(tracks, turns=False).place, place))
        scale = float(np.linalg.norm(own) / np.linalg.norm(theirs))
        doubt = float(np.linalg.norm(own - scale * theirs) / np.linalg.norm(own))
        about = replace(tracks, rotation=rotation, place=scale * place)
        scale *= np.exp(adjust(about, turns=False, held=True, scale=True).farther)
    if not metric:
        place = scale * place
        given = _placed(depth, rotation, place)
        if not turns:
            notes = (Remark(f"scale from the depth: x {scale:.4g}, sure to {doubt:.1%}"),)
    tracks = replace(tracks, rotation=rotation, place=place)
    fit = adjust(tracks, turns=turns, held=True)
    agree = _agree(tracks, fit).mean()
    other = metric and abs(np.log(scale)) > max(SCALE_OFF, 3 * doubt)
    if agree < POOR_AGREE or other:
        raise EgoXInputError(
            "given path of the exo camera",
            got=f"{agree:.0%} of the matches agree, residual {np.median(fit.off_px):.1f} px"
            + (f", and the depth has {scale:.2f} times its travel" if other else ""),
            expected="the path of this very clip"
            + (", in the metres of the depth" if other else ""),
            fix="give the path of these very frames, a mask where people fill the picture, or no "
            "path: it is estimated then",
        )
    if metric:
        depth = replace(depth, exo=replace(depth.exo, gravity=path.gravity))
    return _handed_on(_posed(depth, given, world), tracks, fit, turns, notes)


def _refused(depth: DepthVideo, motion: Motion, why: str) -> tuple[DepthVideo, ExoMotion]:
    """The depth as it came with a word, or an error where a motion was asked for."""
    fix = (
        "give a mask of what moves, use a part of the clip that is sharper and has more to see "
        "around the people, or give the path of another program (poses_file)"
    )
    if motion != "auto":
        raise EgoXInputError(
            "motion of the exo camera", got=why, expected="static corners", fix=fix
        )
    said = f"the exo camera moves, but {why}: it is treated as static, and the scene smears. {fix}"
    return depth, ExoMotion(motion="stands", notes=_warned(said))


def _warned(text: str) -> tuple[Remark, ...]:
    return (Remark(f"warning: {text}", RemarkKind.WARNING),)


def _lost(tracks: Tracks) -> str:
    """A run of frames without poses that is too long to be interpolated; empty: there is none."""
    if len(tracks.frame) < 3 * len(tracks.rotation):
        return "the background"
    frames = np.flatnonzero(tracks.weak)
    longest = max(np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1), key=len)
    return f"frames {longest[0]} to {longest[-1]}" if len(longest) > MAX_LOST else ""


def _choose(
    tracks: Tracks, turned: Adjusted, moved: Adjusted, depth: DepthVideo, motion: Motion
) -> tuple[bool, tuple[Remark, ...]]:
    """Choose between rotations alone and the full motion: (rotations, words on what is open)."""
    fix = "the path is as wrong as the lens: give exo_fov"
    guess = _warned(f"the lens was guessed, and {fix}") if depth.exo.lens_guessed else ()
    if motion == "moves":
        return False, guess
    of_turns, of_moves = (float(np.median(fit.off_px)) for fit in (turned, moved))
    enough = np.inf if motion == "turns" else AS_MUCH * of_moves + AS_MUCH_PX
    turn = np.degrees(
        scipy.spatial.transform.Rotation.from_matrix(turned.rotation).magnitude().max()
    )
    if turn > LENS_TURN_DEG and depth.exo.camera.lens == "pinhole":
        other = adjust(tracks, turns=True, lens=True)
        if np.median(other.off_px) <= enough:
            view = depth.exo.camera.width / 2 / (depth.exo.camera.fx * np.exp([other.longer, 0.0]))
            fov, given = np.degrees(2 * np.arctan(view)).tolist()
            if abs(other.longer) < LENS_FITS:
                return True, (Remark(f"the lens fits: the turn shows {fov:.0f}° across"),)
            return True, _warned(
                f"the pictures are those of a turn seen {fov:.0f}° across, not {given:.0f}°: {fix}"
            )
    if of_turns <= enough:
        return True, guess
    travel = np.linalg.norm(moved.place, axis=1).max() / np.median(moved.seen_m)
    steps = scipy.spatial.transform.Rotation.from_matrix(
        turned.rotation[1:] @ turned.rotation[:-1].transpose(0, 2, 1)
    )
    # What no turn explains, of the way that the picture goes by the travel.
    parallax = (of_turns**2 - of_moves**2) ** 0.5 / (travel * np.median(tracks.px))
    shutter = travel < steps.magnitude().max() and of_turns <= DOUBTFUL * of_moves
    if shutter or parallax < LEAST_PARALLAX:
        said = (
            f"a travel of {travel:.1%} of the distance is no more than a rolling shutter or "
            "people who fill the picture look like: the camera is taken to turn only"
        )
        return True, _warned(said) + guess
    frame, _, _, off = _rows(tracks, moved)
    spread = _spread(frame, off)
    if spread > DEPTH_DOUBT:
        said = (
            f"travel would explain the pictures better, but disagrees with the depth by "
            f"{spread:.0%}: the camera is taken to turn only. A wrong field of view or people who "
            "fill the picture do that: check the lens, and give a mask of what moves"
        )
        return True, _warned(said) + guess
    return False, guess


def _agree(tracks: Tracks, fit: Adjusted) -> FloatArray:  # [T - 1] of frames 1...
    kept = np.bincount(tracks.frame[fit.off_px < AGREES_PX], minlength=len(fit.rotation))
    known = np.bincount(tracks.frame, minlength=len(fit.rotation))
    share = kept / np.maximum(known, 1) * tracks.agreed
    return np.where(tracks.weak, 1.0, share)[1:]  # those are told by :func:`_lost`


def _rows(tracks: Tracks, fit: Adjusted) -> tuple[FloatArray, ...]:
    """Places at which a point meets a map: (frame, point, px [K, 2], logarithm of its adjusted
    depth over the map's), of sightings that agree and in the points' own key frames."""
    good = fit.off_px < AGREES_PX
    return (
        np.r_[tracks.frame[good], tracks.home],
        np.r_[tracks.point[good], np.arange(len(tracks.home))],
        np.r_[tracks.uv[good], tracks.home_uv],
        np.log(np.r_[(fit.seen_m / tracks.map_m)[good], fit.depth_m / tracks.depth_m]),
    )


def _spread(frame: FloatArray, off: FloatArray) -> float:
    """Median over frames of how far the depths of a frame's points are off their own median."""
    of_frames = (off[frame == t] for t in np.unique(frame))
    return float(np.median([np.median(np.abs(own - np.median(own))) for own in of_frames]))


def _mended(depth: DepthVideo, tracks: Tracks, fit: Adjusted) -> tuple[Tensor, float]:
    """([T, H, W] maps times a polynomial of their log depth, what is left of the spread); a point is
    as far as all maps have it on average."""
    frame, point, uv, off = _rows(tracks, fit)
    basis = _basis(uv, depth.exo.camera)
    ridge = np.diag(np.r_[1e-9, np.full(basis.shape[1] - 1, TERM_RIDGE)])
    terms, moved = np.zeros((len(depth.depth_m), len(ridge))), np.zeros(len(tracks.home))
    often, left = np.bincount(point), off
    for _ in range(MEND_ROUNDS):
        weight = 1 / (1 + (left / MEND_SIGMA) ** 2)
        for t in np.flatnonzero(np.bincount(frame) >= LEAST_ROWS):
            at = frame == t
            weighted = basis[at].T * weight[at]
            wanted = weighted @ (off + moved[point])[at]
            terms[t] = np.linalg.solve(weighted @ basis[at] + ridge, wanted)
        left = off + moved[point] - (basis * terms[frame]).sum(1)
        moved -= np.bincount(point, left.clip(-0.2, 0.2)) / often
    grid = torch.from_numpy(_basis(depth.exo.camera.pixel_grid().numpy(), depth.exo.camera)).float()
    maps = (
        depth_m.float() * torch.exp(grid @ torch.from_numpy(term).float())
        for depth_m, term in zip(depth.depth_m, terms, strict=True)
    )
    return store_frames(maps, len(terms)), _spread(frame, left)


def _basis(uv: FloatArray, camera: CameraModel) -> FloatArray:  # [..., 9]
    """Powers of the place in the picture, -1...1, up to the second."""
    x, y = np.moveaxis(2 * (uv + 0.5) / camera.stored_size - 1, -1, 0)
    return polyvander2d(x, y, [2, 2])
