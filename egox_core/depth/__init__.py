"""From any depth of the exo video to metric z depth with a camera.

In: payloads of the host's depth models, depth pictures or files, each as a :class:`DepthSource`; masks of what moves
and of the sky. Out: :class:`~egox_core.types.DepthVideo` of kind ``metric z`` (invalid pixels NaN) and an
:class:`AlignReport`. The affine fit D = 1 / (α / D_video + β) is in ``fit``; a socket is one entry of
``DEPTH_ADAPTERS``.
"""

from typing import TYPE_CHECKING

from ..doors import door

if TYPE_CHECKING:
    from .adapters import (
        DEPTH_ADAPTERS as DEPTH_ADAPTERS,
        WITHOUT_SCALE as WITHOUT_SCALE,
        DepthSocket as DepthSocket,
        socket_sources as socket_sources,
    )
    from .align import (
        ADVICE as ADVICE,
        MISSING_METRIC as MISSING_METRIC,
        align_depth as align_depth,
    )
    from .body_scale import WearerScale as WearerScale, wearer_scale as wearer_scale
    from .edges import (
        RELEASED_RANGE as RELEASED_RANGE,
        depth_edge as depth_edge,
        depth_range as depth_range,
        stray_step as stray_step,
    )
    from .own_take import STRANGE as STRANGE, strange_depth as strange_depth
    from .report import (
        ALIGN_MODES as ALIGN_MODES,
        AlignOptions as AlignOptions,
        AlignReport as AlignReport,
    )
    from .resample import (
        depth_window as depth_window,
        fit_depth as fit_depth,
        fit_depth_size as fit_depth_size,
        fit_host_mask as fit_host_mask,
        fit_mask as fit_mask,
        frames_of_size as frames_of_size,
        window_camera as window_camera,
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
    from .valid import check_valid_shares as check_valid_shares, mark_invalid as mark_invalid
    from .wearer_body import meets_head as meets_head

__getattr__, __dir__ = door(__name__, __file__)
