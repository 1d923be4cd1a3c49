"""Draw pictures, answer queries and store uploads for the browser page.

In: maps and videos as tensors; a :class:`~egox_core.types.PointCloud`, a camera and a pixel;
uploaded files. Out: pictures [.., H, W, 3] (float 0...1, or uint8 where they are drawn for a file),
JPEG sheets, legends as plain data, points of the scene, a small prior of one pose. Knows no host.
"""

from .align_plot import plot_report
from .attention import attention_view
from .exo_motion import path_from_above, sightings_picture
from .geometry import geometry_file
from .head_path import draw_head_path
from .maps import coverage_preview, depth_preview
from .queries import lens_outline, mark_seen, pick_head, pick_point
from .sheets import MAX_FRAMES, Drawn, common_step, make_sheets
from .uploads import MAX_FILES, UPLOAD_SUFFIXES, store_upload, use_as_truth
