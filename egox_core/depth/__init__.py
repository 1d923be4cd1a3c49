"""Convert depth of the exo video from any source to metric z depth with a camera.

In: payloads of the host's depth models, depth pictures or files, each as a :class:`DepthSource`;
masks of what moves and of the sky. Out: :class:`~egox_core.types.DepthVideo` of kind ``metric z``
(invalid pixels NaN) and an :class:`AlignReport`. The affine fit D = 1 / (α / D_video + β) is in
``fit``; a socket is one entry of ``DEPTH_ADAPTERS``.
"""

from .adapters import DEPTH_ADAPTERS, check_scale, socket_sources
from .align import align_depth, depth_advice
from .between import depth_between
from .label_map import check_no_labels
from .report import AlignReport
from .resample import depth_window, fit_depth_size, fit_host_mask, frames_of_size, with_host_masks
from .roles import align_sources, choose_roles
from .sources import (
    GUESSED_FOV_DEG,
    DepthSource,
    array_depth,
    camera_of_view,
    clean_depth,
    guessed_camera,
    median_camera,
)
from .trust import with_trust
