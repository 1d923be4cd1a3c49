"""Estimate the poses of a moving exo camera, and correct its depth maps to agree with them."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import get_args

import numpy as np
import scipy
import torch
from numpy.polynomial.polynomial import polyvander2d
from torch import Tensor

from ..cameras import CameraModel, CameraPath, World, compose, invert
from ..errors import EgoXInputError, check_choice, in_words
from ..frame_store import store_frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind, StageReport
from ..types import DepthVideo, Motion
from .build import StillMasks, check_scene_input
from .camera_motion import camera_motion
from .exo_adjust import AdjustmentResult, adjust
from .exo_tracks import FloatArray, Tracks, find_tracks

AGREES_PX = 3.0
SIMILAR_FACTOR, SIMILAR_PX = 1.1, 0.02  # rotations explain as much: times the residual, and px more
DOUBTFUL_FACTOR = 1.3  # times, where the travel is so small that a rolling shutter looks like it
MIN_PARALLAX = 0.005
DEPTH_DOUBT = 0.12  # spread of the points' depth around the maps' from which travel isn't believed
MIN_AGREE, POOR_AGREE = 0.3, 0.5  # of a clip's matches; of the worst frame's
MAX_LOST = 2  # frames in a row without a pose of their own; poses between are interpolated
MAX_LOG_FOCAL, LENS_TURN_DEG = 0.05, 10.0  # of the focal length's logarithm; deg that show it
MAX_LOG_SCALE = 0.15  # of the scale's logarithm
TERM_RIDGE, MIN_ROWS, MEND_SIGMA, MEND_ROUNDS = 3.0, 20, 0.03, 3


@frozen
class ExoMotion(StageReport):
    """Motion of an exo camera, with figures on how well it is known."""

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
        """Collect the figures of the exo camera's motion for a JSON report."""
        figures = asdict(self)
        del figures["sightings"], figures["notes"]
        return figures | {"notes": list(map(str, self.notes))}

    def text(self) -> str:
        """Describe the exo camera's motion, one sentence per line."""
        travel_text = f"{self.travel_m:.2g} m, " if self.motion == "moves" else ""
        figure_texts = (
            f"the exo camera {self.motion}: {travel_text}{self.turn_deg:.0f}°",
            f"{self.agree:.0%} of {self.matches:,} matches agree, worst frame "
            f"{self.worst_frame}: {self.worst_agree:.0%}; residual {self.residual_px:.2f} px; "
            f"depth agrees within {self.depth_spread:.1%}",
        )
        if self.motion == "stands":
            figure_texts = ("the exo camera is static: the depth is not changed",)
        return "\n".join(map(str, (*figure_texts, *self.notes)))


