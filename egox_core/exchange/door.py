"""The names that exchange hands out."""

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
