"""Several exo views and rays in the trainer: one view is EgoX to the bit, the order of views tells nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("pydantic")

from egox_core.gga.diffusers_processor import install_gga  # noqa: E402
from egox_core.gga.geometry import tokens_from_latents  # noqa: E402
from egox_core.sizes import RAY_CHANNELS  # noqa: E402
from egox_core.train.config import ConditioningConfig  # noqa: E402
from egox_core.train.loss import flow_loss  # noqa: E402
from egox_core.train.samples import TrainSample, collate  # noqa: E402
from egox_core.train.sampling import sample_ego  # noqa: E402
from egox_core.types import GgaGeometry, Panels  # noqa: E402
from egox_core.wan.diffusers_tokens import install_tokens  # noqa: E402
from egox_core.wan.panels import join_geometries, place_views  # noqa: E402
from egox_core.wan.pose_injection import PoseInjection  # noqa: E402

T, H, W_EXO, W_EGO = 2, 4, 8, 4  # latents
GUIDED, PLAIN = ConditioningConfig(), ConditioningConfig(gga_mode="off")


def model_of(seed: int = 0):
    from diffusers import WanTransformer3DModel

    torch.manual_seed(seed)
    return WanTransformer3DModel(num_attention_heads=2, attention_head_dim=24, in_channels=36, out_channels=16,
                                 text_dim=24, freq_dim=32, ffn_dim=64, num_layers=2).eval()


def geometry_of(seed: int) -> GgaGeometry:
    draw = torch.Generator().manual_seed(seed)
    unit = torch.nn.functional.normalize
    ego = torch.Generator().manual_seed(99)
    return tokens_from_latents(unit(torch.randn(T, T, H, W_EXO, 3, generator=draw), dim=-1),
                               unit(torch.randn(T, H, W_EGO, 3, generator=ego), dim=-1))


def sample_of(order: list[int], layout: str = "full") -> TrainSample:
    """A clip of these views in this order; in a mosaic a view is half as high and wide. The rays are drawn, too."""
    draw, panels = torch.Generator().manual_seed(7), Panels(views=len(order), layout=layout)
    size = (H, W_EXO) if layout == "full" else (H // 2, W_EXO // 2)
    views, maps = [], []
    for seed in order:
        of_view = torch.Generator().manual_seed(100 + seed)
        views.append(torch.randn(1, 16, T, *size, generator=of_view))
        maps.append(torch.randn(RAY_CHANNELS, T, size[0] // 2, size[1] // 2, generator=of_view))
    ego, prior = torch.randn(2, 1, 16, T, H, W_EGO, generator=draw)
    rays = torch.cat((place_views(maps, panels), torch.randn(RAY_CHANNELS, T, 2, 2, generator=draw)), dim=-1)
    return TrainSample(clips=("clip",), exo=place_views(views, panels), ego=ego, cond_ego=prior, panels=panels,
                       text=torch.randn(1, 4, 24, generator=draw), rays=rays.movedim(0, -1)[None],
                       geometry=(join_geometries([geometry_of(seed) for seed in order], panels),))


def answers(model, sample: TrainSample, conditioning: ConditioningConfig, scope, tokens=None) -> list[torch.Tensor]:
    """The prediction of a training step, and a sampled latent."""
    noise = torch.randn(1, 16, T, H, W_EGO, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        step = flow_loss(model, scope, sample, noise, torch.tensor([0.6]), conditioning, tokens)
    return [step.prediction, sample_ego(model, scope, sample, conditioning, steps=3, tokens=tokens)]


@pytest.mark.parametrize("conditioning", [GUIDED, PLAIN], ids=["gga", "no gga"])
def test_one_view_is_egox(conditioning: ConditioningConfig) -> None:
    """Also by our own positions, which are there for any panels but EgoX's."""
    sample = sample_of([0])
    model = model_of()
    scope = install_gga(model)
    expected = answers(model, sample, conditioning, scope)
    tokens = install_tokens(model)
    for got, wanted in zip(answers(model, sample, conditioning, scope, tokens), expected, strict=True):
        assert torch.equal(got, wanted)
    tokens.set(sample.panels, sample.grid)
    plain = model.rope(torch.zeros(1, 36, T, H, W_EXO + W_EGO))
    tokens.set(Panels(views=2), (T, H, 2 * W_EXO, W_EGO))
    own = model.rope(torch.zeros(1, 36, T, H, 2 * W_EXO + W_EGO))
    for table, wanted in zip(own, plain, strict=True):
        table, wanted = (x.view(T, H // 2, -1, x.shape[-1]) for x in (table, wanted))
        assert torch.equal(table[:, :, W_EXO // 2:], wanted) and torch.equal(table[:, :, :W_EXO // 2],
                                                                             wanted[:, :, :W_EXO // 2])


@pytest.mark.parametrize("conditioning", [GUIDED, PLAIN], ids=["gga", "no gga"])
@pytest.mark.parametrize("layout", ["full", "mosaic"])
def test_the_order_of_views_tells_nothing(layout: str, conditioning: ConditioningConfig) -> None:
    model = model_of()
    scope = install_gga(model)
    tokens = install_tokens(model, pose := PoseInjection(48, hidden=16))
    torch.nn.init.normal_(pose.outer.weight, std=0.3)
    first, other, swapped = (answers(model, sample_of(order, layout), conditioning, scope, tokens)
                             for order in ([0, 1, 2, 3], [2, 0, 3, 1], [0, 1, 2, 2]))
    for got, wanted, changed in zip(other, first, swapped, strict=True):
        assert (got - wanted).abs().max() < 1e-4  # float32 sums over tokens in another order
        assert (changed - wanted).abs().max() > 1e-3, "what the views show counts"


@pytest.mark.parametrize("blocks", [1, 2])
def test_untrained_rays_change_nothing_and_learn(blocks: int) -> None:
    sample, noise = sample_of([0, 1]), torch.randn(1, 16, T, H, W_EGO)
    model = model_of()
    scope = install_gga(model)
    expected = answers(model, sample, GUIDED, scope, install_tokens(model))
    model = model_of()
    scope = install_gga(model)
    tokens = install_tokens(model, pose := PoseInjection(48, hidden=16, blocks=blocks))
    for got, wanted in zip(answers(model, sample, GUIDED, scope, tokens), expected, strict=True):
        assert torch.equal(got, wanted)
    assert {"egox_pose.inner.weight", "egox_pose.outer.weight"} <= set(model.state_dict())
    optimizer = torch.optim.SGD(pose.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loss = flow_loss(model, scope, sample, noise, torch.tensor([0.6]), GUIDED, tokens).loss
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        assert all(layer.weight.grad.abs().max() > 0 for layer in (pose.outer, *pose.deeper))
        optimizer.step()
    assert losses[2] < losses[0]
    with pytest.raises(ValueError, match="rays of the sample"):
        flow_loss(model, scope, replace(sample, rays=None), noise, torch.tensor([0.6]), GUIDED, tokens)


def test_a_batch_holds_one_layout_and_its_rays() -> None:
    full, mosaic = sample_of([0]), sample_of([0, 1, 2, 3], "mosaic")
    assert full.grid == mosaic.grid
    with pytest.raises(ValueError, match="one size"):
        collate([full, mosaic])
    both = collate([full, full])
    assert both.rays.shape == (2, T, H // 2, (W_EXO + W_EGO) // 2, RAY_CHANNELS) and both.panels == Panels()
    assert both.to("cpu", torch.bfloat16).rays.dtype == torch.float32
