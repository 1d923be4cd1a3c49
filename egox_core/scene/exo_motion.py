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
        """Collect the figures as a report's file has them."""
        figures = asdict(self)
        del figures["sightings"], figures["notes"]
        return figures | {"notes": list(map(str, self.notes))}

    def text(self) -> str:
        """Write the report, a sentence per line."""
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
    """Give the depth a pose per frame and mended maps, or keep it if the camera is static.

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
    asked = motion != "stands" and given is None
    seen_motion = camera_motion(exo_frames, masks) if asked else None
    stays_put = motion == "auto" and asked and seen_motion is None
    if motion == "stands" or stays_put or len(depth.depth_m) < 2:
        return depth, ExoMotion(motion="stands")
    tracks = find_tracks(exo_frames, depth.depth_m, depth.exo.camera, masks, progress)
    lost_text = _lost_frames(tracks)
    if given is not None:
        return _check_given_path(depth, tracks, lost_text, given)
    zooms = seen_motion is not None and seen_motion.zoom != 1
    zoom_notes = _warning(seen_motion.text()) if zooms else ()
    if lost_text:
        return _keep_static(depth, motion, f"{lost_text} can't be followed", zoom_notes)
    progress(0, 1, "the exo camera's motion: adjustment")
    turned_fit, moved_fit = (adjust(tracks, turns=turns) for turns in (True, False))
    turns, notes = _choose(tracks, turned_fit, moved_fit, depth, motion)
    fit = turned_fit if turns else moved_fit
    agreement = _agreement(tracks, fit).mean()
    if agreement < LEAST_AGREE:
        few = f"only {agreement:.0%} of the matches agree"
        return _keep_static(depth, motion, few, zoom_notes)
    from scipy.interpolate import make_interp_spline  # a tenth of torch's time

    known_frames = np.flatnonzero(~tracks.weak)  # lost ones stand between their neighbours
    sampled_at = np.arange(len(tracks.weak)).clip(known_frames[0], known_frames[-1])
    rotation = scipy.spatial.transform.Slerp(
        known_frames, scipy.spatial.transform.Rotation.from_matrix(fit.rotation[known_frames])
    )(sampled_at).as_matrix()
    poses = _world_poses(
        depth, rotation, make_interp_spline(known_frames, fit.place[known_frames], k=1)(sampled_at)
    )
    notes = zoom_notes + notes
    return _with_report(_with_poses(depth, poses, depth.exo.world), tracks, fit, turns, notes)


def _world_poses(depth: DepthVideo, rotation: FloatArray, place: FloatArray) -> Tensor:  # [T, 3, 4]
    """Compose poses from frame 0 with the depth's world."""
    poses = torch.from_numpy(np.concatenate([rotation, place[..., None]], 2))
    return compose(poses, depth.exo.at(0))


def _with_poses(
    depth: DepthVideo,
    w2c: Tensor,  # [T, 3, 4]
    world: World,
) -> DepthVideo:
    return replace(depth, exo=replace(depth.exo, w2c=w2c, world=world))


def _with_report(
    # The depth with its poses.
    depth: DepthVideo,
    tracks: Tracks,
    fit: Adjusted,
    turns: bool,
    notes: tuple[Remark, ...],
) -> tuple[DepthVideo, ExoMotion]:
    """Mend the depth's maps, and report the motion."""
    agreement = _agreement(tracks, fit)
    if agreement.min() < POOR_AGREE:
        notes += _warning(f"frame {agreement.argmin() + 1} is known badly; look at the preview")
    depth_m, spread = _mend_maps(depth, tracks, fit)
    report = ExoMotion(
        motion="turns" if turns else "moves",
        travel_m=float(np.linalg.norm(fit.place, axis=1).max()),
        turn_deg=float(
            np.degrees(scipy.spatial.transform.Rotation.from_matrix(fit.rotation).magnitude().max())
        ),
        matches=tracks.matches,
        agree=float(agreement.mean()),
        worst_frame=int(agreement.argmin()) + 1,
        worst_agree=float(agreement.min()),
        residual_px=float(np.median(fit.off_px)),
        depth_spread=spread,
        notes=notes,
        sightings=np.c_[tracks.frame, tracks.uv, fit.off_px],
    )
    return replace(depth, depth_m=depth_m), report


