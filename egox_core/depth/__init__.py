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
        DepthSocket as DepthSocket,
        check_scale as check_scale,
        socket_sources as socket_sources,
    )
    from .align import align_depth as align_depth, depth_advice as depth_advice
    from .report import (
        ALIGN_MODES as ALIGN_MODES,
        AlignOptions as AlignOptions,
        AlignReport as AlignReport,
    )
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

__getattr__, __dir__ = door(__name__, __file__)
