"""A depth file as a DepthVideo of the frames in use: by source index, fitted to the frames, invalid pixels marked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..depth.resample import depth_window, fit_depth, fit_mask, window_camera
from ..depth.valid import check_valid_shares
from ..errors import EgoXInputError
from ..frame_store import FrameStore
from ..progress import Progress, no_progress
from ..trajectory.path import numbered_track, poses_of_frames
from ..trajectory.poses import validate_w2c
from ..types import DepthKind, DepthVideo, FrameSelection, TakeMeta
from .depth_readers import open_depth
from .meta import depth_camera


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFileReport:
    """What a reader of the depth should know."""

    name: str
    frame_count: int
    invalid_share: float  # of all pixels of the frames in use
    notes: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.name}: {self.frame_count} frames, {100 * self.invalid_share:.1f} % of the pixels invalid"
        return "\n".join((head, *self.notes))


def load_depth_file(path: Path, meta: TakeMeta, frames: FrameSelection | None = None, *, kind: DepthKind = "metric z",
                    png_scale_m: float = 0.001, count: int | None = None,
                    progress: Progress = no_progress) -> tuple[DepthVideo, DepthFileReport]:
    """Read depth (npz, npy, or a folder or zip of npy, EXR or 16-bit PNG files) for the frames in use.

    Args:
        meta: gives the exo intrinsics and pose.
        frames: the frames in use; depth is taken by their source index and brought to their crop and size by the rules
            of :mod:`depth_fit`. None: every frame, at the file's own size.
        kind: what the numbers are; nothing is converted.
        count: without ``frames``, how many are in use; a longer file is cut at its end.

    Raises:
        EgoXInputError: unreadable, shorter than the frames in use, another aspect, no or too few valid pixels, no
            intrinsics.
    """
    with open_depth(path, png_scale_m) as source:
        wanted = torch.arange(source.frame_count)[:count] if frames is None else frames.source_indices
        last = int(wanted.max()) if count is None or frames is not None else count - 1
        if last >= source.frame_count:
            raise EgoXInputError(f"depth {source.name}", got=f"{source.frame_count} frames",
                                 expected=f"at least {last + 1}, the frames in use",
                                 fix="use fewer frames or an earlier start, or compute depth for the whole video")
        unique, places = torch.unique(wanted, return_inverse=True)  # uneven time stamps may use a frame twice
        ordered = unique.tolist()
        window = camera = stores = None
        shares, note = [], ""
        for place, (depth, dynamic) in enumerate(source.read(ordered)):
            if window is None:
                size = (depth.shape[1], depth.shape[0])
                window = depth_window(size, frames, source.name)
                camera, note = depth_camera(meta, size)
                shape = (len(ordered), window.size[::-1])
                stores = FrameStore(*shape, np.float32), None if dynamic is None else FrameStore(*shape, np.bool_)
            elif depth.shape != size[::-1]:
                raise EgoXInputError(f"depth {source.name}", got=f"frame {ordered[place]} of shape {depth.shape}",
                                     expected=f"{size[::-1]} as the first", fix="store all frames at one size")
            with np.errstate(invalid="ignore"):
                depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))
            fitted = fit_depth(depth, window)
            shares.append(float(np.isfinite(fitted).mean()))
            stores[0].append(fitted)
            if dynamic is not None:
                stores[1].append(fit_mask(dynamic, window))
            progress(place + 1, len(ordered), "reading depth")
    invalid = check_valid_shares(torch.tensor(shares), source.name)
    depth_m, dynamic = (None if store is None else store.tensor() if len(ordered) == len(wanted)
                        else store.tensor()[places] for store in stores)
    video = DepthVideo(depth_m=depth_m, camera=window_camera(camera, window), kind=kind, dynamic=dynamic,
                       exo_w2c=_exo_poses(meta, frames, wanted), source_indices=wanted.clone(),
                       times_s=None if frames is None else frames.times_s.double())
    return video, DepthFileReport(name=source.name, frame_count=len(ordered), invalid_share=invalid,
                                  notes=(note,) if note else ())


def _exo_poses(meta: TakeMeta, frames: FrameSelection | None, wanted: torch.Tensor) -> torch.Tensor | None:
    """exo_from_world of the frames in use: [3, 4] of a fixed camera, [T, 3, 4] of a moving one."""
    poses = meta.camera_extrinsics
    if poses is None or poses.ndim == 2:
        return poses
    poses = validate_w2c(poses, f"camera_extrinsics of {meta.name}")
    if frames is not None:
        return poses_of_frames(numbered_track(poses, f"camera_extrinsics of {meta.name}"), frames)
    if int(wanted.max()) >= len(poses):
        raise EgoXInputError(f"camera_extrinsics of {meta.name}", got=f"{len(poses)} poses",
                             expected=f"{len(wanted)}, the frames in use", fix="give one pose a frame, or one for all")
    return poses[wanted]
