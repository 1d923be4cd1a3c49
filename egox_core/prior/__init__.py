"""The ego prior: a scene as the ego camera sees it (paper, section 3.1).

In: a :class:`~egox_core.types.PointCloud`, a :class:`~egox_core.types.CameraTrajectory`, options or a preset's name.
Out: an :class:`~egox_core.types.EgoPrior` (rgb, coverage, z depth per frame); of several exo cameras, which one shows
most of the ego view.
"""

from typing import TYPE_CHECKING

from ..doors import door

if TYPE_CHECKING:
    from .coarse import (
        MAX_POINTS as MAX_POINTS,
        CoarsePoints as CoarsePoints,
        coarse_points as coarse_points,
        coarse_prior as coarse_prior,
        joined as joined,
    )
    from .look_away import LookAwayMemory as LookAwayMemory
    from .options import (
        AS_GIVEN as AS_GIVEN,
        DYNAMIC_CHOICES as DYNAMIC_CHOICES,
        PRESET_GEOMETRY as PRESET_GEOMETRY,
        PRIOR_PRESETS as PRIOR_PRESETS,
        PriorOptions as PriorOptions,
        prior_preset as prior_preset,
    )
    from .rank import (
        ExoCandidate as ExoCandidate,
        load_candidate as load_candidate,
        rank_exo_cameras as rank_exo_cameras,
        rank_text as rank_text,
    )
    from .render import (
        ego_depth as ego_depth,
        iter_ego_prior as iter_ego_prior,
        render_ego_prior as render_ego_prior,
    )
    from .splatter import SPLATTERS as SPLATTERS

__getattr__, __dir__ = door(__name__, __file__)
