"""The figures of the small model's bench, by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

for package in ("torchmetrics", "diffusers", "peft"):
    pytest.importorskip(package)

from lab.drawn import SyntheticSpec, make_take  # noqa: E402
from lab.small_model.held_out import (  # noqa: E402
    HeldOutClip,
    clip_of_take,
    with_exo_of,
    with_prior_of,
)
from lab.small_model.retrieval import retrieval_ranks, thumbnail  # noqa: E402
from lab.small_model.scores import (  # noqa: E402
    scores_of,
)
from tests.refusals import refuses  # noqa: E402

SPEC = SyntheticSpec(
    seed=1,
    frames=5,
    fps=5.0,
    exo_width=64,
    exo_height=32,
    ego_size=32,
    texture="plain",
    clutter="calm",
    object_scale=2.0,
    edge_samples=1,
)


@pytest.fixture(scope="module")
def takes():
    return [make_take(replace(SPEC, seed=seed)) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def clips(takes) -> list[HeldOutClip]:
    return [clip_of_take(take) for take in takes]


def test_a_clip_is_the_take_with_its_prior(takes, clips):
    take, clip = takes[0], clips[0]
    assert torch.equal(clip.truth, take.ego_rgb) and torch.equal(clip.exo, take.exo_rgb)
    assert clip.prior.shape == clip.truth.shape and clip.prior.dtype == torch.uint8
    assert 0.1 < clip.coverage.float().mean() < 0.9 and not clip.prior[~clip.coverage].any()
    wrong_exo, wrong_prior = with_exo_of(clips), with_prior_of(clips)
    assert wrong_exo[2].exo is clips[0].exo and wrong_exo[2].prior is clips[2].prior
    assert wrong_prior[0].prior is clips[1].prior and wrong_prior[0].exo is clips[0].exo
    with refuses("at least two"):
        with_exo_of(clips[:1])


def flat_clip(clip: HeldOutClip) -> HeldOutClip:
    """A grey picture with a red square that exo sees in two frames; left half covered."""
    truth = torch.full((5, 32, 32, 3), 100, dtype=torch.uint8)
    mask = np.zeros((1, 5, 32, 32), bool)
    mask[:, :2, 8:16, 8:16] = True
    truth[:, 8:16, 8:16] = torch.tensor([200, 0, 0], dtype=torch.uint8)
    coverage = torch.zeros(5, 32, 32, dtype=torch.bool)
    coverage[:, :, :16] = True
    return replace(
        clip,
        truth=truth,
        prior=truth,
        coverage=coverage,
        objects=mask,
    )


def test_scores_by_hand(clips):
    clip = flat_clip(clips[0])
    perfect = scores_of(clip.truth, clip)
    assert perfect["psnr"] == 100 and perfect["ssim"] == pytest.approx(1)
    assert (perfect["colours_right"], perfect["object_frames"], perfect["objects"]) == (1, 2, 1)
    # 51 levels off on the right half: 14 dB there, nothing lost on the left, 3 dB more over all.
    shifted = clip.truth.clone()
    shifted[:, :, 16:] += 51
    found = scores_of(shifted, clip)
    assert (
        found["psnr_outside"] == pytest.approx(20 * np.log10(5), abs=1e-4)
        and found["psnr_inside"] == 100
    )
    assert found["psnr"] == pytest.approx(20 * np.log10(5) + 10 * np.log10(2), abs=1e-4)
    # The square is right in the first frame alone, of two that are judged.
    faded = clip.truth.clone()
    faded[1:, 8:16, 8:16] = 100
    assert (
        scores_of(faded, clip)["colours_right"] == 0.5
        and scores_of(faded, clip)["objects_right"] == 1
    )
    faded[0, 8:16, 8:16] = 100
    assert scores_of(faded, clip)["objects_right"] == 0


def test_retrieval_counts_ties_against_the_own_video(clips):
    truths = [thumbnail(clip.truth / 255) for clip in clips]
    assert retrieval_ranks(truths, truths) == [1, 1, 1]
    first, second, third = retrieval_ranks([truths[1], truths[0], truths[2]], truths)
    assert min(first, second) > 1 and third == 1
    assert retrieval_ranks(truths[:1] * 2, truths[:1] * 2) == [2, 2]
