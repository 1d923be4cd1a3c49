"""Test the ray casting of solids against slower reference methods."""

import pytest
import torch

from lab.drawn import SyntheticSpec
from lab.drawn.layout import draw_layout
from lab.drawn.solids import distance, intersect
from lab.drawn.views import Renderer

SIZES = {
    "box": (0.3, 0.2, 0.1),
    "sphere": (0.25, 0.0, 0.0),
    "capsule": (0.1, 0.3, 0.0),
    "cylinder": (0.2, 0.15, 0.0),
}


def _rays(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw ray origins on a sphere of 1.5 m and rays that point near its centre."""
    generator = torch.Generator().manual_seed(seed)
    origin = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    origin = 1.5 * torch.nn.functional.normalize(origin, dim=-1)
    target = 0.35 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return origin, torch.nn.functional.normalize(target - origin, dim=-1)


@pytest.mark.parametrize("kind", SIZES)
def test_closed_form_hits_equal_marching_by_distance(kind):
    origin, rays = _rays(3000, 1)
    hit_depth = intersect(kind, SIZES[kind], origin, rays)
    marched_depth = torch.zeros(len(rays), dtype=torch.float64)
    for _ in range(400):
        marched_depth = marched_depth + distance(
            kind, SIZES[kind], origin + marched_depth[:, None] * rays
        )
    remaining = distance(kind, SIZES[kind], origin + marched_depth[:, None] * rays)
    hit_mask = torch.isfinite(hit_depth)
    assert 0.1 < hit_mask.double().mean() < 0.9
    assert (
        remaining[hit_mask].max() < 1e-3
    )  # marching stalls near grazing rays, which is why it is only the judge
    clear_hits = hit_mask & (remaining < 1e-9)
    assert clear_hits.sum() > 0.9 * hit_mask.sum()
    assert (hit_depth - marched_depth)[clear_hits].abs().max() < 1e-5
    assert (marched_depth[~hit_mask] > 1.0).all() and (remaining[~hit_mask] > 0).all()


def test_tiles_never_lose_a_hit():
    """Check that ray casting by tiles finds the same hits as testing every solid for every ray."""
    spec = SyntheticSpec(seed=4, frames=2, exo_width=112, exo_height=64, ego_size=64)
    drawn_scene = draw_layout(spec).scene
    solid_indices = drawn_scene.indices(head=False)
    for camera in (drawn_scene.exo, drawn_scene.ego):
        renderer = Renderer(drawn_scene, camera, {}, edge_samples=1)
        culled_view, plain_views = renderer.cast_rays([0, 1], solid_indices), []
        for frame in (0, 1):
            visible_tiles = renderer.visible([frame], solid_indices)
            assert visible_tiles.float().mean() < 0.5
            plain_views.append(
                renderer.cast_rays([frame], solid_indices, tile_mask=torch.ones_like(visible_tiles))
            )
        plain_index = torch.cat([view.index for view in plain_views])
        assert (culled_view.index == plain_index).float().mean() > 0.9999
        # Only the order of float32 sums differs (matrix products of other shapes): a few last
        # digits.
        plain_depth = torch.cat([view.ray_depth for view in plain_views])
        equal_depths = torch.isclose(culled_view.ray_depth, plain_depth, rtol=1e-5, atol=1e-5)
        assert equal_depths.float().mean() > 0.9999
