"""The names that depth hands out."""

from .adapters import (
    DEPTH_ADAPTERS as DEPTH_ADAPTERS,
    check_scale as check_scale,
    socket_sources as socket_sources,
)
from .align import align_depth as align_depth, depth_advice as depth_advice
from .report import AlignOptions as AlignOptions, AlignReport as AlignReport
from .resample import (
    depth_window as depth_window,
    fit_depth_size as fit_depth_size,
    fit_host_mask as fit_host_mask,
    frames_of_size as frames_of_size,
    with_host_masks as with_host_masks,
)
from .roles import align_sources as align_sources
from .sources import (
    GUESSED_FOV_DEG as GUESSED_FOV_DEG,
    DepthSource as DepthSource,
    array_depth as array_depth,
    camera_of_view as camera_of_view,
    clean_depth as clean_depth,
    guessed_camera as guessed_camera,
)
from .trust import with_trust as with_trust
