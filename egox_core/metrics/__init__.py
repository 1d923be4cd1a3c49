"""Figures that a node shows: how far a generated view is off its path, PSNR, and the pairs of a
sweep.

In: generated and true ego video [T, H, W, 3] (float 0...1), the ego prior and its geometry. Out:
degrees and dB per frame (:mod:`.off_path`, :mod:`.image`); lists of λ_g and LoRA strength.
"""

from typing import TYPE_CHECKING

from ..doors import door

if TYPE_CHECKING:
    from .image import (
        PSNR_CAP_DB as PSNR_CAP_DB,
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
        path_error as path_error,
        path_views as path_views,
    )
    from .sweep import read_numbers as read_numbers, sweep_points as sweep_points

__getattr__, __dir__ = door(__name__, __file__)
