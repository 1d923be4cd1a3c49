"""The names that takes hands out."""

from .depth_files import check_depth as check_depth, load_depth_file as load_depth_file
from .depth_inputs import (
    check_depth_file as check_depth_file,
    find_depth as find_depth,
    take_depth as take_depth,
)
from .depth_readers import (
    PICTURE_SUFFIXES as PICTURE_SUFFIXES,
    DepthFile as DepthFile,
    open_depth as open_depth,
)
from .meta import (
    ENTRY_KEYS as ENTRY_KEYS,
    LIST_KEY as LIST_KEY,
    meta_beside as meta_beside,
    parse_meta as parse_meta,
    read_meta as read_meta,
)
from .metric_scale import ScaleReport as ScaleReport, with_scale as with_scale
from .same_take import check_same_take as check_same_take
from .take_cameras import (
    exo_camera_of_size as exo_camera_of_size,
    exo_poses as exo_poses,
    meta_trajectory as meta_trajectory,
    with_exo_lens as with_exo_lens,
)
from .vipe import read_poses as read_poses
from .wearer_body import meets_head as meets_head
