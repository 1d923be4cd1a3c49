"""The right eye's video from the left one's, by the depth that the scene has at the ego camera.

A pixel of the left picture is moved to where the other eye sees its place. Depth is the prior's
where exo observed it with a free sight line, drawn from where the video was found to look. Pixels that
the left eye doesn't see come from the second eye's own prior, where exo saw them, else from the far
side of the hole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..cameras import sensor_from_upright
from ..errors import EgoXInputError
from ..frame_store import FrameStore
from ..frozen import frozen
from ..metrics import PathError, PathViews
from ..prior import PriorOptions, iter_ego_prior, prior_preset
from ..progress import Progress, no_progress
from ..sizes import REFERENCE_SIZE
from ..types import EARLIER, CameraTrajectory, PointCloud
from .pictures import EYES_M
from .warp import Moved, fill_holes, move, sample_at, snap_edges, whole_nearness

TOO_NEAR_M = 0.3
OFF_PX = 4.0
"""Least shift between picture and depth that is warned of, px of a picture 448 px wide."""


@frozen
class EyeFrame:
    """One frame of the right eye."""

    rgb: Tensor  # [H, W, 3] float32 0...1
    moved: Moved  # where its pixels are in the left eye's picture
    observed: Tensor  # [H, W] bool, of the left picture: exo saw it, so its depth is known
    own: Tensor  # [H, W] bool, of the right one: from the second eye's prior
    too_near: Tensor  # [H, W] bool, of the left one


@dataclass(frozen=True, kw_only=True)
class SecondEye:
    """A clip for the right eye."""

    rgb: Tensor  # [T, H, W, 3] float32 0...1
    filled: float  # share of it that the left eye doesn't see
    off_px: float | None  # median shift between picture and depth; None: it can't be judged
    notes: tuple[str, ...]  # for people; warnings first


def second_eye(
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation: the left eye
    scene: PointCloud,
    trajectory: CameraTrajectory,
    *,
    eyes_m: float = EYES_M,
    axes: Tensor | None = None,  # [T, 3, 3] float64, upright picture from the one written
    options: PriorOptions | None = None,  # of the priors; default: preset exact
    progress: Progress = no_progress,
) -> SecondEye:
    """The right eye's video, in the same lens, from ``eyes_m`` along +x of the upright picture.

    With ``axes`` along +x of a stabilised picture. A clip of any length takes the memory of a few
    frames, beside the input.

    Raises:
        EgoXInputError: another count of frames than the scene's, eyes not 1 to 200 mm apart, a scene
            without the depth it was built of.
    """
    if not 0.001 <= eyes_m <= 0.2:
        raise EgoXInputError(
            "distance of the eyes",
            got=f"{1000 * eyes_m:g} mm",
            expected="1 to 200 mm",
            fix="a grown-up has 63 mm",
        )
    path = PathViews.of(scene, trajectory, progress=progress).error(video.cpu())
    count, height, width, _ = video.shape
    camera = trajectory.camera.rescale(width, height)
    followed = replace(_followed(trajectory, path), camera=camera)
    options = options or prior_preset("exact")
    store = FrameStore(count, (height, width, 3), np.float32)
    shares = torch.zeros(2)
    for frame in iter_second_eye(
        video, scene, followed, eyes_m=eyes_m, axes=axes, options=options, progress=progress
    ):
        store.append(frame.rgb.numpy())
        holes = frame.moved.nearness.isnan()
        shares += torch.stack((holes.float().mean(), frame.too_near.float().mean())) / count
    off_px = None if path.median_deg is None else float(np.radians(path.median_deg)) * camera.fx
    filled, too_near = shares.tolist()
    notes = [path.text() if off_px is None else f"Image and depth are {off_px:.1f} px apart"]
    if off_px is not None and off_px > OFF_PX * width / REFERENCE_SIZE:
        notes[0] = (
            f"Warning: {notes[0]} ({path.median_deg:.1f}°): the video left its path. Depth was turned "
            "after it, but what the model moved by itself has wrong depth"
        )
    if too_near > 0.5:
        notes.insert(
            0,
            f"Warning: {too_near:.0%} of the picture is nearer than {TOO_NEAR_M:g} m, where eyes "
            "can't join both pictures",
        )
    notes.append(f"{filled:.1%} of the right eye's picture is filled")
    return SecondEye(rgb=store.tensor(), filled=filled, off_px=off_px, notes=tuple(notes))


def _followed(trajectory: CameraTrajectory, path: PathError) -> CameraTrajectory:
    """The path turned to where the video was found to look; where that can't be judged, as in the
    frames around."""
    judged = path.judged.numpy()
    if not judged.any():
        return trajectory
    count = len(trajectory.w2c)
    at = np.arange(len(judged))[judged] * path.step
    turn = np.stack(
        [np.interp(np.arange(count), at, axis[judged]) for axis in path.turn_deg.numpy().T], -1
    )
    x, y, z = torch.from_numpy(np.radians(turn)).unbind(-1)
    none = torch.zeros_like(x)
    skew = torch.stack((none, -z, y, z, none, -x, -y, x, none), -1).view(count, 3, 3)
    upright = sensor_from_upright(trajectory.camera.quarter_turns)
    turned = upright @ torch.linalg.matrix_exp(skew) @ upright.T
    return replace(trajectory, w2c=turned @ trajectory.w2c.double())


def iter_second_eye(
    video: Tensor,  # [T, H, W, 3] float 0...1
    scene: PointCloud,
    trajectory: CameraTrajectory,  # whose camera is the video's
    *,
    eyes_m: float,
    axes: Tensor | None,
    options: PriorOptions,
    progress: Progress,
) -> Iterator[EyeFrame]:
    """The right eye frame by frame; see :func:`second_eye`."""
    if axes is None:
        axes = torch.eye(3, dtype=torch.float64).expand(len(video), 3, 3)
    eyes = eyes_m * axes[..., 0]  # [T, 3] in upright axes
    turn = sensor_from_upright(trajectory.camera.quarter_turns)
    there = trajectory.w2c.clone().double()
    there[: len(eyes), :, 3] -= eyes @ turn.T
    camera, upright = trajectory.camera, trajectory.camera.upright()
    metres_of_z = camera.depth_rays().norm(dim=-1)
    lefts, rights = (
        iter_ego_prior(
            scene, replace(trajectory, w2c=w2c), options, classes=True, progress=progress
        )
        for w2c in (trajectory.w2c, there)
    )
    for picture, eye, left, right in zip(video, eyes, lefts, rights, strict=True):
        picture = picture.float().cpu()
        assert left.seen is not None and right.seen is not None  # both were asked for
        nearness = 1 / (left.depth_m * metres_of_z)
        observed = (left.seen >= EARLIER) & nearness.isfinite()
        whole = snap_edges(whole_nearness(nearness, observed), observed, picture)
        moved = move(upright, whole, eye)
        own = moved.nearness.isnan() & (right.seen >= EARLIER)
        rgb = torch.where(own[..., None], right.rgb, sample_at(picture, moved.source))
        known = torch.where(own, 1 / (right.depth_m * metres_of_z), moved.nearness)
        yield EyeFrame(
            rgb=fill_holes(rgb, known),
            moved=moved,
            observed=observed,
            own=own,
            too_near=observed & (whole > 1 / TOO_NEAR_M),
        )
