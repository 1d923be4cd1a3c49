"""Read recordings from disk: depth, exo camera, ego path and prompt of a take.

In: a depth or meta.json file, and the frames in use. Out:
:class:`~egox_core.types.DepthVideo`, :class:`~egox_core.types.TakeMeta`, all for those frames.
Files of bad content are refused with :class:`~egox_core.errors.EgoXInputError`."""

from .body_scale import LOCAL_ERROR, MODEL_ERROR
from .depth_arrays import states_direction
from .depth_files import check_depth, check_maps, load_depth_file
from .depth_inputs import DepthReport, check_depth_file, find_depth, take_depth
from .depth_readers import PICTURE_SUFFIXES, DepthFile, open_depth
from .meta import (
    ENTRY_KEYS,
    LIST_KEYS,
    MAX_META_BYTES,
    differing_keys,
    listed_takes,
    meta_beside,
    meta_entry,
    own_camera,
    parse_meta,
    read_meta,
    take_name,
)
from .metric_scale import with_raw_scale, with_scale, with_takes_raw_scale
from .same_take import check_same_take
from .shown_picture import shown_take
from .take_cameras import (
    check_ego_count,
    ego_lens,
    exo_poses,
    is_aria_k,
    meta_lens,
    meta_trajectory,
    pose_numberings,
    with_exo_lens,
)
from .vipe import read_poses
from .wearer_body import meets_head
