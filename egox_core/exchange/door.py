"""The names that exchange hands out."""

from .exo_paths import ExoPath as ExoPath
from .paths import (
    export_path as export_path,
    import_path as import_path,
    trajectory_of_keyframes as trajectory_of_keyframes,
)
from .trajectory_files import (
    read_trajectory as read_trajectory,
    write_trajectory as write_trajectory,
)
