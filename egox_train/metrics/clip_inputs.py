"""Read the videos of one evaluated clip, and check them against the manifest."""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras import CameraModel
from egox_core.errors import EgoXInputError
from egox_core.file_names import COVERAGE, DEPTH, EXO, META, PRIOR, SEEN, TRUTH
from egox_core.frozen import frozen
from egox_core.metrics import PathViews
from egox_core.stages import scene
from egox_core.take import Take, load_take
from egox_core.takes import read_meta
from egox_core.types import CameraTrajectory, PointCloud
from egox_core.video import VideoInfo, decode_frames, probe_video

from ..data.manifest import ClipRecord
from ..data.object_masks import read_arrays
from .prior_regions import coverage_of_picture

FPS_TOLERANCE = 0.01


@frozen
class ClipFiles:
    """Paths of the files that one clip is evaluated from."""

    record: ClipRecord
    folder: Path
    videos: tuple[tuple[str, Path], ...]  # (method, file): "generated" first
    masks: Path | None

    @property
    def truth(self) -> Path:
        """Path of the true ego video."""
        true_video = self.folder / f"{self.record.clip}.mp4"
        return true_video if true_video.is_file() else self.folder / TRUTH

    @property
    def has_scene(self) -> bool:
        """True if the clip's folder has depth and poses, from which the camera path can be
        rendered."""
        return all((self.folder / name).is_file() for name in (EXO, DEPTH, META))

    def source_files(self, with_exo: bool, with_prior: bool) -> list[Path]:
        """List the files on which the metrics of this clip depend."""
        if not with_prior:
            optional_paths = [
                p for p in (self.folder / EXO, self.masks) if p is not None and p.is_file()
            ]
            return [self.truth, *(file for _, file in self.videos), *optional_paths]
        names = [TRUTH, PRIOR, *([EXO] if with_exo or self.has_scene else [])]
        names += [DEPTH, META] if self.has_scene else []
        optional_files = (self.folder / COVERAGE, self.folder / SEEN, self.masks)
        if with_exo and not self.has_scene:
            optional_files += (self.folder / META,)
        optional_paths = [p for p in optional_files if p is not None and p.is_file()]
        return [
            *(self.folder / name for name in names),
            *(file for _, file in self.videos),
            *optional_paths,
        ]


def clip_files(
    root: Path, record: ClipRecord, videos: tuple[tuple[str, Path], ...], masks: Path | None
) -> ClipFiles:
    """Find the video and mask files of a clip.

    Raises:
        EgoXInputError: a name or folder that leads elsewhere, no ground truth.
    """
    folder = root / record.folder
    # By its name, since a take may be a link to where it lies.
    is_outside = not Path(os.path.normpath(folder)).is_relative_to(os.path.normpath(root))
    if is_outside or any(c in record.clip for c in "/\\\0") or record.clip == "..":
        raise EgoXInputError(
            f"clip {record.clip!r}",
            got=f"folder {record.folder!r}",
            expected="a plain name, and a folder next to the manifest",
            fix="correct the manifest",
        )
    if not record.ground_truth:
        raise EgoXInputError(
            f"clip {record.clip}",
            got="no ground truth",
            expected="the wearer's own video",
            fix="leave it out of the manifest: nothing can be compared",
        )
    return ClipFiles(
        record=record,
        folder=folder,
        videos=tuple(
            (name, folder_of_videos / f"{record.clip}.mp4") for name, folder_of_videos in videos
        ),
        masks=None if masks is None else masks / f"{record.clip}.npz",
    )


def require_video(file: Path, record: ClipRecord, subject: str) -> Path:
    """Refuse a missing video of a clip, in words that are the same for all clips.

    Raises:
        EgoXInputError: no such file.
    """
    if not file.is_file():
        file_name = f"<clip>{file.suffix}" if file.stem == record.clip else file.name
        raise EgoXInputError(
            subject,
            got=f"{file_name}, which is not there",
            expected="a video of each clip",
            fix="make it, or leave the clip out",
        )
    return file


