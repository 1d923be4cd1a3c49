"""The names that page hands out."""

from .align_plot import plot_report as plot_report
from .attention import (
    attention_grid as attention_grid,
    attention_report as attention_report,
    check_attention_pictures as check_attention_pictures,
    check_shown_frame as check_shown_frame,
    heat_picture as heat_picture,
    heats as heats,
)
from .exo_motion import (
    path_from_above as path_from_above,
    residual_legend as residual_legend,
    sightings_picture as sightings_picture,
)
from .geometry import geometry_bytes as geometry_bytes, weight_legend as weight_legend
from .head_path import draw_head_path as draw_head_path, head_legend as head_legend
from .maps import (
    coverage_preview as coverage_preview,
    covered_share as covered_share,
    depth_preview as depth_preview,
    depth_scale as depth_scale,
    ego_depth_preview as ego_depth_preview,
)
from .queries import (
    lens_outline as lens_outline,
    pick_head as pick_head,
    pick_point as pick_point,
    scene_up as scene_up,
)
from .sheets import (
    MAX_FRAMES as MAX_FRAMES,
    Drawn as Drawn,
    common_step as common_step,
    make_sheets as make_sheets,
)
from .uploads import (
    MAX_FILES as MAX_FILES,
    UPLOAD_SUFFIXES as UPLOAD_SUFFIXES,
    contents as contents,
    name_of_upload as name_of_upload,
    place_upload as place_upload,
    told_apart as told_apart,
    unpack_uploads as unpack_uploads,
)
