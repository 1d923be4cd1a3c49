"""Define an episode whose data set states the head camera's poses."""

from pathlib import Path

from egox_core.cameras import CameraPath
from egox_core.frozen import frozen


@frozen
class StatedEpisode:
    """Episode with stated poses of its head camera: video, poses and take folder."""

    name: str
    ego_video: Path | None
    first_frame: int = 0  # frame of the ego video that the first pose belongs to
    ego: CameraPath | None = None  # None: that of the take folder
    folder: Path | None = None  # with exo video and, perhaps, depth
    frames: int | None = None  # of the take folder; None: as many as the video has
    problem: str = ""
