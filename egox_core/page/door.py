"""The names that page hands out."""

from .align_plot import plot_report as plot_report
from .attention import attention_view as attention_view
from .exo_motion import path_from_above as path_from_above, sightings_picture as sightings_picture
from .geometry import geometry_file as geometry_file
from .head_path import draw_head_path as draw_head_path
from .maps import (
    coverage_preview as coverage_preview,
    depth_preview as depth_preview,
    mark_seen as mark_seen,
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
from .uploads import MAX_FILES as MAX_FILES, UPLOAD_SUFFIXES as UPLOAD_SUFFIXES, take_in as take_in
