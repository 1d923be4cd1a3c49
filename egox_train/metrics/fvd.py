"""Compute the Fréchet distance between two sets of videos, over features of cd-fvd's I3D or
VideoMAE."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.frame_store import sample_frames

from ..wan.weights import load_network
from .columns import FVD_WEIGHTS, MAE_WEIGHTS

CLASSES = 400
FRAMES = 16
"""Frames of a video that are looked at, spread over it, as cd-fvd takes 16 a video."""
LEAST_SIDE = 9
"""Frames that I3D needs."""


class VideoFeatures:
    """I3D network that computes features of videos for FVD.

    It gives 400 logits, with cd-fvd's network and preprocessing (224 px, bilinear, -1 to 1).

    Raises:
        EgoXInputError: cd-fvd missing, the file missing or of another model.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        self.device = device
        try:
            from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d
            from cdfvd.third_party.i3d.utils import preprocess_i3d
        except ImportError as error:
            raise _missing_package_error("FVD", error) from error
        self.prepare = preprocess_i3d
        self.model = load_network(
            InceptionI3d(CLASSES, in_channels=3),
            weights,
            "FVD weights",
            expected="cd-fvd's I3D",
            download_hint=FVD_WEIGHTS,
        ).to(device)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,  # [T, H, W, 3] float 0...1
    ) -> np.ndarray:  # [400] float32
        """Compute the I3D features of one video.

        Raises:
            EgoXInputError: fewer than 9 frames.
        """
        _check_length("FVD", frames, LEAST_SIDE, "--fvd")
        video = self.prepare(_evenly_selected_frames(frames)[None].cpu().numpy()).to(self.device)
        return self.model(video).flatten().cpu().numpy()


class MotionFeatures:
    """VideoMAE v2 network that computes features of videos for FVD.

    It gives 1,408 numbers (Ge and others 2024), with cd-fvd's preprocessing (16 frames of
    224 px, 0 to 1).

    Raises:
        EgoXInputError: cd-fvd missing, the file missing or of another model.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        try:
            from cdfvd.third_party.VideoMAEv2.utils import (
                preprocess_videomae,
                vit_giant_patch14_224,
            )
        except ImportError as error:
            raise _missing_package_error("FVD (VideoMAE)", error) from error
        self.prepare, self.device = preprocess_videomae, device
        vit_network = vit_giant_patch14_224(
            img_size=224,
            pretrained=False,
            num_classes=174,
            all_frames=FRAMES,
            tubelet_size=2,
            drop_path_rate=0.3,
            use_mean_pooling=True,
        )
        self.model = load_network(
            vit_network,
            weights,
            "FVD (VideoMAE) weights",
            expected="cd-fvd's VideoMAE v2 (ViT-g)",
            download_hint=MAE_WEIGHTS,
        ).to(device)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,  # [T, H, W, 3] float 0...1
    ) -> np.ndarray:  # [1408] float32
        """Compute the VideoMAE features of one video.

        Raises:
            EgoXInputError: fewer than 16 frames.
        """
        _check_length("FVD (VideoMAE)", frames, FRAMES, "--fvd-videomae")
        video = self.prepare(_evenly_selected_frames(frames)[None].cpu().numpy()).to(self.device)
        return self.model.forward_features(video).flatten().cpu().numpy()


def _missing_package_error(subject: str, error: ImportError) -> EgoXInputError:
    return EgoXInputError(
        subject,
        got=f"cd-fvd can't be imported ({error})",
        expected="cd-fvd",
        fix="pip install cd-fvd",
    )


def _check_length(subject: str, frames: Tensor, fewest: int, option: str) -> None:
    if len(frames) < fewest:
        raise EgoXInputError(
            subject,
            got=f"{len(frames)} frames",
            expected=f"at least {fewest}",
            fix=f"leave {option} out",
        )


def _evenly_selected_frames(frames: Tensor) -> Tensor:  # [at most 16, H, W, 3] uint8
    """Select frames evenly spread over a video."""
    selected_frames = frames[sample_frames(len(frames), FRAMES)]
    return (selected_frames.float() * 255).round().clamp(0, 255).to(torch.uint8)


def frechet_distance(
    generated_features: Sequence[np.ndarray], true_features: Sequence[np.ndarray]
) -> float:
    """Compute the Fréchet distance between two sets of features [n][d].

    Covariances divide by n, as cd-fvd's. With fewer videos than features they are singular, and
    the value depends on their number: only sets of the same size compare.

    Raises:
        EgoXInputError: a set of fewer than two.
    """
    if min(len(generated_features), len(true_features)) < 2:
        raise EgoXInputError(
            "FVD",
            got=f"sets of {len(generated_features)} and {len(true_features)} videos",
            expected="at least two each",
            fix="evaluate more clips",
        )
    first_features, second_features = (
        np.asarray(x, dtype=np.float64) for x in (generated_features, true_features)
    )
    mean_difference = first_features.mean(0) - second_features.mean(0)
    first_features, second_features = (
        (x - x.mean(0)) / np.sqrt(len(x)) for x in (first_features, second_features)
    )
    # Sa = AᵀA, Sb = BᵀB: the eigenvalues of Sa Sb are the squared singular values of A Bᵀ, which is
    # small and exact.
    covariance_root_trace = np.linalg.svd(
        first_features @ second_features.T, compute_uv=False
    ).sum()
    return float(
        max(
            0.0,
            mean_difference @ mean_difference
            + np.square(first_features).sum()
            + np.square(second_features).sum()
            - 2 * covariance_root_trace,
        )
    )


NETWORKS = {"fvd": VideoFeatures, "fvd-videomae": MotionFeatures}
"""By column."""
