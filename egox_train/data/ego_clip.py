"""Define a clip of a data set that has the wearer's own video."""

from __future__ import annotations

from pathlib import Path

from egox_core.cameras import CameraPath
from egox_core.file_names import EXO, HANDS, HEAD_TRAJECTORY, META, TRUTH
from egox_core.frozen import frozen

from .manifest import ClipRecord


@frozen
class EgoClip:
    """Clip with the wearer's own video, and the take folder or poses that belong to it."""

    name: str
    folder: Path  # of the take; of the set, where its clips have none
    ego_video: Path
    frames: int | None = None  # None: as many as the video has
    task: str = ""
    first_frame: int = 0  # frame of the ego video that the first pose belongs to
    ego: CameraPath | None = None  # None: that of the take folder
    is_take: bool = True  # the folder has an exo video and, perhaps, depth

    @classmethod
    def of_record(cls, record: ClipRecord, root: Path) -> EgoClip:
        """Take the clip from its record in the manifest of a set's root."""
        folder = root / record.folder
        return cls(
            name=record.clip,
            folder=folder,
            ego_video=folder / TRUTH,
            frames=record.frames,
            task=record.task,
        )

    @property
    def has_hands(self) -> bool:
        """Tell if the clip's folder has a file of hands."""
        return (self.folder / HANDS).is_file()

    @property
    def files(self) -> list[Path]:
        """List the files that an episode of the clip is made of."""
        names = (EXO, META, HANDS, HEAD_TRAJECTORY)
        return [self.ego_video, *(self.folder / name for name in names)]
