"""Choose the frames in use of an exo video without decoding, and read them on demand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..frames import UNTIMED_FPS
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..remarks import Remark
from ..types import FrameSelection, Sound
from .audio import read_sound, trim_sound
from .cuts import refuse_cuts
from .probe import memory_info, probe_video
from .reader import read_frames
from .reprojection import Undistortion
from .selection import VideoInfo, part_info, select_frames, trim_info
from .source import VideoSource
from .tracks import REMARKS


@frozen
class VideoClip:
    """Video with the selection of its frames in use."""

    source: VideoSource | Tensor  # a file, its bytes, or all frames [N, H, W, 3]
    info: VideoInfo
    selection: FrameSelection
    first: int = 0  # source index that a user calls frame 0 (a trimmed video's)
    given_sound: Sound | None = None  # of the whole video, with frames in memory
    undistortion: Undistortion | None = None  # by which its pictures are redrawn
    one_shot: bool = False  # said by the user: what looks like a cut is none
    left_over: int = 0  # frames at the end that no clip of 4n+1 has, where all were asked for

    @property
    def notes(self) -> tuple[Remark, ...]:
        """Remarks on the video file."""
        uneven_note = (
            f"frame times are uneven (variable frame rate): {self.info.fps:.4g} fps is an average, "
            f"and {self.selection.fps:.4g} that of the frames in use"
        )
        count_note = (
            f"{len(self.selection.indices)} frames are in use, the {self.left_over} after them are "
            "not: a clip has 4n+1 frames"
        )
        texts = (
            *([count_note] if self.left_over else ()),
            *([f"{self.info.hdr} brought to the standard range"] if self.info.hdr else ()),
            *(REMARKS[key].format(value) for key, value in self.info.remarks),
            *([uneven_note] if self.info.uneven_times else ()),
        )
        return tuple(map(Remark, texts))

    def read(self, progress: Progress = no_progress) -> Tensor:
        """Read the frames in use [T, H, W, 3]: uint8, or float32 0...1 of floats in memory.

        Raises:
            EgoXInputError: a frame that can't be decoded, a cut between two.
        """
        frames = read_frames(self.source, self.info, self.selection, progress, self.undistortion)
        if not self.one_shot:
            refuse_cuts(frames, self.selection, self.info.name, self.first)
        return frames

    def sound(self) -> Sound | None:
        """Read the sound of the frames in use, or return None without any.

        Raises:
            EgoXInputError: a file that can't be decoded.
        """
        if isinstance(self.source, Tensor):
            return trim_sound(self.given_sound, self.selection)
        return read_sound(self.source, self.info, self.selection)


def open_clip(
    source: VideoSource | Tensor,
    *,
    start_frame: int = 0,
    frame_count: int | None = 49,
    # Frame rate of frames in memory.
    fps: float = UNTIMED_FPS,
    # Sound of the whole video, for frames in memory.
    sound: Sound | None = None,
    window_s: tuple[float, float] = (0.0, 0.0),
    # The pictures are redrawn by it.
    undistortion: Undistortion | None = None,
    # Cuts aren't looked for.
    one_shot: bool = False,
    # See facts.FACTS["exo.part"].
    exo_part: str = "whole",
    # Called for a file whose frames must be decoded to know their number.
    progress: Progress = no_progress,
    # Arguments of select_frames.
    **selection: Any,
) -> VideoClip:
    """Choose the frames in use of a video, without decoding them.

    Args:
        start_frame: counted from the window's first frame.
        frame_count: 4n+1; None: as many as there are.
        window_s: start and duration of a trim, seconds; duration 0: to the end.

    Raises:
        EgoXInputError: no video, frames that it doesn't have.
    """
    if isinstance(source, Tensor):
        info = memory_info(source, fps, sound is not None)
    else:
        info = probe_video(source, progress)
    info = part_info(info, exo_part)
    trimmed_info, first = trim_info(info, *window_s)
    frames_in_use = select_frames(
        trimmed_info if undistortion is None else undistortion.shown(trimmed_info),
        start_frame=start_frame + first,
        frame_count=frame_count,
        **selection,
    )
    indices, left_over = frames_in_use.indices, 0
    is_consecutive = int(indices[-1] - indices[0]) == len(indices) - 1
    if frame_count is None and is_consecutive:
        left_over = trimmed_info.frame_count - 1 - int(indices[-1])
    return VideoClip(
        source=source,
        info=trimmed_info,
        selection=replace(
            frames_in_use,
            source=source if isinstance(source, Path) else None,
            total=info.frame_count,
            end_s=info.times_s[-1],
        ),
        first=first,
        given_sound=sound,
        undistortion=undistortion,
        one_shot=one_shot,
        left_over=left_over,
    )
