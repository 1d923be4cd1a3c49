"""Test taking the released weights' tint back."""

import pytest
import torch

from egox_core.video.tint import LUMA, RELEASED_TINT, Tint, recolour
from tests.refusals import refuses


def test_the_tint_goes_with_luma_kept_and_near_white_stays():
    torch.manual_seed(0)
    video = torch.rand(3, 8, 8, 3) * 0.5
    untinted = recolour(video, "tint")
    luma = torch.tensor(LUMA)
    assert torch.allclose(untinted @ luma, video @ luma, atol=1e-3)
    assert (untinted[..., 2] - video[..., 2]).mean() < -0.01
    near_white = torch.rand(1, 4, 4, 3) * 0.1 + 0.88
    assert torch.equal(recolour(near_white, "tint"), near_white)
    assert recolour(video, "as drawn") is video


def test_as_exo_brings_the_white_to_exos():
    exo = torch.full((2, 4, 4, 3), 0.4) * torch.tensor([1.2, 1.0, 0.7])
    video = torch.full((2, 6, 6, 3), 0.4) * torch.tensor([1.0, 1.0, 1.3])
    matched = recolour(video, "as exo", exo).mean((0, 1, 2))
    assert matched[0] / matched[2] == pytest.approx(1.2 / 0.7, rel=0.3)
    with refuses("without the exo video"):
        recolour(video, "as exo")
    with refuses("colour"):
        recolour(video, "red")  # ty: ignore[invalid-argument-type]


def test_gains_are_found_again_and_kept_as_text():
    true_means = torch.rand(9, 3, dtype=torch.float64) * 0.4 + 0.2
    gains = torch.tensor(RELEASED_TINT.gains, dtype=torch.float64)
    fitted = Tint.fit(true_means / gains, true_means, sites=2)
    assert fitted.gains == pytest.approx(RELEASED_TINT.gains)
    assert Tint.of(fitted.text()) == fitted
    assert "not measured for" in fitted.words("LoRA a at strength 0.8")
    for loras in ("LoRA a at strength 1", "LoRA in its file: base + 1 x a"):
        assert "not measured" not in fitted.words(loras)
        assert RELEASED_TINT.words(loras).endswith("if this is the released LoRA")
    with refuses("fit them again"):
        Tint.of('{"gains": [1, 2]}')
