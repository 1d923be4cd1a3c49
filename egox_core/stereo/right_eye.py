"""The right eye's video from the left one's, by the depth that the scene has at the ego camera.

A pixel of the left picture is moved to where the other eye sees its place. Depth is the prior's
where exo observed it with a free sight line, drawn from where the video was found to look. Pixels
that the left eye doesn't see come from the second eye's own prior, where exo saw them and they are
more than a crack, else from the far side of the hole.
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
from .warp import fill_holes, move, sample_at, snap_edges, whole_nearness, wide_parts

TOO_NEAR_M = 0.3
OFF_PX = 4.0
"""Least shift between picture and depth that is warned of, px of a picture 448 px wide; true videos
of drawn rooms have up to 1.7."""


@frozen
class EyeFrame:
    """One frame of the right eye."""

    rgb: Tensor  # [H, W, 3] float32 0...1
    source: Tensor  # [H, W, 2] float32 px of the left picture; NaN: not seen there
    observed: Tensor  # [H, W] bool, of the left picture: exo saw it, so its depth is known
    too_near: Tensor  # [H, W] bool, of the left picture


@dataclass(frozen=True, kw_only=True)
class SecondEye:
    """A clip for the right eye."""

    rgb: Tensor  # [T, H, W, 3] float32 0...1
    off_px: float | None  # median shift between picture and depth; None: it can't be judged
    notes: tuple[str, ...]  # for people


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
    """Make the right eye's video, in the same lens, from ``eyes_m`` along +x of the upright picture.

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
    rgb, shares = FrameStore(count, (height, width, 3), np.float32), []
    for eye in iter_second_eye(
        video, scene, followed, eyes_m=eyes_m, axes=axes, options=options, progress=progress
    ):
        rgb.append(eye.rgb.numpy())
        shares.append([part.double().mean() for part in (eye.source.isnan(), eye.too_near)])
    filled, too_near = np.mean(shares, 0)
    notes, off_px = [f"{filled:.1%} of the right eye's picture is filled", path.text()], None
    if path.median_deg is not None:
        off_px = float(np.radians(path.median_deg)) * camera.fx
        notes[1] = f"Image and depth are {off_px:.1f} px apart"
        if off_px > OFF_PX * width / REFERENCE_SIZE:
            notes[1] = f"Warning: {notes[1]}: what the model moved by itself has the wrong depth"
    if too_near > 0.5:
        notes.append(f"Warning: {too_near:.0%} of the image is nearer than {TOO_NEAR_M:g} m")
    return SecondEye(rgb=rgb.tensor(), off_px=off_px, notes=tuple(notes))


def _followed(trajectory: CameraTrajectory, path: PathError) -> CameraTrajectory:
    """The path turned to where the video was found to look; where that can't be judged, as in the
    frames around."""
    from scipy.spatial.transform import Rotation  # half of torch's time

    judged = path.judged.numpy()
    if not judged.any():
        return trajectory
    frames, at = range(len(trajectory.w2c)), path.step * np.flatnonzero(judged)
    turns = [np.interp(frames, at, axis[judged]) for axis in path.turn_deg.numpy().T]
    turned = torch.from_numpy(Rotation.from_rotvec(np.transpose(turns), degrees=True).as_matrix())
    upright = sensor_from_upright(trajectory.camera.quarter_turns)
    return replace(trajectory, w2c=upright @ turned @ upright.T @ trajectory.w2c.double())


def iter_second_eye(
    video: Tensor,  # [T, H, W, 3] float 0...1
    scene: PointCloud,
    trajectory: CameraTrajectory,  # whose camera is the video's
    *,
    eyes_m: float = EYES_M,
    axes: Tensor | None = None,
    options: PriorOptions | None = None,
    progress: Progress = no_progress,
) -> Iterator[EyeFrame]:
    """The right eye frame by frame; see :func:`second_eye`."""
    camera, w2c = trajectory.camera, trajectory.w2c.double()
    eyes = eyes_m * (torch.eye(3).double()[None] if axes is None else axes)[..., 0]
    eyes = eyes.expand(len(w2c), 3)  # in upright axes
    there = w2c.clone()
    there[..., 3] -= eyes @ sensor_from_upright(camera.quarter_turns).T
    metres_of_z = camera.depth_rays().norm(dim=-1)
    lefts, rights = (
        iter_ego_prior(
            scene,
            replace(trajectory, w2c=each),
            options or prior_preset("exact"),
            classes=True,
            progress=progress,
        )
        for each in (w2c, there)
    )
    for picture, eye, left, right in zip(video, eyes, lefts, rights, strict=False):
        picture = picture.float().cpu()
        (nearness, observed), (beside, own) = (
            (1 / (prior.depth_m * metres_of_z), torch.as_tensor(prior.seen) >= EARLIER)
            for prior in (left, right)
        )
        observed &= nearness.isfinite()
        whole = snap_edges(whole_nearness(nearness, observed), observed, picture)
        source, moved = move(camera.upright(), whole, eye)
        own &= wide_parts(moved.isnan())
        rgb = right.rgb.where(own[..., None], sample_at(picture, source))
        yield EyeFrame(
            rgb=fill_holes(rgb, beside.where(own, moved)),
            source=source,
            observed=observed,
            too_near=observed & (whole > 1 / TOO_NEAR_M),
        )
