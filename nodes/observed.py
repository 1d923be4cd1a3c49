"""Compare a decoded ego video with the pixels that the exo camera observed."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..egox_core.cameras import CameraModel
from ..egox_core.frozen import frozen
from ..egox_core.metrics import PathError, keep_observed
from ..egox_core.types import EARLIER, UNOBSERVED, video_classes
from ..egox_core.video import reproject
from .host.progress import host_progress

LEAST_JUDGED = 0.5
"""Share of a video's frames from which on it is said what of it was redrawn: of a real take, whose
depth is a network's, single frames fit their prior by chance."""


@frozen
class Observed:
    """Hold an ego video with masks of its observed, redrawn and copied pixels."""

    frames: Tensor  # [T, H, W, 3] with what was put back
    seen: Tensor  # [T, H, W] uint8 classes, the prior's own, which no sampling changes
    shown_classes: Tensor  # the same where this video shows them
    redrawn: Tensor  # [T, H, W] bool
    kept: Tensor  # [T, H, W] bool, what was put back
    judged: Tensor  # [T] bool, frames of which is said what was redrawn
    filled: Tensor | None = None  # [H, W] bool, what no model drew

    def match_view(
        self, path_error: PathError | None, lens: CameraModel, target_camera: CameraModel | None
    ) -> "Observed":
        """Warp the pixel masks to the video's measured view and to another lens."""
        maps = {name: getattr(self, name) for name in ("seen", "shown_classes", "redrawn", "kept")}
        if path_error is not None:
            maps["shown_classes"] = path_error.warp_classes(self.seen, lens)
            if self.filled is not None:
                maps["shown_classes"].masked_fill_(self.filled, UNOBSERVED)
        if target_camera is not None:
            for name, class_map in maps.items():
                projected_map = reproject(
                    class_map[..., None], lens, target_camera, mode="nearest"
                )[..., 0]
                maps[name] = projected_map.to(class_map.dtype)
        return replace(self, **maps)

    def classes(self, frame: int) -> Tensor:  # [H, W] uint8
        """Combine one frame's maps of observed, redrawn and copied pixels into one map of pixel
        classes."""
        return video_classes(self.shown_classes[frame], self.redrawn[frame], self.kept[frame])

    def redrawn_shares(self) -> list[float | None]:
        """Measure for each frame the share of pixels that the model redrew, None for frames that
        can't be judged."""
        shares = self.redrawn.float().mean((1, 2)).tolist()
        return [
            share if is_judged else None
            for share, is_judged in zip(shares, self.judged.tolist(), strict=True)
        ]

    def describe_parts(self) -> str:
        """Describe in percent how much of the video was copied from exo, how much the model
        redrew, and how much lies between both or at borders, where nothing is put back."""
        notes = []
        if self.kept.any():
            notes.append(f"{100 * float(self.kept.float().mean()):.0f} % copied from the prior")
        if self.judged.any():
            redrawn_percent = 100 * float(self.redrawn[self.judged].float().mean())
            notes.append(f"{redrawn_percent:.0f} % redrawn by the model")
            if self.kept.any():
                observed_mask = self.shown_classes[self.judged] >= EARLIER
                edge_mask = observed_mask & ~(self.kept | self.redrawn)[self.judged]
                notes.append(f"{100 * float(edge_mask.float().mean()):.0f} % at edges as generated")
        return ", ".join(notes)

    def doubts(self) -> list[str]:
        """Describe for how many frames it is unknown whether the model redrew observed pixels."""
        count = len(self.judged)
        unjudged_count = int((~self.judged).sum())
        if not unjudged_count:
            return []
        frames = "" if unjudged_count == count else f" in {unjudged_count} of {count} frames"
        return [
            f"Whether the model drew what exo saw can't be judged{frames}: what the prior shows "
            "there doesn't match, its depth is off, or all of it was redrawn"
        ]


def compare_with_prior(
    prior: Tensor | None,  # [T, H', W', 3] that the latent was made of
    seen: Tensor | None,  # [T or more, H', W'] uint8, its classes
    decoded: Tensor,  # [T, H, W, 3]
    keep: float,
    filled: Tensor | None = None,  # [H, W] bool, what no model drew: never seen
) -> Observed | None:
    """Compare a decoded video with its prior at the video's size, and put observed pixels back.

    Returns None if nothing is known of the prior's pixels.
    """
    if prior is None or seen is None or len(prior) != len(decoded):
        return None
    picture_size = tuple(decoded.shape[1:3])
    seen = seen[: len(decoded)]
    if tuple(prior.shape[1:3]) != picture_size:
        prior = interpolate(prior.movedim(-1, 1), picture_size, mode="bilinear").movedim(1, -1)
        seen = interpolate(seen[None], picture_size, mode="nearest-exact")[0]
    shown_classes = seen if filled is None else seen.masked_fill(filled, UNOBSERVED)
    progress = host_progress(len(decoded))
    frames, redrawn_masks, kept_masks, judged_frames = keep_observed(
        decoded.cpu().float(), prior, shown_classes, keep, progress=progress
    )
    if float(judged_frames.float().mean()) < LEAST_JUDGED:
        judged_frames, redrawn_masks = torch.zeros_like(judged_frames), redrawn_masks & False
    return Observed(
        frames=frames,
        seen=seen,
        shown_classes=shown_classes,
        redrawn=redrawn_masks,
        kept=kept_masks,
        judged=judged_frames,
        filled=filled,
    )
