"""Turn an ego video back to its camera path.

The picture is only turned where that pays: from a few degrees on, which must be more than the
turn's own interval, and while the lens' rim, which has nothing to show, stays narrow. There the old
pixels stay, feathered.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from ..cameras import CameraModel, is_aria
from ..frame_store import store_frames
from ..frozen import frozen
from ..prior import aria_shading
from ..progress import Progress, no_progress
from ..sizes import REFERENCE_SIZE
from ..video import reproject
from .clip_turn import ClipTurn

LEAST_DEG, MOST_DEG = 5.0, 10.0
"""Of real outputs, turning back less gains nothing, and beyond the rim's old pixels show doubled
arms and windows."""
MOST_RIM, DISK = 0.08, 200 / 224
"""Share of the disk that may keep its old pixels, and the disk's part of the lens' circle: what is
beyond is dark."""
DARKEST_RIM = 0.3
"""Least brightness that is divided out: what is darker holds no more than noise."""
FEATHER_PX = 14.0
"""Width of the seam towards the rim, of a picture of REFERENCE_SIZE."""


def straighten_picture(
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    turn: ClipTurn,
    camera: CameraModel,
    *,
    # Lens of the result, into which the video is drawn at once; None: its own.
    target: CameraModel | None = None,
    progress: Progress = no_progress,
) -> tuple[Tensor, str, bool]:
    """Turn a video's pictures back to the ordered path, if that pays.

    Returns:
        The video [T, H', W', 3], the same object if nothing changes; what was done, in words; and
        whether it was turned.

    Raises:
        EgoXInputError: frames of another size than the camera's.
    """
    height, width = video.shape[1:3]
    camera.check_size("ego camera", width, height)
    sampling = _TurnedSampling.of(turn, camera, target or camera)
    reason = _reason_to_leave(turn, sampling, target)
    if reason:
        unturned = video if target is None else reproject(video, camera, target, progress)
        return unturned, f"Not straightened: {reason}", False

    def straightened():
        for number, frame in enumerate(video):
            progress(number, len(video), "straighten")
            yield sampling(frame)

    words = f"Straightened by {turn.angle_deg:.0f}° ± {turn.interval_deg:.0f}"
    return store_frames(straightened(), len(video)), words, True


def _reason_to_leave(
    turn: ClipTurn, sampling: _TurnedSampling, target: CameraModel | None
) -> str:  # "": it is turned
    if not turn.judged:
        return turn.reason
    if turn.angle_deg < max(LEAST_DEG, turn.interval_deg):
        return (
            f"a turn of {turn.angle_deg:.0f}° ± {turn.interval_deg:.0f} is too small to gain "
            "anything"
        )
    if (target is None and turn.angle_deg > MOST_DEG) or sampling.rim_share > MOST_RIM:
        return (
            f"a turn of {turn.angle_deg:.0f}° leaves {sampling.rim_share:.0%} of the picture "
            "empty. The camera path can be corrected instead"
        )
    return ""


@frozen
class _TurnedSampling:
    """Positions of the ordered camera's pixels in the drawn picture, and how they are mixed."""

    turned_px: np.ndarray  # [H', W', 2] float32
    unturned_px: np.ndarray  # [H', W', 2] float32
    weight: np.ndarray  # [H', W', 1] float32, 0 where the old pixel stays
    lens_light: np.ndarray  # [H, W, 1] of the drawn picture
    target_light: np.ndarray  # [H', W', 1]
    seen_mask: np.ndarray  # [H', W', 1] bool, what the drawn picture shows unturned
    rim_share: float

    @classmethod
    def of(cls, turn: ClipTurn, camera: CameraModel, target: CameraModel) -> _TurnedSampling:
        rays, in_target = target.pixel_rays(torch.float64)
        width, height = camera.stored_size
        circle = camera.circle()

        def seen(directions: Tensor) -> tuple[np.ndarray, Tensor]:
            uv, valid = camera.project(directions)
            column = uv[..., 0].round().long().clamp(0, width - 1)
            row = uv[..., 1].round().long().clamp(0, height - 1)
            mask = in_target & valid & camera.inside(uv) & circle[row, column]
            return uv.float().numpy(), mask

        turned_px, turned_mask = seen(rays @ turn.sensor_rotation(camera).T)
        unturned_px, unturned_mask = seen(rays)
        compared_mask = unturned_mask
        if target == camera:  # beyond is dark
            compared_mask = camera.axis_distance_px() < DISK * min(width, height) / 2
            unturned_mask = torch.ones_like(unturned_mask)
        lens_light = np.ones((height, width, 1), np.float32)
        if is_aria(camera):  # whose shading stays where it is
            lens_light = aria_shading(camera).clamp_min(DARKEST_RIM).numpy()[..., None]
        return cls(
            turned_px=turned_px,
            unturned_px=camera.pixel_grid().numpy() if target == camera else unturned_px,
            weight=_feather(turned_mask.numpy(), FEATHER_PX * height / REFERENCE_SIZE)[..., None],
            lens_light=lens_light,
            target_light=lens_light if target == camera else _sampled(lens_light, unturned_px),
            seen_mask=unturned_mask[..., None].numpy(),
            rim_share=1 - float((turned_mask & compared_mask).sum() / compared_mask.sum()),
        )

    def __call__(self, frame: Tensor) -> Tensor:  # [H, W, 3] -> [H', W', 3]
        drawn = frame.float().numpy()
        kept = _sampled(drawn, self.unturned_px) * self.seen_mask
        turned = (_sampled(drawn / self.lens_light, self.turned_px) * self.target_light).clip(0, 1)
        return torch.from_numpy(kept + self.weight * (turned - kept))


def _sampled(picture: np.ndarray, positions: np.ndarray) -> np.ndarray:  # [H', W', C]
    # OpenCV takes None for the second map, which its stubs don't know.
    sampled = cv2.remap(  # ty: ignore[no-matching-overload]
        picture, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return sampled.reshape(*positions.shape[:2], -1)


def _feather(mask: np.ndarray, width_px: float) -> np.ndarray:  # [H, W] float32 0...1
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return np.clip(distance / max(width_px, 1.0), 0, 1).astype(np.float32)
