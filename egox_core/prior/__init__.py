"""The ego prior: a scene as the ego camera sees it (paper, section 3.1).

In: a :class:`~egox_core.types.PointCloud`, a :class:`~egox_core.types.CameraTrajectory`, options or a preset's name.
Out: an :class:`~egox_core.types.EgoPrior` (rgb, coverage, z depth per frame); of several exo cameras, which one shows
most of the ego view.
"""

from .options import PriorOptions, prior_preset
from .rank import rank_exo_cameras
from .render import iter_ego_prior, render_ego_prior
from .splatter import splat
