"""Define what a take's meta.json states, and the notes that go on with its path."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..cameras import CameraModel, CameraPath
from ..facts import NOTHING_DECLARED, Declared
from ..frozen import frozen
from ..remarks import FactRow


@frozen
class TakeNotes:
    """Notes on the file of an ego path: prompt, K, source, and the placement of its poses."""

    prompt: str = ""
    # [3, 3] float64, the ego camera's K as meta.json has it (released GGA rays use it)
    meta_intrinsics: Tensor | None = None
    source: str = ""  # origin of the path
    placed: str = ""  # which frames its poses were found to be of, and how many lie between


@frozen
class TakeMeta:
    """Entry of a meta.json for one take, with both cameras in one world."""

    name: str  # used in error messages
    prompt: str = ""
    # [3, 3] float64, exo K, of a picture that it is centred in; None beside the exact lens
    camera_intrinsics: Tensor | None = None
    # poses numbered by source frame; the lens only where the file has the exact one (ours do)
    exo: CameraPath = CameraPath.of_exo(None)  # noqa: RUF009  frozen
    other_lenses: tuple[str, ...] = ()  # what the file says of exo's lens beside the exact one
    ego_intrinsics: Tensor | None = None  # [3, 3] float64
    ego_lens: CameraModel | None = None  # the exact one, too
    ego: CameraPath | None = None  # with that lens, numbered by source frame; None: no poses
    exo_path: str = ""  # as written, never opened
    # who made the ego poses, if the file names it; empty: somebody who measured them
    pose_source: str = ""
    declared: Declared = NOTHING_DECLARED
    facts: tuple[FactRow, ...] = ()  # what was settled of its poses, and by whom

    @property
    def notes(self) -> TakeNotes:
        """Notes that accompany the ego path."""
        return TakeNotes(prompt=self.prompt, meta_intrinsics=self.ego_intrinsics, source=self.name)

    def ego_source(self, file: Path | None) -> TakeMeta | Path:
        """Choose what gives the ego poses: this entry or, where it has none, a file beside it."""
        return self if self.ego or file is None else file

    @property
    def exo_camera(self) -> CameraModel | None:
        """Exo camera with the exact lens or, if unknown, with K and a picture centred on it."""
        k = self.camera_intrinsics
        if self.exo.lens is not None or k is None:
            return self.exo.lens
        size = max(1, round(2 * float(k[0, 2]))), max(1, round(2 * float(k[1, 2])))
        return CameraModel.from_intrinsics(k, *size, name=f"camera_intrinsics of {self.name}")
