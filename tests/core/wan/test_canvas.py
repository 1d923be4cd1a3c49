"""Masks and the embedding picture are tested here, packing against the golden in
tests/benchmarks/test_fidelity.py."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from egox_core.sizes import latent_frames, latent_size
from egox_core.types import Canvas
from egox_core.wan.canvas import build_mask, check_pictures, widen
from egox_core.wan.vision import embedding_picture
from tests.refusals import refuses

T, H, W_EXO, W_EGO = 3, 14, 24, 14


@pytest.fixture(scope="module")
def golden(repo_root, device):
    return load_file(repo_root / "tests/golden/pack_mask.safetensors", str(device))


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(
        exo_latent=torch.zeros(1, 16, T, H, W_EXO),
        prior_latent=torch.zeros(1, 16, T, H, W_EGO),
        frames=9,
        exo_size=(W_EXO * 8, H * 8),
        ego_size=(W_EGO * 8, H * 8),
    )


def test_widen_makes_the_same_input_from_the_half_that_the_host_holds(golden):
    full = golden["out.model_input_36ch"]
    ego = full[..., W_EXO:]
    batch = torch.cat((ego, ego))  # cond and uncond stacked
    exo = full[:, :16][..., :W_EXO], full[:, 16:20][..., :W_EXO]
    assert torch.equal(widen(batch, *exo), torch.cat((full, full)))
    assert widen(batch.bfloat16(), *exo).dtype == torch.bfloat16


def test_mask_modes_differ_as_quirks_say(golden):
    released = golden["out.mask_4ch"].cpu()
    paper = build_mask("paper", T, H, W_EXO, W_EGO)
    assert paper[..., :W_EXO].all() and not paper[..., W_EXO:].any()
    extra = build_mask("trainer", T, H, W_EXO, W_EGO) - released
    assert extra[:, 3, -1, :, :W_EXO].all() and extra.sum() == H * W_EXO
    with refuses("mask mode"):
        build_mask("everything", T, H, W_EXO, W_EGO)


def test_embedding_pictures_of_each_mode():
    exo, prior = torch.rand(1, 16, 24, 3), torch.rand(1, 16, 16, 3)
    assert embedding_picture("none", exo_frame=exo, prior_frame=prior) is None
    assert torch.equal(embedding_picture("exo only", exo_frame=exo, prior_frame=prior), exo)
    assert torch.equal(
        embedding_picture("exo+prior", exo_frame=exo, prior_frame=prior), torch.cat((exo, prior), 2)
    )
    with refuses("noise_seed"):
        embedding_picture("released", exo_frame=exo, prior_frame=prior)
    with refuses("image embedding"):
        embedding_picture("both", exo_frame=exo, prior_frame=prior)


def test_sizes_that_a_model_can_take():
    assert latent_frames(49) == 13 and latent_frames(1) == 1
    assert latent_size(784, 448) == (98, 56)
    with refuses("use 49 frames"):
        latent_frames(50)
    with refuses("use 784x448"):
        latent_size(780, 448)


@pytest.mark.parametrize(
    ("frames", "width", "prior", "words"),
    [
        (9, 64, (13, 32), None),
        (8, 64, (9, 32), "4n\\+1"),
        (9, 60, (9, 32), "multiples of 16"),
        (9, 64, (5, 32), "ego prior length"),
        (9, 64, (9, 48), "ego height"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_and_a_longer_prior_is_cut(
    frames, width, prior, words
):
    count, height = prior
    pictures = torch.rand(frames, 32, width, 3), torch.rand(count, height, height, 3)
    with refuses(words) if words else nullcontext():
        frames, cut = check_pictures(*pictures)
        assert frames == len(cut) == 9


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": 13}, "exo latent"),
        ({"exo_latent": torch.zeros(1, 16, T, H, W_EXO + 2)}, "exo latent"),
        ({"prior_latent": torch.zeros(1, 16, T, H, W_EGO + 2)}, "prior latent"),
        ({"ego_size": (W_EGO * 8, H * 8 + 16)}, "ego height"),
        ({"exo_size": (W_EXO * 8 + 8, H * 8)}, "exo size"),
        ({"mask_mode": "auto"}, "mask mode"),
    ],
)
def test_canvas_that_does_not_fit_is_refused(canvas, change, message):
    with refuses(message):
        replace(canvas, **change)


def test_latent_of_another_canvas_is_refused(canvas):
    canvas.check_sampled(torch.zeros(1, 16, T, H, W_EGO))
    with refuses("latent to sample"):
        canvas.check_sampled(torch.zeros(1, 16, T + 1, H, W_EGO))
    with refuses("exo latent of the canvas"):
        widen(
            torch.zeros(1, 36, T + 1, H, W_EGO), canvas.exo_latent, torch.zeros(1, 4, T, H, W_EXO)
        )
    with refuses("36 channels"):
        widen(torch.zeros(1, 16, T, H, W_EGO), canvas.exo_latent, torch.zeros(1, 4, T, H, W_EXO))
