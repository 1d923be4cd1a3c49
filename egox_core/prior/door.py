"""The names that prior hands out."""

from .coarse import CoarsePoints as CoarsePoints
from .look_away import LookAwayMemory as LookAwayMemory
from .options import (
    PRIOR_PRESETS as PRIOR_PRESETS,
    PriorOptions as PriorOptions,
    prior_preset as prior_preset,
)
from .placement import check_placement as check_placement
from .rank import (
    ExoCandidate as ExoCandidate,
    rank_exo_cameras as rank_exo_cameras,
    rank_text as rank_text,
)
from .render import iter_ego_prior as iter_ego_prior, render_ego_prior as render_ego_prior