def read_ego(file: Path, record: ClipRecord, subject: str) -> Tensor:  # [T, H, W, 3] float32 0...1
    """Read all frames of an ego video, and check its size, length and frame rate.

    Raises:
        EgoXInputError: missing, corrupt, of another size, length or rate.
    """
    require_video(file, record, subject)
    video_info = probe_video(file)
    actual_shape = (video_info.width, video_info.height, video_info.frame_count)
    if actual_shape != (*record.ego_size, record.frames):
        raise EgoXInputError(
            f"{subject} {file.name}",
            got=f"{actual_shape[2]} frames of {actual_shape[0]}x{actual_shape[1]}",
            expected=f"{record.frames} frames of {record.ego_size[0]}x{record.ego_size[1]}",
            fix="generate this clip at its own size and length; nothing is resized or cut here",
        )
    if abs(video_info.fps / record.fps - 1) > FPS_TOLERANCE:
        raise EgoXInputError(
            f"{subject} {file.name}",
            got=f"{video_info.fps:g} frames a second",
            expected=f"{record.fps:g}",
            fix="save the video at the clip's own rate: other frames would be compared",
        )
    return _frames(file, video_info, record.frames)


def read_exo(folder: Path, record: ClipRecord) -> Tensor:  # [T, h, w, 3] float32 0...1
    """Read the frames of a clip's exo video.

    Raises:
        EgoXInputError: missing, corrupt, too short.
    """
    file = require_video(folder / EXO, record, "exo video")
    return _frames(file, probe_video(file), record.frames)


def read_ego_camera(folder: Path) -> CameraModel | None:
    """Read the lens of a clip's ego camera, or return None where its files don't tell it."""
    meta_file = folder / META
    return read_meta(meta_file).ego_lens if meta_file.is_file() else None


def _frames(file: Path, info: VideoInfo, count: int) -> Tensor:
    """Read the first ``count`` frames of a video."""
    pictures = [picture for _, picture in decode_frames(file, info, list(range(count)))]
    return torch.from_numpy(np.stack(pictures)).float() / 255


def clip_views(files: ClipFiles) -> tuple[CameraTrajectory, tuple[PathViews, PathViews]]:
    """Render the scene of a clip that has one, as it was prepared and by the exact geometry.

    Returns:
        The path, and both views along it, which are the same where no other geometry is known.

    Raises:
        EgoXInputError: files that can't be read, or that don't fit each other.
    """
    take = _load_clip(files)
    exo = take.read_exo().float() / 255
    points, _ = scene(exo, take.depth)
    views = PathViews.of(points, take.trajectory)
    exact_result = PathViews.exact(exo, take.depth_with_raw_scale(), take.trajectory)
    return take.trajectory, (views, views if exact_result is None else exact_result[0])


def clip_scene(files: ClipFiles) -> tuple[PointCloud, CameraTrajectory]:
    """Load the scene and the ego camera path of a clip that has both.

    Raises:
        EgoXInputError: files that can't be read, or that don't fit each other.
    """
    take = _load_clip(files)
    points, _ = scene(take.read_exo().float() / 255, take.depth)
    return points, take.trajectory


def _load_clip(files: ClipFiles) -> Take:
    record = files.record
    return load_take(
        files.folder,
        frame_count=record.frames,
        size=record.exo_size,
        ego_size=record.ego_size[0],
        one_shot=True,  # cuts were looked for when it was prepared
    )


def read_coverage(
    folder: Path,
    prior: Tensor,  # [T, H, W, 3] float 0...1
) -> tuple[Tensor, str]:  # [T, H, W] bool
    """Read the mask of pixels that a prior covers, and name its source.

    The source is "renderer", or "picture" where there is no such file.

    Raises:
        EgoXInputError: a coverage.npz that can't be read or doesn't fit the prior.
    """
    file = folder / COVERAGE
    if not file.is_file():
        return coverage_of_picture(prior), "picture"
    fix = "delete it: the prior's video is then used"
    mask = torch.from_numpy(read_arrays(file, COVERAGE, ["coverage"], fix)["coverage"].astype(bool))
    if mask.shape != prior.shape[:3]:
        raise EgoXInputError(
            COVERAGE,
            got=tuple(mask.shape),
            expected=tuple(prior.shape[:3]),
            fix="write it together with the prior in the same folder",
        )
    return mask, "renderer"


def content_hash(files: list[Path]) -> list[str]:
    """Compute the SHA-256 hash of each file."""
    return [hashlib.sha256(f.read_bytes()).hexdigest() if f.is_file() else "" for f in files]
