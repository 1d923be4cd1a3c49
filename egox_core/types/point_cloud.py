"""Define a scene of coloured points: static ones, and moving ones per frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from ..cameras import CameraPath
from ..frames import Frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..remarks import FactRow, Remark
from .depth_video import DepthVideo
from .kept import Kept

RELEASED_RANGE = 0.1
"""The released renderer draws and averages points whose range (:attr:`PointSet.depth_range`) is
below this."""


@frozen
class PointSet:
    """Coloured points of one moment.

    Each is a small patch of surface between its neighbouring exo samples.
    """

    xyz: Tensor  # [N, 3] float32, metres, scene frame
    rgb: Tensor  # [N, 3] uint8
    # [N, 3, 2] float32, metres: along the surface to the next sample rightwards and downwards in
    # exo
    steps: Tensor
    # [N] float32, largest relative depth step to a 4-neighbour in the exo depth (0: flat)
    edge: Tensor
    # [N] float32, relative depth step by which the point hangs between surfaces (0: on one)
    stray: Tensor
    # [N] float32, (max - min) / mean of the exo depth in the 5 x 5 window around (0: flat)
    depth_range: Tensor
    # [N] int16: 0 static, else the number of a connected moving object in its frame
    instance: Tensor
    # [N] bool: one of the samples that the released renderer takes, every second each way
    coarse: Tensor

    def __len__(self) -> int:
        return self.xyz.shape[0]

    @classmethod
    def empty(cls) -> PointSet:
        """Make a set of no points."""
        return cls(
            xyz=torch.empty(0, 3),
            rgb=torch.empty(0, 3, dtype=torch.uint8),
            steps=torch.empty(0, 3, 2),
            edge=torch.empty(0),
            stray=torch.empty(0),
            depth_range=torch.empty(0),
            instance=torch.empty(0, dtype=torch.int16),
            coarse=torch.empty(0, dtype=torch.bool),
        )

    @staticmethod
    def join(*sets: PointSet) -> PointSet:
        """Concatenate at least one set of points, in order."""
        nonempty_sets = [points for points in sets if len(points)] or sets[:1]
        return (
            nonempty_sets[0]
            if len(nonempty_sets) == 1
            else _combine_sets(lambda *parts: torch.cat(parts), *nonempty_sets)
        )

    @staticmethod
    def join_moving(parts: Sequence[PointSet]) -> PointSet:
        """Join the moving points of several exo cameras in one frame.

        The objects of each keep numbers of their own.
        """
        joined_points = parts[0]
        for points in parts[1:]:
            last_number = int(joined_points.instance.max()) if len(joined_points) else 0
            instance = torch.where(
                points.instance > 0, points.instance + last_number, points.instance
            )
            joined_points = PointSet.join(
                joined_points, replace(points, instance=instance.to(points.instance.dtype))
            )
        return joined_points

    def select(
        self,
        keep: Tensor,  # [N] bool, or [M] int64 indices
    ) -> PointSet:
        """Select some of the points."""
        keep = keep.nonzero()[:, 0] if keep.dtype == torch.bool else keep
        return _combine_sets(lambda part: part[keep], self)

    def to(self, device: torch.device) -> PointSet:
        """Move the points to a device, or return the same object if they are there already."""
        return (
            self if self.xyz.device == device else _combine_sets(lambda part: part.to(device), self)
        )


def _combine_sets(function: Callable[..., Tensor], *sets: PointSet) -> PointSet:
    """Combine sets of points field by field."""
    return PointSet(
        **{
            field.name: function(*(getattr(point_set, field.name) for point_set in sets))
            for field in fields(PointSet)
        }
    )


class MovingPoints(Protocol):
    """Moving points per frame, computed on access.

    A long clip never has more than one frame of them in memory.
    """

    def __len__(self) -> int:
        """Count the frames."""

    def __getitem__(self, frame: int) -> PointSet:
        """Compute the moving points of one frame."""


@frozen
class ExoSight:
    """Depth up to which one exo camera saw empty space."""

    depth: DepthVideo
    # [H, W] float32 z depth up to which a frame shows space, infinite in the sky, NaN unknown
    map: Callable[[int], Tensor]
    moves: Callable[[int], Tensor]  # [H, W] bool, what moves in a frame
    # [H, W] z depth up to which static space was seen, NaN unknown; None: of an exo camera that
    # moves
    still_m: Tensor | None
    noise: float  # typical relative difference between depth maps of one surface


@dataclass(frozen=True, kw_only=True)  # no slots: nodes hold it weakly
class PointCloud(Kept):
    """Scene of points: a static background, and moving points per frame."""

    static: PointSet
    moving: MovingPoints
    exo: CameraPath  # of the depth maps that the points came from; they are in its world
    notes: tuple[Remark, ...] = ()  # on how it was built
    mean_static: Callable[[Progress], PointSet] | None = None
    """The background as the authors' renderer makes it, the mean over time, computed anew whenever
    it is asked for; None (an exo camera that moves): :attr:`static` is that mean already."""
    # The scenes that were fused, each of one exo camera; empty: not fused.
    parts: tuple[PointCloud, ...] = ()
    # of a scene that isn't fused; None: points without the depth they were lifted from
    sight: ExoSight | None = None
    facts: tuple[FactRow, ...] = ()  # those of the depth it was made of

    def __post_init__(self) -> None:
        object.__setattr__(self, "exo", self.exo.counted(len(self.moving)))

    @property
    def frames(self) -> Frames:
        """Frames of the moving points."""
        return self.exo.frames

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def exos(self) -> tuple[CameraPath, ...]:
        """Exo cameras that the points came from."""
        return tuple(part.exo for part in self.parts or (self,))

    def points(self, frame: int | None) -> PointSet:
        """Join the static points and, with a frame number, that frame's moving ones."""
        static = self.static
        return (
            static
            if frame is None
            else static.join(static, self.moving[frame].to(static.xyz.device))
        )

    def mean_background(self, progress: Progress = no_progress) -> PointSet:
        """Compute the background that the released presets draw (see :attr:`mean_static`)."""
        if not self.parts:
            return self.static if self.mean_static is None else self.mean_static(progress)
        return PointSet.join(*(part.mean_background(progress) for part in self.parts))
