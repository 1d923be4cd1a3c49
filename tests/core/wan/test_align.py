"""The expected ego latent: sure of nothing at first, the same in any order of views, learns; and its file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_core.errors import EgoXInputError
from egox_core.sizes import RAY_CHANNELS
from egox_core.types import Panels
from egox_core.wan.align import AlignPrediction, AlignSize, ExoEgoAlign, align_losses, expected_prior
from egox_core.wan.method_file import METHOD, join_method, split_method
from egox_core.wan.panels import place_views
from egox_core.wan.pose_injection import PoseInjection

T, H, W, W_EGO = 2, 4, 6, 4  # latents
SMALL = AlignSize(width=64, layers=2)


def canvas_of(order: list[int], blank_from: int = 9, spoil: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Exo half and rays of these views; those from ``blank_from`` on look nowhere."""
    panels, latents, maps = Panels(views=len(order)), [], []
    for view in order:
        draw = torch.Generator().manual_seed(view)
        latents.append(torch.randn(2, 16, T, H, W, generator=draw) + (spoil if view >= blank_from else 0.0))
        rays = torch.randn(2, RAY_CHANNELS, T, H // 2, W // 2, generator=draw)
        maps.append(torch.zeros_like(rays) if view >= blank_from else rays)
    ego = torch.randn(2, RAY_CHANNELS, T, H // 2, W_EGO // 2, generator=torch.Generator().manual_seed(77))
    return place_views(latents, panels), torch.cat((place_views(maps, panels), ego), dim=-1).movedim(1, -1)


def trained(seed: int = 0) -> ExoEgoAlign:
    """With a last layer that isn't zero."""
    torch.manual_seed(seed)
    align = ExoEgoAlign(SMALL)
    torch.nn.init.normal_(align.out.weight, std=0.2)
    return align


def test_at_first_it_is_sure_of_nothing() -> None:
    prediction = ExoEgoAlign(SMALL)(*canvas_of([0, 1]))
    assert prediction.latent.shape == (2, 16, T, H, W_EGO) and prediction.log_variance.shape == (2, T, 2, 2)
    assert not prediction.latent.any() and not prediction.confidence.any()
    grey = torch.randn(1, 16, T, H, W_EGO)
    assert torch.equal(expected_prior(prediction, grey), grey.expand(2, -1, -1, -1, -1))


@torch.no_grad()
def test_order_tells_nothing_and_every_frame_stands_alone() -> None:
    align = trained()
    exo, rays = canvas_of([0, 1, 2])
    first, other = align(exo, rays), align(*canvas_of([2, 0, 1]))
    assert torch.allclose(first.latent, other.latent, atol=1e-5) and first.latent.std() > 0.1
    assert torch.allclose(first.log_variance, other.log_variance, atol=1e-5)
    alone = align(exo[:, :, 1:], rays[:, 1:])
    assert torch.allclose(alone.latent[:, :, 0], first.latent[:, :, 1], atol=1e-5)
    assert not torch.allclose(align(*canvas_of([0, 1, 1])).latent, first.latent, atol=1e-2)


@torch.no_grad()
def test_what_looks_nowhere_is_not_read() -> None:
    align = trained()
    clean, spoilt = align(*canvas_of([0, 1], blank_from=1)), align(*canvas_of([0, 1], blank_from=1, spoil=9.0))
    assert torch.equal(clean.latent, spoilt.latent)
    assert torch.allclose(clean.latent, align(*canvas_of([0])).latent, atol=1e-5)


def test_unsure_places_fade_to_grey_and_later_frames_where_asked() -> None:
    latent, grey = torch.ones(1, 16, T, H, W_EGO), torch.zeros(1, 16, T, H, W_EGO)
    variance = torch.tensor([0.25, 1.0, 4.0, 0.0]).reshape(1, 1, 2, 2).expand(1, T, 2, 2)
    prediction = AlignPrediction(latent=latent, log_variance=variance.log())
    prior = expected_prior(prediction, grey)
    assert torch.allclose(prior[0, 3, 1, ::2, ::2], torch.tensor([[0.75, 0.0], [0.0, 1.0]]))
    assert torch.equal(prior[..., ::2, ::2], prior[..., 1::2, 1::2]), "a token's four latents alike"
    first = expected_prior(prediction, grey, "first")
    assert torch.equal(first[:, :, 0], prior[:, :, 0]) and not first[:, :, 1:].any()
    with pytest.raises(EgoXInputError, match="frames of the alignment"):
        expected_prior(prediction, grey, "last")


def test_the_loss_is_the_likelihoods_and_falls() -> None:
    torch.manual_seed(0)
    exo, rays = canvas_of([0, 1])
    truth = 0.8 * exo[..., :W_EGO]
    align = ExoEgoAlign(SMALL)
    with torch.no_grad():
        prediction = align(exo, rays)
    normal = torch.distributions.Normal(prediction.latent, 1.0)
    expected = -normal.log_prob(truth).mean() - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    assert float(align_losses(prediction, truth).mean()) == pytest.approx(float(expected), abs=1e-5)
    optimizer = torch.optim.Adam(align.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = align_losses(align(exo, rays), truth).mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.1
    assert align(exo, rays).confidence.mean() > 0.1, "what is learnt is told as sure"


def test_a_file_holds_all_three(tmp_path) -> None:
    lora = {"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(4, 8),
            "transformer.blocks.0.attn1.to_q.lora_B.weight": torch.ones(8, 4)}
    pose, align = PoseInjection(8, hidden=16), trained()
    torch.nn.init.normal_(pose.outer.weight)
    save_file(join_method(lora, pose, align), tmp_path / "method.safetensors", metadata=METHOD)
    parts = split_method(load_file(tmp_path / "method.safetensors"))
    assert parts.lora.keys() == lora.keys()
    canvas = canvas_of([0])
    with torch.no_grad():
        assert torch.allclose(parts.align(*canvas).latent, align(*canvas).latent, atol=1e-5)
        assert torch.allclose(parts.pose(canvas[1]), pose(canvas[1]), atol=1e-5)
    plain = split_method(lora)
    assert plain.pose is None and plain.align is None and plain.lora == lora
    state = join_method(lora, pose, align)
    for broken in ("egox_align.blocks.1.qkv.bias", "egox_align.norm.weight", "egox_pose.inner.bias"):
        with pytest.raises(EgoXInputError, match="of the LoRA's file"):
            split_method({name: tensor for name, tensor in state.items() if name != broken})
