"""Read the folders of prepared clips, and choose where the clips of a take start.

Clips are full windows of frames whose poses are all known.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.file_names import COVERAGE, PRIOR, SEEN, TRUTH
from egox_core.frozen import frozen
from egox_core.take import Take, load_take
from egox_core.video import VideoSource, decode_frames, probe_video, read_frames, select_frames

from .manifest import ClipRecord


@frozen
class PreparedClip:
    """Pictures, cameras and depth of a prepared clip, all for the same frames."""

    record: ClipRecord
    take: Take
    exo: Tensor  # [T, H, W, 3] uint8
    prior: Tensor  # [T, H, W, 3] uint8
    ego: Tensor | None  # [T, H, W, 3] uint8, where there is a ground truth


def read_clip(root: Path, record: ClipRecord) -> PreparedClip:
    """Read a prepared clip that is listed in a manifest in ``root``.

    Raises:
        EgoXInputError: a file missing or corrupt, videos of other lengths or sizes than the record
            says.
    """
    folder = root / record.folder
    take = load_take(
        folder,
        frame_count=record.frames,
        size=record.exo_size,
        ego_size=record.ego_size[0],
        one_shot=True,  # cuts were looked for when it was prepared
    )
    exo_video = take.read_exo()
    prior_frames = read_all(folder / PRIOR, record.frames, record.ego_size)
    ego_frames = (
        read_all(folder / TRUTH, record.frames, record.ego_size) if record.ground_truth else None
    )
    return PreparedClip(record=record, take=take, exo=exo_video, prior=prior_frames, ego=ego_frames)


def check_unchanged(folder: Path, record: ClipRecord) -> None:
    """Check that the files that :func:`read_clip` reads are those that ``prepare`` wrote.

    Raises:
        EgoXInputError: names those that are others or missing.
    """
    changed_names = changed_files(folder, record, [n for n in record.files if n != COVERAGE])
    if changed_names:
        raise EgoXInputError(
            f"clip {record.clip}",
            got=f"{', '.join(changed_names)} with another content than `prepare` wrote",
            expected="files as the manifest has their hashes",
            fix="run prepare again, which makes changed clips anew; what is to differ, change in "
            "the take that it reads",
        )


def changed_files(folder: Path, record: ClipRecord, names: Iterable[str]) -> list[str]:
    """List the named files of a clip whose hash isn't the one of its record."""
    return [name for name in names if file_hash(folder / name) != record.files[name]]


def file_hash(file: Path) -> str:
    """Compute the hash of a file's content, or return "" for a missing file."""
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        hash_digest = hashlib.sha256()
        while file_block := stream.read(2**20):
            hash_digest.update(file_block)
    return hash_digest.hexdigest()


def file_bytes(folder: Path) -> dict[str, Tensor]:  # [bytes] uint8 by file name
    """Read the files of a clip that the cache stores as raw bytes."""
    return {
        name: torch.from_numpy(np.fromfile(folder / name, np.uint8))
        for name in (SEEN, PRIOR)
        if (folder / name).is_file()
    }


def read_all(
    file: VideoSource, frames: int, size: tuple[int, int], first_frame: int = 0
) -> Tensor:  # [T, H, W, 3] uint8
    """Read frames of a video from the first one on, and refuse a video of another size.

    Raises:
        EgoXInputError: shorter, of another size, corrupt.
    """
    video_info = probe_video(file)
    is_short = video_info.frame_count < first_frame + frames
    if (video_info.width, video_info.height) != tuple(size) or is_short:
        raise EgoXInputError(
            f"video {_name(file)}",
            got=f"{video_info.frame_count} frames of {video_info.width}x{video_info.height}",
            expected=f"{first_frame + frames} frames of {size[0]}x{size[1]}",
            fix="run prepare again",
        )
    width, height = size
    selection = select_frames(
        video_info,
        start_frame=first_frame,
        frame_count=frames,
        width=width,
        height=height,
        whole_latents=False,
    )
    return read_frames(file, video_info, selection)


def read_classes(
    file: VideoSource, frames: int, size: tuple[int, int]
) -> Tensor:  # [T, H, W] uint8
    """Read the visibility classes of pixels from seen.mkv, and refuse a file with another length or
    size.

    Raises:
        EgoXInputError: another count or size, corrupt.
    """
    import av

    try:
        with av.open(file) as video:
            class_maps = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
        if len(class_maps) == frames and class_maps[0].shape == size[::-1]:
            return torch.from_numpy(np.stack(class_maps))
        actual_shape = f"{len(class_maps)} frames"
    except av.FFmpegError as error:
        actual_shape = str(error)
    raise EgoXInputError(
        f"classes {_name(file)}",
        got=actual_shape,
        expected=f"{frames} frames of {size[0]}x{size[1]}",
        fix="run prepare again",
    )


def _name(file: VideoSource) -> str:
    return f"{file.parent.name}/{file.name}" if isinstance(file, Path) else "in memory"


def middle_picture(file: Path, frames: int) -> np.ndarray:  # [H, W, 3] uint8
    """Decode the middle frame of a video's first ``frames`` frames."""
    _, picture = next(decode_frames(file, probe_video(file), [frames // 2]))
    return picture


def first_frame_then_grey(
    frames: Tensor,  # [T, H, W, 3] uint8
) -> Tensor:  # [T, H, W, 3] uint8
    """Build a conditioning video for Wan: the first frame, followed by grey frames."""
    conditioned_frames = torch.full_like(frames, 128)
    conditioned_frames[0] = frames[0]
    return conditioned_frames


@frozen
class ClipWindow:
    """Frames of one clip in the take's videos, from ``start`` on with a constant step."""

    start: int
    frames: int
    step: int

    @property
    def indices(self) -> Tensor:  # [frames] int64
        return torch.arange(self.start, self.start + self.frames * self.step, self.step)


FIRST_FRAME_WINDOW = ClipWindow(start=0, frames=1, step=1)
"""The first frame alone."""


def clip_windows(
    pose_known: Tensor,  # [T] bool
    # Number of frames that all videos of the take have.
    available: int,
    *,
    # The frame at which the take's task begins.
    first_start: int = 0,
    # The frames at which clips begin; None: at each stride.
    starts: Sequence[int] | None = None,
    frames: int,
    # Source frames from the start of one clip to the next.
    stride: int,
    step: int = 1,
) -> tuple[list[ClipWindow], list[int]]:
    """Divide a take into clips of equal length, and skip those in which poses are missing.

    Starts stay on the stride's grid, from ``first_start`` on, whatever is lost, so that clips keep
    their names when a hole is mended."""
    usable_frames = min(available, len(pose_known))
    windows: list[ClipWindow] = []
    skipped_starts: list[int] = []
    end_start = usable_frames - (frames - 1) * step
    for start in range(first_start, end_start, stride) if starts is None else starts:
        window = ClipWindow(start=start, frames=frames, step=step)
        if start < end_start and bool(pose_known[window.indices].all()):
            windows.append(window)
        else:
            skipped_starts.append(start)
    return windows, skipped_starts


def longest_pose_run(
    pose_known: Tensor,  # [T] bool
) -> int:
    """Measure the longest run of consecutive frames with a known pose."""
    longest_run = run_length = 0
    for has_pose in torch.as_tensor(pose_known).tolist():
        run_length = run_length + 1 if has_pose else 0
        longest_run = max(longest_run, run_length)
    return longest_run
