"""A take folder as what the pipeline works on: frames, depth, ego path, all of
the same frames."""

from pathlib import Path

from torch import Tensor

from ..cameras.presets import preset_camera
from ..errors import EgoXInputError
from ..file_names import DEPTH, DEPTH_NAMES, EXO, META
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..safe_files import require_folder
from ..sizes import longest_clip
from ..trajectory.path import with_camera
from ..types import CameraTrajectory, DepthVideo, FrameSelection
from ..video.cuts import refuse_cuts
from ..video.reader import probe_video, read_frames
from ..video.selection import VideoInfo, select_frames
from .depth_inputs import take_depth
from .ego_path import meta_trajectory
from .exo_camera import ExoLens, with_exo_lens
from .meta import META_PRESET, read_meta
from .metric_scale import ScaleReport, ScaleSource

DEFAULT_FRAMES = 49


@frozen
class Take:
    """A loaded take; pictures stay in their files until they are asked for."""

    name: str
    folder: Path
    video: VideoInfo
    frames: FrameSelection
    depth: DepthVideo
    trajectory: CameraTrajectory
    prompt: str
    lens_note: str  # with which exo lens it was read
    scale: ScaleReport  # of the depth

    def read_exo(self, progress: Progress = no_progress) -> Tensor:  # [T, H, W, 3] uint8
        """The exo frames in use.

        Raises:
            EgoXInputError: one of them can't be decoded, a cut between two.
        """
        frames = read_frames(self.folder / EXO, self.video, self.frames, progress)
        refuse_cuts(frames, self.frames, self.video.name)
        return frames


def load_take(
    folder: Path,
    *,
    start_frame: int = 0,
    frame_count: int | None = DEFAULT_FRAMES,
    target_fps: float = 0.0,
    size: tuple[int, int] | None = None,
    camera_preset: str = "aria_released",
    ego_size: int | None = None,
    entry: str = "",
    exo_lens: ExoLens = "as given",
    scale: ScaleSource | float = "as is",
    progress: Progress = no_progress,
) -> Take:
    """Load exo.mp4 (its index), depth.npz (or a depth folder or depth.zip) and meta.json of a take
    folder.

    Args:
        frame_count: 4n+1; None: as many as the video holds.
        size: (width, height) of the frames, multiples of 16; None: the video's own.
        ego_size: of the square ego picture, px; None: as high as the exo frames. A take that states
            its own ego camera keeps that one.
        entry: the take's name, where meta.json lists several.
        exo_lens: see :func:`exo_camera.with_exo_lens`.
        scale: of the depth, see :func:`metric_scale.with_scale`; the wearer's poses are the take's
            own.

    Raises:
        EgoXInputError: a file missing or bad, anything shorter than the frames in use, sizes that
            don't fit.
    """
    folder = Path(folder)
    require_folder(folder, "take", f"a take folder with {EXO}, {DEPTH} and {META}")
    meta, lens_note = with_exo_lens(read_meta(folder / META, entry), exo_lens)
    video = probe_video(folder / EXO)
    if frame_count is None:
        frame_count = longest_clip(video.frame_count - start_frame)
    width, height = size or (None, None)
    frames = select_frames(
        video,
        start_frame=start_frame,
        frame_count=frame_count,
        target_fps=target_fps,
        width=width,
        height=height,
    )
    camera = preset_camera(camera_preset, ego_size or frames.size[1])
    trajectory = meta_trajectory(
        meta, preset_camera(META_PRESET, ego_size or frames.size[1]), frames
    )
    if meta.ego_camera is None:
        trajectory = with_camera(trajectory, camera)
    depth, _, scaled = take_depth(
        find_depth(folder), meta, frames, guess_camera=False, scale=scale, progress=progress
    )
    return Take(
        name=meta.name,
        folder=folder,
        video=video,
        frames=frames,
        depth=depth,
        trajectory=trajectory,
        prompt=meta.prompt,
        lens_note=lens_note,
        scale=scaled,
    )


def find_depth(folder: Path) -> Path:
    """The depth of a take folder: depth.npz, depth.zip, depth.npy, or a folder named depth.

    Raises:
        EgoXInputError: none of them.
    """
    for name in DEPTH_NAMES:
        if (folder / name).exists():
            return folder / name
    raise EgoXInputError(
        f"take {folder.name}",
        got=f"no {DEPTH}",
        expected="depth of the exo video",
        fix="add the file, or give the output of a depth model to stages.align",
    )
