"""Turn an ego video back to its camera path.

The picture is only turned where that pays: from a few degrees on, which must be more than the
turn's own interval. What the lens didn't see is filled smoothly from what it saw.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from ..cameras import CameraModel, is_aria
from ..frame_store import store_frames
from ..frozen import frozen
from ..prior import aria_shading, push_pull
from ..progress import Progress, no_progress
from ..sizes import REFERENCE_SIZE
from ..video import reproject
from .clip_turn import LEAST_DEG, ClipTurn

DARKEST_RIM = 0.3
"""Least brightness that is divided out: what is darker holds no more than noise."""
FEATHER_PX = 14.0
"""Width of the seam towards what is filled, of a picture of REFERENCE_SIZE."""


def straighten_picture(
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    turn: ClipTurn,
    camera: CameraModel,
    *,
    # Lens of the result, into which the video is drawn at once; None: its own.
    target: CameraModel | None = None,
    progress: Progress = no_progress,
) -> tuple[Tensor, str, Tensor | None]:
    """Turn a video's pictures back to the ordered path, if that pays.

    Returns:
        The video [T, H', W', 3], the same object if nothing changes; what was done, in words; and
        if it was turned, its pixels that are filled [H', W'] bool.

    Raises:
        EgoXInputError: frames of another size than the camera's.
    """
    height, width = video.shape[1:3]
    camera.check_size("ego camera", width, height)
    reason = _reason_to_leave(turn)
    if reason:
        unturned = video if target is None else reproject(video, camera, target, progress)
        return unturned, f"Not straightened: {reason}", None
    sampling = _TurnedSampling.of(turn, camera, target or camera)

    def straightened():
        for number, frame in enumerate(video):
            progress(number, len(video), "straighten")
            yield sampling(frame)

    words = (
        f"Straightened by {turn.angle_deg:.0f}° ± {turn.interval_deg:.0f}, "
        f"{sampling.filled_share:.0%} of the picture filled"
    )
    return store_frames(straightened(), len(video)), words, sampling.filled_mask


def _reason_to_leave(turn: ClipTurn) -> str:  # "": it is turned
    if turn.judged and turn.angle_deg < max(LEAST_DEG, turn.interval_deg):
        return (
            f"a turn of {turn.angle_deg:.0f}° ± {turn.interval_deg:.0f} is too small to gain "
            "anything"
        )
    return turn.reason


@frozen
class _TurnedSampling:
    """Positions of the ordered camera's pixels in the drawn picture, and what it hasn't."""

    turned_px: np.ndarray  # [H', W', 2] float32
    seen_mask: Tensor  # [H', W'] bool, what the lens sees
    turned_weight: Tensor  # [H', W', 1] of the turned picture, 0 where all is filled
    # [H', W', 1] of the picture as it was drawn, 1 beyond the lens; None: black there
    drawn_weight: Tensor | None
    lens_light: np.ndarray  # [H, W, 1] of the drawn picture
    target_light: Tensor  # [H', W', 1]

    @classmethod
    def of(cls, turn: ClipTurn, camera: CameraModel, target: CameraModel) -> _TurnedSampling:
        rays, in_target = target.pixel_rays(torch.float64)
        width, height = camera.stored_size
        circle = camera.circle()

        def seen(directions: Tensor) -> tuple[np.ndarray, Tensor]:
            uv, valid = camera.project(directions)
            column = uv[..., 0].round().long().clamp(0, width - 1)
            row = uv[..., 1].round().long().clamp(0, height - 1)
            return uv.float().numpy(), in_target & valid & camera.inside(uv) & circle[row, column]

        turned_px, turned_mask = seen(rays @ turn.sensor_rotation(camera).T)
        unturned_px, seen_mask = seen(rays)
        lens_light = np.ones((height, width, 1), np.float32)
        if is_aria(camera):  # whose shading stays where it is
            lens_light = aria_shading(camera).clamp_min(DARKEST_RIM).numpy()[..., None]
        feather_px = FEATHER_PX * height / REFERENCE_SIZE
        return cls(
            turned_px=turned_px,
            seen_mask=seen_mask,
            turned_weight=_feather(turned_mask | ~seen_mask, feather_px),
            drawn_weight=1 - _feather(seen_mask, feather_px) if target == camera else None,
            lens_light=lens_light,
            target_light=torch.from_numpy(_sampled(lens_light, unturned_px)),
        )

    @property
    def filled_mask(self) -> Tensor:  # [H', W'] bool
        return self.seen_mask & (self.turned_weight[..., 0] < 0.5)

    @property
    def filled_share(self) -> float:
        return float(self.filled_mask.sum() / self.seen_mask.sum())

    def __call__(self, frame: Tensor) -> Tensor:  # [H, W, 3] -> [H', W', 3]
        drawn = frame.float().numpy()
        # Brighter than white is noise of the rim.
        turned = torch.from_numpy(_sampled(drawn / self.lens_light, self.turned_px)).clamp(0, 1)
        filled = push_pull(turned, ~self.seen_mask | (self.turned_weight[..., 0] < 1))
        shown = filled + self.turned_weight * (turned - filled)
        shown = shown * self.target_light * self.seen_mask[..., None]
        if self.drawn_weight is None:
            return shown
        return shown + self.drawn_weight * (frame.float() - shown)


def _sampled(picture: np.ndarray, positions: np.ndarray) -> np.ndarray:  # [H', W', C]
    # OpenCV takes None for the second map, which its stubs don't know.
    sampled = cv2.remap(  # ty: ignore[no-matching-overload]
        picture, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return sampled.reshape(*positions.shape[:2], -1)


def _feather(mask: Tensor, width_px: float) -> Tensor:  # [H, W] bool -> [H, W, 1] 0...1
    distance = cv2.distanceTransform(mask.numpy().astype(np.uint8), cv2.DIST_L2, 3)
    return (torch.from_numpy(distance) / max(width_px, 1.0)).clamp(0, 1)[..., None]
