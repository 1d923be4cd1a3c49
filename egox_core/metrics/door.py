"""The names that metrics hands out."""

from .exo_turn import exo_turned_error as exo_turned_error
from .image import (
    check_pair as check_pair,
    psnr as psnr,
    region_psnr as region_psnr,
    require_torchmetrics as require_torchmetrics,
    squared_error as squared_error,
    ssim_map as ssim_map,
)
from .off_path import (
    PathError as PathError,
    PathViews as PathViews,
)
from .redrawn import keep_observed as keep_observed
from .sweep import sweep_points as sweep_points