def estimate_exo_motion(
    exo_frames: Sequence[Tensor] | Tensor,  # [T, H, W, 3] 0...1 or uint8, of the maps' size
    depth: DepthVideo,
    motion: Motion = "auto",
    # A path of another program; if its world is unknown, it isn't in metres.
    given: CameraPath | None = None,
    *,
    progress: Progress = no_progress,
) -> tuple[DepthVideo, ExoMotion]:
    """Estimate the poses of a moving exo camera and correct its depth, or keep a static one.

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
            fix="set motion to auto, or leave given out",
        )
    if given is None and depth.exo.moves:
        given = depth.exo
    masks = StillMasks(depth, "auto")
    must_estimate = motion != "stands" and given is None
    seen_motion = camera_motion(exo_frames, masks) if must_estimate else None
    stays_put = motion == "auto" and must_estimate and seen_motion is None
    if motion == "stands" or stays_put or len(depth.depth_m) < 2:
        return depth, ExoMotion(motion="stands")
    tracks = find_tracks(exo_frames, depth.depth_m, depth.exo.camera, masks, progress)
    lost_text = _lost_frames(tracks)
    if given is not None:
        return _check_given_path(depth, tracks, lost_text, given)
    lens_zooms = seen_motion is not None and seen_motion.zoom != 1
    zoom_notes = _warning(seen_motion.text()) if lens_zooms else ()
    if lost_text:
        return _keep_static(depth, motion, f"{lost_text} can't be followed", zoom_notes)
    progress(0, 1, "the exo camera's motion: adjustment")
    turned_fit, moved_fit = (adjust(tracks, turns=only_turns) for only_turns in (True, False))
    only_turns, notes = _choose_motion(tracks, turned_fit, moved_fit, depth, motion)
    fit = turned_fit if only_turns else moved_fit
    agreement = _match_shares(tracks, fit).mean()
    if agreement < MIN_AGREE:
        reason = f"only {agreement:.0%} of the matches agree"
        return _keep_static(depth, motion, reason, zoom_notes)
    from scipy.interpolate import make_interp_spline  # a tenth of torch's time

    known_frames = np.flatnonzero(~tracks.has_no_pose)  # lost ones stand between their neighbours
    sampled_at = np.arange(len(tracks.has_no_pose)).clip(known_frames[0], known_frames[-1])
    rotation = scipy.spatial.transform.Slerp(
        known_frames, scipy.spatial.transform.Rotation.from_matrix(fit.rotation[known_frames])
    )(sampled_at).as_matrix()
    poses = _world_poses(
        depth, rotation, make_interp_spline(known_frames, fit.place[known_frames], k=1)(sampled_at)
    )
    notes = zoom_notes + notes
    return _with_report(_with_poses(depth, poses, depth.exo.world), tracks, fit, only_turns, notes)


def _world_poses(depth: DepthVideo, rotation: FloatArray, place: FloatArray) -> Tensor:  # [T, 3, 4]
    """Combine poses relative to frame 0 with the depth's own pose, to w2c in the depth's world."""
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
    fit: AdjustmentResult,
    turns: bool,
    notes: tuple[Remark, ...],
) -> tuple[DepthVideo, ExoMotion]:
    """Correct the depth maps to agree with the poses, and report the motion."""
    agreement = _match_shares(tracks, fit)
    if agreement.min() < POOR_AGREE:
        notes += _warning(f"frame {agreement.argmin() + 1} is known badly; look at the preview")
    depth_m, spread = _correct_maps(depth, tracks, fit)
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
    depth: DepthVideo, tracks: Tracks, lost_text: str, path: CameraPath
) -> tuple[DepthVideo, ExoMotion]:
    """Check a given camera path against the sightings and their depth, and use it if they agree."""
    given_poses = path.poses(len(depth.depth_m), "given path")
    is_metric = path.world != "unknown"
    world = path.world if is_metric else depth.exo.world
    if len(tracks.frame) < 3 * len(given_poses):
        if not is_metric:
            raise EgoXInputError(
                "given path of the exo camera",
                got=f"{lost_text} can't be followed, to scale it by",
                expected="static corners",
                fix="give a path in metres",
            )
        notes = _warning(f"{lost_text} can't be followed: the given path isn't checked")
        return _with_poses(depth, given_poses, world), ExoMotion(motion="moves", notes=notes)
    rotation, place = np.split(compose(given_poses, invert(given_poses[0])).numpy(), [3], 2)
    place = place[:, :, 0]
    notes = ()
    scale = 1.0
    scale_error = 0.0
    only_turns = bool(np.abs(place).max() < 1e-6)
    if not only_turns:
        own_places, given_places = (
            positions[~tracks.has_no_pose]
            for positions in (adjust(tracks, turns=False).place, place)
        )
        scale = float(np.linalg.norm(own_places) / np.linalg.norm(given_places))
        scale_error = float(
            np.linalg.norm(own_places - scale * given_places) / np.linalg.norm(own_places)
        )
        scaled_tracks = replace(tracks, rotation=rotation, place=scale * place)
        scale *= np.exp(adjust(scaled_tracks, turns=False, held=True, scale=True).log_scale_change)
    if not is_metric:
        place = scale * place
        given_poses = _world_poses(depth, rotation, place)
        if not only_turns:
            notes = (Remark(f"scale from the depth: x {scale:.4g}, sure to {scale_error:.1%}"),)
    tracks = replace(tracks, rotation=rotation, place=place)
    fit = adjust(tracks, turns=only_turns, held=True)
    agreement = _match_shares(tracks, fit).mean()
    is_other_scale = is_metric and abs(np.log(scale)) > max(MAX_LOG_SCALE, 3 * scale_error)
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
    if is_metric:
        depth = replace(depth, exo=replace(depth.exo, gravity=path.gravity))
    return _with_report(_with_poses(depth, given_poses, world), tracks, fit, only_turns, notes)


def _keep_static(
    depth: DepthVideo, motion: Motion, why: str, notes: tuple[Remark, ...]
) -> tuple[DepthVideo, ExoMotion]:
    """Keep the depth unchanged with a warning, or raise an error if the caller demanded a
    motion."""
    advice = in_words(
        "give a mask of what moves, use a part of the clip that is sharper and has more to see "
        "around the people, or give the path of another program (given)"
    )
    if motion != "auto":
        raise EgoXInputError(
            "motion of the exo camera", got=why, expected="static corners", fix=advice
        )
    sentence = (
        f"the exo camera moves, but {why}: it is treated as static, and the scene smears. {advice}"
    )
    return depth, ExoMotion(motion="stands", notes=notes + _warning(sentence))


def _warning(text: str) -> tuple[Remark, ...]:
    return (Remark(f"warning: {text}", RemarkKind.WARNING),)


def _lost_frames(tracks: Tracks) -> str:
    """Describe frames without a pose that are too many in a row to interpolate, or return ""."""
    if len(tracks.frame) < 3 * len(tracks.rotation):
        return "the background"
    frames = np.flatnonzero(tracks.has_no_pose)
    longest_run = max(np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1), key=len)
    return f"frames {longest_run[0]} to {longest_run[-1]}" if len(longest_run) > MAX_LOST else ""


def _choose_motion(
    tracks: Tracks,
    turning_fit: AdjustmentResult,
    moving_fit: AdjustmentResult,
    depth: DepthVideo,
    motion: Motion,
) -> tuple[bool, tuple[Remark, ...]]:
    """Choose between a rotating and a moving camera, with warnings about doubts."""
    lens_advice = in_words("the path is as wrong as the lens: give fov_deg of stages.align")
    lens_warning = (
        _warning(f"the lens was guessed, and {lens_advice}") if depth.exo.lens_guessed else ()
    )
    if motion == "moves":
        return False, lens_warning
    turning_px, moving_px = (float(np.median(fit.off_px)) for fit in (turning_fit, moving_fit))
    enough_px = np.inf if motion == "turns" else SIMILAR_FACTOR * moving_px + SIMILAR_PX
    largest_turn_deg = np.degrees(
        scipy.spatial.transform.Rotation.from_matrix(turning_fit.rotation).magnitude().max()
    )
    if largest_turn_deg > LENS_TURN_DEG and depth.exo.camera.lens == "pinhole":
        other_lens_fit = adjust(tracks, turns=True, lens=True)
        if np.median(other_lens_fit.off_px) <= enough_px:
            half_widths = (
                depth.exo.camera.width
                / 2
                / (depth.exo.camera.fx * np.exp([other_lens_fit.log_focal_change, 0.0]))
            )
            fov, stated_fov = np.degrees(2 * np.arctan(half_widths)).tolist()
            if abs(other_lens_fit.log_focal_change) < MAX_LOG_FOCAL:
                return True, (Remark(f"the lens fits: the turn shows {fov:.0f}° across"),)
            return True, _warning(
                f"the pictures are those of a turn seen {fov:.0f}° across, not "
                f"{stated_fov:.0f}°: {lens_advice}"
            )
    if turning_px <= enough_px:
        return True, lens_warning
    relative_travel = np.linalg.norm(moving_fit.place, axis=1).max() / np.median(moving_fit.seen_m)
    frame_rotations = scipy.spatial.transform.Rotation.from_matrix(
        turning_fit.rotation[1:] @ turning_fit.rotation[:-1].transpose(0, 2, 1)
    )
    # What no turn explains, of the way that the picture goes by the travel.
    parallax = (turning_px**2 - moving_px**2) ** 0.5 / (
        relative_travel * np.median(tracks.px_per_unit)
    )
    looks_like_shutter = (
        relative_travel < frame_rotations.magnitude().max()
        and turning_px <= DOUBTFUL_FACTOR * moving_px
    )
    if looks_like_shutter or parallax < MIN_PARALLAX:
        sentence = (
            f"a travel of {relative_travel:.1%} of the distance is no more than a rolling shutter "
            "or people who fill the picture look like: the camera is taken to turn only"
        )
        return True, _warning(sentence) + lens_warning
    frame, _, _, log_ratios = _map_sightings(tracks, moving_fit)
    spread = _depth_spread(frame, log_ratios)
    if spread > DEPTH_DOUBT:
        sentence = (
            f"travel would explain the pictures better, but disagrees with the depth by "
            f"{spread:.0%}: the camera is taken to turn only. A wrong field of view or people who "
            "fill the picture do that: check the lens, and give a mask of what moves"
        )
        return True, _warning(sentence) + lens_warning
    return False, lens_warning


def _match_shares(tracks: Tracks, fit: AdjustmentResult) -> FloatArray:  # [T - 1] of frames 1...
    agreeing_counts = np.bincount(tracks.frame[fit.off_px < AGREES_PX], minlength=len(fit.rotation))
    sighting_counts = np.bincount(tracks.frame, minlength=len(fit.rotation))
    share = agreeing_counts / np.maximum(sighting_counts, 1) * tracks.inlier_shares
    return np.where(tracks.has_no_pose, 1.0, share)[1:]  # those are told by :func:`_lost_frames`


def _map_sightings(tracks: Tracks, fit: AdjustmentResult) -> tuple[FloatArray, ...]:
    """Convert tracked points to sightings with the depth that each map shows.

    Each has frame, point, px [K, 2], and the logarithm of its adjusted depth over the map's.
    """
    agree_mask = fit.off_px < AGREES_PX
    return (
        np.r_[tracks.frame[agree_mask], tracks.key_frame],
        np.r_[tracks.point[agree_mask], np.arange(len(tracks.key_frame))],
        np.r_[tracks.uv[agree_mask], tracks.key_uv],
        np.log(np.r_[(fit.seen_m / tracks.map_depth_m)[agree_mask], fit.depth_m / tracks.depth_m]),
    )


def _depth_spread(frame: FloatArray, log_ratios: FloatArray) -> float:
    """Measure the median deviation of depth ratios within a frame, as the median over frames."""
    ratios_by_frame = (log_ratios[frame == t] for t in np.unique(frame))
    return float(
        np.median(
            [
                np.median(np.abs(frame_values - np.median(frame_values)))
                for frame_values in ratios_by_frame
            ]
        )
    )


def _correct_maps(depth: DepthVideo, tracks: Tracks, fit: AdjustmentResult) -> tuple[Tensor, float]:
    """Multiply each depth map by a smooth correction, and measure the remaining error.

    A point is as far as all maps have it on average.
    """
    frame, point, uv, log_ratios = _map_sightings(tracks, fit)
    basis = _polynomial_terms(uv, depth.exo.camera)
    ridge = np.diag(np.r_[1e-9, np.full(basis.shape[1] - 1, TERM_RIDGE)])
    coefficients, point_shifts = (
        np.zeros((len(depth.depth_m), len(ridge))),
        np.zeros(len(tracks.key_frame)),
    )
    point_counts = np.bincount(point)
    residuals = log_ratios
    for _ in range(MEND_ROUNDS):
        weight = 1 / (1 + (residuals / MEND_SIGMA) ** 2)
        for t in np.flatnonzero(np.bincount(frame) >= MIN_ROWS):
            frame_mask = frame == t
            weighted = basis[frame_mask].T * weight[frame_mask]
            right_side = weighted @ (log_ratios + point_shifts[point])[frame_mask]
            coefficients[t] = np.linalg.solve(weighted @ basis[frame_mask] + ridge, right_side)
        residuals = log_ratios + point_shifts[point] - (basis * coefficients[frame]).sum(1)
        point_shifts -= np.bincount(point, residuals.clip(-0.2, 0.2)) / point_counts
    grid = torch.from_numpy(
        _polynomial_terms(depth.exo.camera.pixel_grid().numpy(), depth.exo.camera)
    ).float()
    maps = (
        depth_m.float() * torch.exp(grid @ torch.from_numpy(frame_coefficients).float())
        for depth_m, frame_coefficients in zip(depth.depth_m, coefficients, strict=True)
    )
    return store_frames(maps, len(coefficients)), _depth_spread(frame, residuals)


def _polynomial_terms(uv: FloatArray, camera: CameraModel) -> FloatArray:  # [..., 9]
    """Compute polynomial terms of pixel positions scaled to -1...1, up to degree 2 in x and in
    y."""
    x, y = np.moveaxis(2 * (uv + 0.5) / camera.stored_size - 1, -1, 0)
    return polyvander2d(x, y, [2, 2])
