"""The names that prior hands out."""

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