def _check_given_path(
    depth: DepthVideo, tracks: Tracks, lost: str, path: CameraPath
) -> tuple[DepthVideo, ExoMotion]:
    """Use a given path if the corners and their depth bear it out."""
    given_poses, metric = path.poses(len(depth.depth_m), "given path"), path.world != "unknown"
    world = path.world if metric else depth.exo.world
    if len(tracks.frame) < 3 * len(given_poses):
        if not metric:
            raise EgoXInputError(
                "given path of the exo camera",
                got=f"{lost} can't be followed, to scale it by",
                expected="static corners",
                fix="give a path in metres",
            )
        notes = _warning(f"{lost} can't be followed: the given path isn't checked")
        return _with_poses(depth, given_poses, world), ExoMotion(motion="moves", notes=notes)
    rotation, place = np.split(compose(given_poses, invert(given_poses[0])).numpy(), [3], 2)
    place, notes, scale, doubt = place[:, :, 0], (), 1.0, 0.0
    turns = bool(np.abs(place).max() < 1e-6)
    if not turns:
        own_places, given_places = (
            p[~tracks.weak] for p in (adjust(tracks, turns=False).place, place)
        )
        scale = float(np.linalg.norm(own_places) / np.linalg.norm(given_places))
        doubt = float(
            np.linalg.norm(own_places - scale * given_places) / np.linalg.norm(own_places)
        )
        scaled_tracks = replace(tracks, rotation=rotation, place=scale * place)
        scale *= np.exp(adjust(scaled_tracks, turns=False, held=True, scale=True).farther)
    if not metric:
        place = scale * place
        given_poses = _world_poses(depth, rotation, place)
        if not turns:
            notes = (Remark(f"scale from the depth: x {scale:.4g}, sure to {doubt:.1%}"),)
    tracks = replace(tracks, rotation=rotation, place=place)
    fit = adjust(tracks, turns=turns, held=True)
    agreement = _agreement(tracks, fit).mean()
    is_other_scale = metric and abs(np.log(scale)) > max(SCALE_OFF, 3 * doubt)
    if agreement < POOR_AGREE or is_other_scale:
        raise EgoXInputError(
            "given path of the exo camera",
            got=f"{agreement:.0%} of the matches agree, residual {np.median(fit.off_px):.1f} px"
            + (f", and the depth has {scale:.2f} times its travel" if is_other_scale else ""),
            expected="the path of this very clip"
            + (", in the metres of the depth" if is_other_scale else ""),
            fix="give the path of these very frames, a mask where people fill the picture, or no "
            "path: it is estimated then",
        )
    if metric:
        depth = replace(depth, exo=replace(depth.exo, gravity=path.gravity))
    return _with_report(_with_poses(depth, given_poses, world), tracks, fit, turns, notes)


def _keep_static(
    depth: DepthVideo, motion: Motion, why: str, notes: tuple[Remark, ...]
) -> tuple[DepthVideo, ExoMotion]:
    """Keep the depth as it came, with a warning, or refuse it where a motion was asked for."""
    fix = (
        "give a mask of what moves, use a part of the clip that is sharper and has more to see "
        "around the people, or give the path of another program (poses_file)"
    )
    if motion != "auto":
        raise EgoXInputError(
            "motion of the exo camera", got=why, expected="static corners", fix=fix
        )
    sentence = (
        f"the exo camera moves, but {why}: it is treated as static, and the scene smears. {fix}"
    )
    return depth, ExoMotion(motion="stands", notes=notes + _warning(sentence))


def _warning(text: str) -> tuple[Remark, ...]:
    return (Remark(f"warning: {text}", RemarkKind.WARNING),)


def _lost_frames(tracks: Tracks) -> str:
    """Name the run of frames without poses that is too long to be interpolated, if there is one."""
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
    guess = _warning(f"the lens was guessed, and {fix}") if depth.exo.lens_guessed else ()
    if motion == "moves":
        return False, guess
    of_turns, of_moves = (float(np.median(fit.off_px)) for fit in (turned, moved))
    enough_px = np.inf if motion == "turns" else AS_MUCH * of_moves + AS_MUCH_PX
    turn = np.degrees(
        scipy.spatial.transform.Rotation.from_matrix(turned.rotation).magnitude().max()
    )
    if turn > LENS_TURN_DEG and depth.exo.camera.lens == "pinhole":
        other_lens = adjust(tracks, turns=True, lens=True)
        if np.median(other_lens.off_px) <= enough_px:
            view = (
                depth.exo.camera.width
                / 2
                / (depth.exo.camera.fx * np.exp([other_lens.longer, 0.0]))
            )
            fov, stated_fov = np.degrees(2 * np.arctan(view)).tolist()
            if abs(other_lens.longer) < LENS_FITS:
                return True, (Remark(f"the lens fits: the turn shows {fov:.0f}° across"),)
            return True, _warning(
                f"the pictures are those of a turn seen {fov:.0f}° across, not {stated_fov:.0f}°: {fix}"
            )
    if of_turns <= enough_px:
        return True, guess
    travel = np.linalg.norm(moved.place, axis=1).max() / np.median(moved.seen_m)
    steps = scipy.spatial.transform.Rotation.from_matrix(
        turned.rotation[1:] @ turned.rotation[:-1].transpose(0, 2, 1)
    )
    # What no turn explains, of the way that the picture goes by the travel.
    parallax = (of_turns**2 - of_moves**2) ** 0.5 / (travel * np.median(tracks.px))
    shutter = travel < steps.magnitude().max() and of_turns <= DOUBTFUL * of_moves
    if shutter or parallax < LEAST_PARALLAX:
        sentence = (
            f"a travel of {travel:.1%} of the distance is no more than a rolling shutter or "
            "people who fill the picture look like: the camera is taken to turn only"
        )
        return True, _warning(sentence) + guess
    frame, _, _, log_ratios = _map_sightings(tracks, moved)
    spread = _spread(frame, log_ratios)
    if spread > DEPTH_DOUBT:
        sentence = (
            f"travel would explain the pictures better, but disagrees with the depth by "
            f"{spread:.0%}: the camera is taken to turn only. A wrong field of view or people who "
            "fill the picture do that: check the lens, and give a mask of what moves"
        )
        return True, _warning(sentence) + guess
    return False, guess


