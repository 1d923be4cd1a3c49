"""Define the depth of an exo video."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cameras import CameraModel, CameraPath
from ..choices import DepthKind
from ..errors import EgoXInputError
from ..frame_store import drop_pages, store_frames
from ..frames import Frames
from ..remarks import FactRow
from .kept import Kept, convert_arrays


@dataclass(frozen=True, kw_only=True)  # no slots: nodes hold it weakly
class DepthVideo(Kept):
    """Depth of the exo video, one map per frame, with NaN for invalid pixels."""

    # [T, H, W] float32, z depth along the optical axis, metres (or the unit of ``kind``)
    depth_m: Tensor
    exo: CameraPath  # the camera of the maps, in their pixels
    kind: DepthKind = "metric z"
    dynamic: Tensor | None = None  # [T, H, W] bool, moving objects
    sky: Tensor | None = None  # [T, H, W] bool
    # [T, H, W] float32 0...1, how reliable a pixel's depth is; None: fully
    trust: Tensor | None = None
    facts: tuple[FactRow, ...] = ()  # what was settled of the maps and their camera, and by whom
    # of Ego-Exo4D's K, which is taken as a pinhole: the lens that filmed the maps' pictures
    raw_lens: CameraModel | None = None
    # with that lens, the factor by the wearer's body that makes the maps metric, how it was found
    # and the standard deviation of its logarithm; None: nobody asked for it (takes.with_raw_scale)
    raw_scale: tuple[float, str, float] | None = None

    def __post_init__(self) -> None:
        convert_arrays(self, self.exo, "depth video")
        object.__setattr__(self, "exo", self.exo.counted(len(self.depth_m)))

    @property
    def frames(self) -> Frames:
        """Frames of the maps."""
        return self.exo.frames

    def check_metric(self, what: str) -> None:
        """Refuse depth that isn't in metres, with ``what`` as its name in the error.

        Raises:
            EgoXInputError: another kind.
        """
        if self.kind != "metric z":
            raise EgoXInputError(
                what,
                got=f"{self.kind} depth",
                expected="metric z depth in metres",
                fix="align it with a metric depth in stages.align",
            )

    def scaled(self, factor: float) -> DepthVideo:
        """Multiply the maps by a factor, as a copy."""
        scaled_maps = store_frames(
            (frame.float().cpu() * factor for frame in self.depth_m), len(self.depth_m)
        )
        drop_pages(self.depth_m)
        return replace(self, depth_m=scaled_maps)

    @property
    def valid(self) -> Tensor:  # [T, H, W] bool
        """Mask of pixels with valid depth."""
        return torch.isfinite(self.depth_m)
