"""Render the ego prior: a scene as the ego camera sees it (paper, section 3.1).

In: a :class:`~egox_core.types.PointCloud`, a :class:`~egox_core.types.CameraTrajectory`, options or
a preset's name. Out: an :class:`~egox_core.types.EgoPrior` (rgb, coverage, z depth per frame); its
preview, a prior that is filled and shaded without a model; of several exo cameras, which one shows
most of the ego view.
"""

from ..choices import FILL_CHOICES, MAX_GAIN, SHADING_CHOICES, Shading
from .coarse import CoarsePoints
from .gaussians import iter_ego_gaussians
from .look_away import LookAwayMemory
from .options import PRIOR_PRESETS, PriorOptions, prior_options, prior_preset
from .placement import check_placement
from .preview import (
    aria_shading,
    iter_ego_preview,
    preview_note,
)
from .push_pull import push_pull
from .rank import ExoCandidate, rank_exo_cameras, rank_text
from .render import PriorFrame, iter_ego_prior, render_ego_prior
from .room import RoomGuess