def _agreement(tracks: Tracks, fit: Adjusted) -> FloatArray:  # [T - 1] of frames 1...
    agreeing_counts = np.bincount(tracks.frame[fit.off_px < AGREES_PX], minlength=len(fit.rotation))
    sighting_counts = np.bincount(tracks.frame, minlength=len(fit.rotation))
    share = agreeing_counts / np.maximum(sighting_counts, 1) * tracks.agreed
    return np.where(tracks.weak, 1.0, share)[1:]  # those are told by :func:`_lost_frames`


def _map_sightings(tracks: Tracks, fit: Adjusted) -> tuple[FloatArray, ...]:
    """List the places at which a point meets a map, of sightings that agree and in the points' own
    key frames.

    A place has frame, point, px [K, 2], and the logarithm of its adjusted depth over the map's.
    """
    agree_mask = fit.off_px < AGREES_PX
    return (
        np.r_[tracks.frame[agree_mask], tracks.home],
        np.r_[tracks.point[agree_mask], np.arange(len(tracks.home))],
        np.r_[tracks.uv[agree_mask], tracks.home_uv],
        np.log(np.r_[(fit.seen_m / tracks.map_m)[agree_mask], fit.depth_m / tracks.depth_m]),
    )


def _spread(frame: FloatArray, off: FloatArray) -> float:
    """Measure how far the depths of a frame's points are off their own median (median over frames)."""
    of_frames = (off[frame == t] for t in np.unique(frame))
    return float(
        np.median(
            [
                np.median(np.abs(frame_values - np.median(frame_values)))
                for frame_values in of_frames
            ]
        )
    )


def _mend_maps(depth: DepthVideo, tracks: Tracks, fit: Adjusted) -> tuple[Tensor, float]:
    """Multiply the maps [T, H, W] by a polynomial of their log depth, and measure what is left of
    the spread.

    A point is as far as all maps have it on average.
    """
    frame, point, uv, log_ratios = _map_sightings(tracks, fit)
    basis = _basis(uv, depth.exo.camera)
    ridge = np.diag(np.r_[1e-9, np.full(basis.shape[1] - 1, TERM_RIDGE)])
    terms, point_shifts = np.zeros((len(depth.depth_m), len(ridge))), np.zeros(len(tracks.home))
    point_counts, left = np.bincount(point), log_ratios
    for _ in range(MEND_ROUNDS):
        weight = 1 / (1 + (left / MEND_SIGMA) ** 2)
        for t in np.flatnonzero(np.bincount(frame) >= LEAST_ROWS):
            frame_mask = frame == t
            weighted = basis[frame_mask].T * weight[frame_mask]
            target = weighted @ (log_ratios + point_shifts[point])[frame_mask]
            terms[t] = np.linalg.solve(weighted @ basis[frame_mask] + ridge, target)
        left = log_ratios + point_shifts[point] - (basis * terms[frame]).sum(1)
        point_shifts -= np.bincount(point, left.clip(-0.2, 0.2)) / point_counts
    grid = torch.from_numpy(_basis(depth.exo.camera.pixel_grid().numpy(), depth.exo.camera)).float()
    maps = (
        depth_m.float() * torch.exp(grid @ torch.from_numpy(term).float())
        for depth_m, term in zip(depth.depth_m, terms, strict=True)
    )
    return store_frames(maps, len(terms)), _spread(frame, left)


def _basis(uv: FloatArray, camera: CameraModel) -> FloatArray:  # [..., 9]
    """Compute powers of the place in the picture, -1...1, up to the second."""
    x, y = np.moveaxis(2 * (uv + 0.5) / camera.stored_size - 1, -1, 0)
    return polyvander2d(x, y, [2, 2])
