"""Scores of every method on every held-out clip, and the small model's bars over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from egox_core.metrics.image import psnr, region_psnr, squared_error, ssim_map
from egox_train.metrics.baselines import BASELINES
from egox_train.metrics.bootstrap import Estimate, bootstrap_mean, paired_difference
from egox_train.metrics.temporal import temporal_flickering

from .colours import colour_hits
from .held_out import HeldOutClip
from .outlines import object_outlines, outline_share, quiet_gradient
from .retrieval import retrieval_ranks, thumbnail

MODEL, BASE, WRONG_EXO, WRONG_PRIOR = (
    "model",
    "LoRA strength 0",
    "another take's exo",
    "another take's prior",
)
PRIOR_VAE, TRUTH_VAE = "prior (Telea) through the VAE", "truth through the VAE (ceiling)"
KERNEL = "kernel distance"
TELEA, RESIZED, MEAN, SHRINK = "prior + Telea", "exo resized", "exo mean colour", "shrink"

Scores = Mapping[str, Mapping[str, float | None]]
"""Metric -> clip -> value; None where there was nothing to measure."""
Verdict = Literal["holds", "fails"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """``model`` minus ``against`` (or the value itself) in ``metric`` must be at least ``least`` or
    at most ``most``.

    A lead must also have its whole interval above zero; of a loss that is allowed the whole
    interval must be allowed. Of a value itself the mean counts.
    """

    name: str
    metric: str
    against: str | None
    least: float | None = None
    most: float | None = None


BARS: tuple[Bar, ...] = (
    # The VAE costs outlines: a sampler is asked for those that it leaves of the filled prior.
    Bar(
        name="outlines over prior + Telea through the VAE",
        metric="outlines",
        against=PRIOR_VAE,
        least=0.0,
    ),
    Bar(name="gradient in quiet places", metric="quiet", against=None, most=3.0),
    Bar(name="kernel distance less that of prior + Telea", metric=KERNEL, against=TELEA, most=0.0),
    Bar(
        name="objects' outlines over prior + Telea",
        metric="object_outlines",
        against=TELEA,
        least=0.0,
    ),
    Bar(name="flicker, times the truth's", metric="flicker", against=None, most=1.5),
    Bar(name="PSNR over prior + Telea", metric="psnr", against=TELEA, least=2.0),
    Bar(name="PSNR over shrink", metric="psnr", against=SHRINK, least=0.8),
    Bar(
        name="outside the coverage, PSNR over prior + Telea",
        metric="psnr_outside",
        against=TELEA,
        least=2.5,
    ),
    Bar(name="objects whose colour is their own", metric="colours_right", against=None, least=0.75),
    Bar(
        name="retrieval among all held-out takes", metric="retrieval_hit", against=None, least=0.95
    ),
    Bar(name="PSNR that another take's exo costs", metric="psnr", against=WRONG_EXO, least=1.3),
    Bar(name="PSNR that another take's prior costs", metric="psnr", against=WRONG_PRIOR, least=3.5),
)


def scores_of(video: np.ndarray | Tensor, clip: HeldOutClip) -> dict[str, float | None]:
    """One video [T, S, S, 3] (uint8, or float 0...1) against its clip's truth.

    PSNR and SSIM are means over frames; by region PSNR is that of the pooled error.
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


def lead_of(bar: Bar, scores: Mapping[str, Scores]) -> Estimate | None:
    """The bar's figure with its interval; None where there is nothing to measure."""
    ours = scores[MODEL]
    if bar.against is None:
        return mean_of(ours, bar.metric)
    return paired_difference(
        ours[bar.metric], scores[bar.against][bar.metric], {name: name for name in ours["psnr"]}
    )


def judged(bar: Bar, estimate: Estimate | None) -> dict[str, Any]:
    """The bar with its figure and verdict."""
    facts = {
        "bar": bar.name,
        "metric": bar.metric,
        "against": bar.against,
        "least": bar.least,
        "most": bar.most,
    }
    if estimate is None:
        return {**facts, "verdict": "not measured"}
    return {**facts, **estimate.as_dict(), "verdict": verdict(bar, estimate)}


def verdict(bar: Bar, estimate: Estimate) -> Verdict:
    """See :class:`Bar`."""
    mean, worst, limit = estimate.mean, estimate.low, bar.least
    if limit is None:
        mean, worst, limit = -mean, -estimate.high, -bar.most
    sure = bar.against is None or worst > min(limit, 0.0)
    return "holds" if mean >= limit and sure else "fails"


def as_float(video: np.ndarray | Tensor) -> Tensor:
    """uint8 or float video -> float32 0...1."""
    video = torch.as_tensor(video)
    return video.float() / 255 if video.dtype == torch.uint8 else video.float()


def to_uint8(video: Tensor) -> np.ndarray:
    """float 0...1 -> uint8."""
    return (video * 255).round().clamp(0, 255).to(torch.uint8).numpy()
