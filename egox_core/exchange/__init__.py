"""Camera paths as files of other programs, and as our own: read, told apart, written.

In: a file of COLMAP, Blender, Nuke, TUM, GVHMR or OmniCam, a meta.json, keyframes or our own JSON; or a
path to write. Out: :class:`~egox_core.types.CameraTrajectory`, :class:`ExoPath`, keyframe documents, files.
"""

from typing import TYPE_CHECKING

from ..doors import door

if TYPE_CHECKING:
    from .exo_paths import parse_exo_path as parse_exo_path, read_exo_path as read_exo_path
    from .paths import (
        export_path as export_path,
        import_file as import_file,
        import_path as import_path,
    )
    from .trajectory_files import (
        read_trajectory as read_trajectory,
        write_trajectory as write_trajectory,
    )

__getattr__, __dir__ = door(__name__, __file__)
