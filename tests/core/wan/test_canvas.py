"""Test the canvas of a denoising step: masks, embedding pictures, sizes and refused input."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from egox_core.types import Canvas
from egox_core.wan.canvas import build_mask, check_pictures, widen
from egox_core.wan.vision import embedding_picture
from tests.refusals import refuses

LATENT_FRAMES, LATENT_HEIGHT, W_EXO, W_EGO = 3, 14, 24, 14


@pytest.fixture(scope="module")
def golden(repo_root, device):
    return load_file(repo_root / "tests/golden/pack_mask.safetensors", str(device))


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(
        exo_latent=torch.zeros(1, 16, LATENT_FRAMES, LATENT_HEIGHT, W_EXO),
        prior_latent=torch.zeros(1, 16, LATENT_FRAMES, LATENT_HEIGHT, W_EGO),
        frames=9,
        exo_size=(W_EXO * 8, LATENT_HEIGHT * 8),
        ego_size=(W_EGO * 8, LATENT_HEIGHT * 8),
    )


def test_widened_ego_half_equals_the_golden_model_input(golden):
    golden_input = golden["out.model_input_36ch"]
    ego_input = golden_input[..., W_EXO:]
    stacked_ego = torch.cat((ego_input, ego_input))  # cond and uncond stacked
    exo_latent_and_mask = golden_input[:, :16][..., :W_EXO], golden_input[:, 16:20][..., :W_EXO]
    assert torch.equal(
        widen(stacked_ego, *exo_latent_and_mask), torch.cat((golden_input, golden_input))
    )
    assert widen(stacked_ego.bfloat16(), *exo_latent_and_mask).dtype == torch.bfloat16


def test_mask_modes_differ_as_documented(golden):
    released_mask = golden["out.mask_4ch"].cpu()
    paper_mask = build_mask("paper", LATENT_FRAMES, LATENT_HEIGHT, W_EXO, W_EGO)
    assert paper_mask[..., :W_EXO].all()
    assert not paper_mask[..., W_EXO:].any()
    extra_mask = build_mask("trainer", LATENT_FRAMES, LATENT_HEIGHT, W_EXO, W_EGO) - released_mask
    assert extra_mask[:, 3, -1, :, :W_EXO].all()
    assert extra_mask.sum() == LATENT_HEIGHT * W_EXO
    with refuses("mask mode"):
        build_mask("everything", LATENT_FRAMES, LATENT_HEIGHT, W_EXO, W_EGO)


def test_embedding_pictures_of_each_mode():
    exo_video, prior_video = torch.rand(1, 16, 24, 3), torch.rand(1, 16, 16, 3)
    assert embedding_picture("none", exo_frame=exo_video, prior_frame=prior_video) is None
    assert torch.equal(
        embedding_picture("exo only", exo_frame=exo_video, prior_frame=prior_video), exo_video
    )
    assert torch.equal(
        embedding_picture("exo+prior", exo_frame=exo_video, prior_frame=prior_video),
        torch.cat((exo_video, prior_video), 2),
    )
    with refuses("noise_seed"):
        embedding_picture("released", exo_frame=exo_video, prior_frame=prior_video)
    with refuses("image embedding"):
        embedding_picture("both", exo_frame=exo_video, prior_frame=prior_video)


@pytest.mark.parametrize(
    ("frames", "width", "prior_size", "message_pattern"),
    [
        (9, 64, (13, 32), None),
        (8, 64, (9, 32), "4n\\+1"),
        (9, 60, (9, 32), "multiples of 16"),
        (9, 64, (5, 32), "ego prior length"),
        (9, 64, (9, 48), "ego height"),
    ],
)
def test_unfitting_videos_are_refused_and_a_longer_prior_is_cut(
    frames, width, prior_size, message_pattern
):
    count, height = prior_size
    exo_and_prior = torch.rand(frames, 32, width, 3), torch.rand(count, height, height, 3)
    with refuses(message_pattern) if message_pattern else nullcontext():
        frames, shortened_prior = check_pictures(*exo_and_prior)
        assert frames == len(shortened_prior) == 9


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": 13}, "exo latent"),
        ({"exo_latent": torch.zeros(1, 16, LATENT_FRAMES, LATENT_HEIGHT, W_EXO + 2)}, "exo latent"),
        (
            {"prior_latent": torch.zeros(1, 16, LATENT_FRAMES, LATENT_HEIGHT, W_EGO + 2)},
            "prior latent",
        ),
        ({"ego_size": (W_EGO * 8, LATENT_HEIGHT * 8 + 16)}, "ego height"),
        ({"exo_size": (W_EXO * 8 + 8, LATENT_HEIGHT * 8)}, "exo size"),
        ({"mask_mode": "auto"}, "mask mode"),
    ],
)
def test_canvas_that_does_not_fit_is_refused(canvas, change, message):
    with refuses(message):
        replace(canvas, **change)


def test_latent_of_another_canvas_is_refused(canvas):
    canvas.check_sampled(torch.zeros(1, 16, LATENT_FRAMES, LATENT_HEIGHT, W_EGO))
    with refuses("latent to sample"):
        canvas.check_sampled(torch.zeros(1, 16, LATENT_FRAMES + 1, LATENT_HEIGHT, W_EGO))
    with refuses("exo latent of the canvas"):
        widen(
            torch.zeros(1, 36, LATENT_FRAMES + 1, LATENT_HEIGHT, W_EGO),
            canvas.exo_latent,
            torch.zeros(1, 4, LATENT_FRAMES, LATENT_HEIGHT, W_EXO),
        )
    with refuses("36 channels"):
        widen(
            torch.zeros(1, 16, LATENT_FRAMES, LATENT_HEIGHT, W_EGO),
            canvas.exo_latent,
            torch.zeros(1, 4, LATENT_FRAMES, LATENT_HEIGHT, W_EXO),
        )
