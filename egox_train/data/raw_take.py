"""Define a raw take from any source: one wearer, exo cameras, camera paths and poses."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from egox_core.cameras import CameraPath
from egox_core.facts import NOTHING_DECLARED, Declared
from egox_core.frozen import frozen
from egox_core.remarks import FactRow, Remark

from ..options import Split
from ..takes.mask_files import MaskFile

SourceLayout = Literal["egoexo4d", "released", "take"]
SkippedItem = tuple[str, str]  # (clip, camera or take, why)


@frozen
class RawView:
    """Exo camera of a take: its video, camera path and files beside it."""

    name: str
    video: Path
    # calibrated lens and size; the video may be smaller by the same factor in both directions
    exo: CameraPath
    depth: Path | None = None  # z depth file of this view, where the source has one
    mask: MaskFile | None = None  # what moves in its pictures, where a file says so
    # first and last frame for which lens and pose hold; None: all
    valid_frames: tuple[int, int] | None = None
    clip_starts: tuple[int, ...] | None = None  # of the clips that a list names; None: all that fit

    def usable_frames(self, known_poses: Tensor) -> Tensor:  # [T] bool -> [T] bool
        """Mark the frames with known ego pose and valid calibration of this exo camera."""
        if self.valid_frames is None:
            return known_poses
        frame_indices = torch.arange(len(known_poses))
        return (
            known_poses
            & (frame_indices >= self.valid_frames[0])
            & (frame_indices <= self.valid_frames[1])
        )


@frozen
class RawTake:
    """Raw take, whose videos and poses are synchronous frame by frame."""

    name: str
    layout: SourceLayout
    exos: tuple[RawView, ...]
    ego_video: Path | None  # ground truth, stored (upright) orientation
    # with the lens that the prior is drawn with, at any size; all NaN where a pose is null or
    # missing
    ego: CameraPath
    meta_intrinsics: Tensor  # [3, 3] float64, K as the source states it
    prompt: str = ""
    pose_source: str = ""  # who made the ego poses, where the source says so
    # when the task begins and ends; None: not known, all frames count
    task_s: tuple[float, float] | None = None
    # the same for all takes of one place or recording, whose splits must not differ; "": its name
    room: str = ""
    task: str = ""  # what is done in it, in the dataset's words
    split: Split | None = None  # that the dataset itself puts the take in
    listed: bool = False  # its clips are those that a list names
    best_exo: str = ""  # the exo camera that the dataset's annotators chose
    notes: tuple[Remark, ...] = ()  # what was odd about the source, for the report
    declared: Declared = NOTHING_DECLARED  # by the user and in its meta.json
    facts: tuple[FactRow, ...] = ()  # what was settled of its cameras and depth, and by whom
    # of a planned take: clips, cameras that are left out, and why
    skipped: tuple[SkippedItem, ...] = ()
    unreadable: tuple[SkippedItem, ...] = ()  # those whose depth or mask can't be had

    @property
    def has_no_task_times(self) -> bool:
        """True if the task's start and end are unknown."""
        return self.task_s is None and self.layout == "egoexo4d" and not self.listed

    @property
    def pose_known(self) -> Tensor:  # [T] bool
        """Mask of the frames with known ego pose."""
        return torch.isfinite(self.ego.w2c).flatten(1).all(dim=1)
