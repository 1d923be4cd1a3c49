"""Scores of every method on every held-out clip."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from egox_core.metrics import find_redrawn, psnr, put_back, region_psnr, squared_error, ssim_map
from egox_train.metrics.baselines import BASELINES
from egox_train.metrics.bootstrap import Estimate, bootstrap_mean
from egox_train.metrics.prior_regions import class_rows
from egox_train.metrics.temporal import temporal_flickering

from .colours import colour_hits
from .held_out import HeldOutClip
from .outlines import object_outlines, outline_share, quiet_gradient
from .retrieval import retrieval_ranks, thumbnail

MODEL, KEPT, BASE, WRONG_EXO, WRONG_PRIOR = (
    "model",
    "model, observed pixels kept",
    "LoRA strength 0",
    "another take's exo",
    "another take's prior",
)
PRIOR_VAE, TRUTH_VAE = "prior (Telea) through the VAE", "truth through the VAE (ceiling)"
TELEA = "prior + Telea"

Scores = Mapping[str, Mapping[str, float | None]]
"""Metric -> clip -> value; None where there was nothing to measure."""


def scores_of(video: np.ndarray | Tensor, clip: HeldOutClip) -> dict[str, float | None]:
    """One video [T, S, S, 3] (uint8, or float 0...1) against its clip's truth.

    PSNR and SSIM are means over frames; by region and by class PSNR is that of the pooled error.
    ``colours_right`` is the share of object frames judged (the object covers 2 % of the true frame
    and exo sees it), ``object_frames`` their number, ``objects_right`` the share of objects of
    which at least half of those frames are right. ``outlines``, ``quiet`` and ``object_outlines``
    are those of :mod:`.outlines`; ``flicker`` is how much following frames differ, against the
    truth's.
    """
    generated, truth = as_float(video), as_float(clip.truth)
    similar, error = ssim_map(generated, truth), squared_error(generated, truth)
    hits = colour_hits(clip.objects, generated, truth)
    values = hits[~np.isnan(hits)]
    by_object = [float(np.nanmean(row) >= 0.5) for row in hits if not np.isnan(row).all()]
    return {
        "psnr": float(psnr(generated, truth).mean()),
        "ssim": float(similar.mean()),
        "psnr_inside": region_psnr(error, clip.coverage),
        "psnr_outside": region_psnr(error, ~clip.coverage),
        **class_rows(clip.seen, error),
        "colours_right": float(values.mean()) if len(values) else None,
        "object_frames": float(len(values)),
        "objects_right": float(np.mean(by_object)) if by_object else None,
        "objects": float(len(by_object)),
        "outlines": outline_share(generated, truth),
        "quiet": quiet_gradient(generated, truth),
        "object_outlines": object_outlines(clip.objects, generated, truth),
        "flicker": flicker(generated, truth),
    }


def flicker(generated: Tensor, truth: Tensor) -> float | None:
    """Difference of consecutive frames, as a multiple of the truth's; None where the truth doesn't
    move."""
    if len(truth) < 2 or (still := 1 - temporal_flickering(truth)) == 0:
        return None
    return (1 - temporal_flickering(generated)) / still


def score_method(
    videos: Sequence[np.ndarray | Tensor], clips: Sequence[HeldOutClip]
) -> dict[str, dict[str, float | None]]:
    """Scores of one method on all clips, with retrieval among them."""
    per_clip = [scores_of(video, clip) for video, clip in zip(videos, clips, strict=True)]
    names = [clip.name for clip in clips]
    if len(clips) > 1:
        ranks = retrieval_ranks(
            [thumbnail(as_float(v)) for v in videos],
            [thumbnail(as_float(c.truth)) for c in clips],
        )
        for row, rank in zip(per_clip, ranks, strict=True):
            row["retrieval_hit"] = float(rank == 1)
    return {
        metric: {name: row[metric] for name, row in zip(names, per_clip, strict=True)}
        for metric in per_clip[0]
    }


def baseline_videos(clips: Sequence[HeldOutClip]) -> dict[str, list[np.ndarray]]:
    """Videos that need no model, uint8 [T, S, S, 3] each, by name."""
    return {
        name: [to_uint8(make(as_float(c.exo), as_float(c.prior), c.coverage)) for c in clips]
        for name, make in BASELINES.items()
    }


def kept_videos(videos: Sequence[np.ndarray], clips: Sequence[HeldOutClip]) -> list[np.ndarray]:
    """The model's videos, uint8 [T, S, S, 3] each, with all pixels that exo observed put back."""
    kept = []
    for video, clip in zip(videos, clips, strict=True):
        frames, prior = as_float(video), as_float(clip.prior)
        redrawn = find_redrawn(frames, prior, clip.seen)
        kept.append(to_uint8(put_back(frames, prior, clip.seen, redrawn, 1.0)[0]))
    return kept


def mean_of(scores: Scores, metric: str) -> Estimate | None:
    """Mean over clips with its interval; colours are weighted by the frames judged."""
    column = scores.get(metric, {})
    weight = {"colours_right": "object_frames", "objects_right": "objects"}.get(metric)
    names = [name for name, value in column.items() if value is not None]
    if weight is None:
        return bootstrap_mean([column[n] for n in names], names)
    # A clip has as many values as objects; repeated, they are drawn together.
    repeated = [(column[n], n) for n in names for _ in range(int(scores[weight][n]))]
    return bootstrap_mean([v for v, _ in repeated], [n for _, n in repeated])


def as_float(video: np.ndarray | Tensor) -> Tensor:
    """uint8 or float video -> float32 0...1."""
    video = torch.as_tensor(video)
    return video.float() / 255 if video.dtype == torch.uint8 else video.float()


def to_uint8(video: Tensor) -> np.ndarray:
    """float 0...1 -> uint8."""
    return (video * 255).round().clamp(0, 255).to(torch.uint8).numpy()
