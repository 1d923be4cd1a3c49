"""Complete an ego prior to a picture without a model: its holes filled, shaded like the lens."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..arrays import as_floats, as_frames
from ..cameras import CameraModel, is_aria
from ..choices import SHADING_CHOICES, Shading, check_gain
from ..errors import EgoXInputError, check_choice
from ..progress import Progress, no_progress
from .push_pull import push_pull
from .room import RoomGuess

FAR_SHARE, FAR_POWER, LEAST_FAR = 0.95, 4, 1e-3
"""A known pixel counts by its depth over this quantile of all, at most 1 and at least the last, to
this power: what hides a hole is near, and what is seen beside it goes on behind."""
ARIA_SHADING = (1.0, 1.0, 0.99, 0.95, 0.91, 0.85, 0.78, 0.69, 0.62, 0.59, 0.55, 0.27)
"""Brightness at 0, 0.1, ... 1.1 times half the picture's side from the optical axis, as a share of
that in its middle, and black at 1.2 (``benchmarks/results/preview.md``)."""
SHADING_STEP = 0.1


def iter_ego_preview(
    prior: Tensor,  # [T, H, W, 3] 0...1, stored (upright) orientation
    holes: Tensor,  # [T, H, W] bool, the pixels to fill
    camera: CameraModel,
    *,
    depth_m: Tensor | None = None,  # [T, H, W] z depth, NaN unknown
    room: RoomGuess | None = None,
    shading: Shading = "auto",
    lens_guessed: bool = False,
    gain: float = 1.0,
    progress: Progress = no_progress,
) -> Iterator[Tensor]:  # of [H, W, 3] float32 0...1
    """Fill and shade an ego prior frame by frame, so that memory does not grow with the clip.

    Args:
        camera: of the prior, which says where its picture ends and how it is shaded.
        depth_m: of the prior, by which holes take the colours of what is farther away.
        room: of the prior's scene and camera, which fills wide holes.
        shading: auto darkens the rim as the Aria glasses do if the lens is theirs.
        lens_guessed: nobody said so, it is the default.
        gain: factor of brightness, such as between the exo and the ego camera's exposure.

    Raises:
        EgoXInputError: sizes that don't fit each other, an unknown choice, a gain that isn't above
            0. Raised before any work.
    """
    check_choice("shading", shading, SHADING_CHOICES, "choose one of them")
    check_gain(gain)
    prior = as_frames(prior, "ego prior")
    if prior.shape[:3] != holes.shape:
        raise EgoXInputError(
            "holes of the prior",
            got=f"shape {list(holes.shape)}",
            expected=f"{list(prior.shape[:3])}, as the prior's frames",
            fix="take prior, depth and masks from one call of stages.prior, at its size",
        )
    camera.check_size("ego camera of the preview", prior.shape[2], prior.shape[1])
    is_shaded, _ = settle_shading(camera, shading, lens_guessed)
    brightness = gain * (aria_shading(camera) if is_shaded else torch.ones(prior.shape[1:3]))
    no_depth_m = torch.full(prior.shape[1:3], torch.nan)
    in_view = camera.pixel_rays()[1] & (brightness > 0)

    def complete_frames() -> Iterator[Tensor]:
        for index in range(len(prior)):
            progress(index, len(prior), "preview")
            picture = as_floats(prior[index : index + 1])[0, ..., :3].cpu()
            # What is beyond the border is no neighbour to fill from.
            hole_mask = holes[index].cpu() | ~in_view
            frame_depth_m = no_depth_m if depth_m is None else depth_m[index].cpu()
            weights = far_weights(frame_depth_m, hole_mask)
            filled = push_pull(picture, hole_mask, weights)
            if room is not None:
                filled = room.fill(index, filled, hole_mask, frame_depth_m)
            yield (filled * brightness[..., None]).clamp(0, 1) * in_view[..., None]
        progress(len(prior), len(prior), "preview")

    return complete_frames()


def settle_shading(
    camera: CameraModel, shading: Shading, lens_guessed: bool
) -> tuple[bool, str]:  # whether the rim is darkened, and by what, in words
    """Settle whether the rim of this camera's pictures is darkened."""
    if shading != "auto":
        return shading == "on", "shaded by choice" if shading == "on" else "not shaded by choice"
    if not is_aria(camera):
        return False, "not shaded (it isn't the Aria glasses' lens)"
    if lens_guessed:
        return False, "not shaded (neither file nor choice says that it is the Aria glasses' lens)"
    return True, "shaded as the Aria glasses' lens, which it is by file or choice"


def preview_note(
    holes: Tensor,  # [T, H, W] bool, before filling
    camera: CameraModel,
    shading: Shading,
    gain: float,
    *,
    room: RoomGuess | None = None,  # after its frames are filled
    lens_guessed: bool = False,
) -> str:
    """Describe in one sentence what of a preview is filled and shaded, by what, and its gain."""
    hole_share = sum(float(frame.double().mean()) for frame in holes) / len(holes)
    _, shading_words = settle_shading(camera, shading, lens_guessed)
    room_words = "haze" if room is None else room.words()
    return (
        f"{len(holes)} frames of {holes.shape[2]}x{holes.shape[1]}: {hole_share:.0%} filled "
        f"(no model), {room_words}, {shading_words}, brightness x {gain:g}"
    )


def far_weights(
    depth_m: Tensor,  # [H, W] z depth, NaN unknown
    holes: Tensor,  # [H, W] bool
) -> Tensor:  # [H, W] float32 above 0...1
    """Weigh the known pixels of a picture by their depth, those of unknown depth like far ones."""
    known_m = depth_m[~holes & depth_m.isfinite()].float()
    if not len(known_m):
        return torch.ones_like(depth_m, dtype=torch.float32)
    farness = depth_m.float() / np.quantile(known_m.numpy(), FAR_SHARE).item()
    return farness.nan_to_num(1.0).clamp(LEAST_FAR, 1) ** FAR_POWER


def aria_shading(camera: CameraModel) -> Tensor:  # [H, W] float32, stored pixels
    """Compute the brightness of each pixel behind the Aria glasses' lens, 1 in the middle.

    Beyond the lens' round border it is 0.
    """
    distance = camera.axis_distance_px() / (min(camera.stored_size) / 2)
    knots = np.arange(len(ARIA_SHADING) + 1) * SHADING_STEP
    brightness = np.interp(distance.numpy(), knots, (*ARIA_SHADING, 0.0))
    return torch.from_numpy(brightness).float()
