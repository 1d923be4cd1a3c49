"""Measure how well a generated ego video follows its path and agrees with the true video.

In: generated and true ego video [T, H, W, 3] (float 0...1), the ego prior and its geometry. Out:
degrees and dB per frame (:mod:`.off_path`, :mod:`.image`); lists of λ_g and LoRA strength.
"""

from .clip_turn import ClipTurn
from .exact_scene import exact_scene
from .exo_turn import FoundExo, search_exo
from .frame_alignment import Pose
from .image import (
    check_pair,
    psnr,
    region_psnr,
    require_torchmetrics,
    squared_error,
    ssim_map,
)
from .off_path import PathError, PathViews
from .path_lag import PathLag, path_lag
from .redrawn import keep_observed
from .scene_fit import SceneFit, SizePrior
from .straighten import straighten_picture
from .sweep import sweep_points
