"""Compare ray casting with marching by distance, brute force and supersampling."""

import pytest
import torch

from lab.drawn import SyntheticSpec
from lab.drawn.layout import draw_layout
from lab.drawn.solids import distance, intersect, normals
from lab.drawn.views import Renderer

SIZES = {
    "box": (0.3, 0.2, 0.1),
    "sphere": (0.25, 0.0, 0.0),
    "capsule": (0.1, 0.3, 0.0),
    "cylinder": (0.2, 0.15, 0.0),
}


def _rays(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw origins on a sphere of 1.5 m, with rays towards its middle."""
    generator = torch.Generator().manual_seed(seed)
    origin = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    origin = 1.5 * torch.nn.functional.normalize(origin, dim=-1)
    target = 0.35 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return origin, torch.nn.functional.normalize(target - origin, dim=-1)


@pytest.mark.parametrize("kind", SIZES)
def test_closed_form_hits_equal_marching_by_distance(kind):
    origin, rays = _rays(3000, 1)
    depth = intersect(kind, SIZES[kind], origin, rays)
    marched = torch.zeros(len(rays), dtype=torch.float64)
    for _ in range(400):
        marched = marched + distance(kind, SIZES[kind], origin + marched[:, None] * rays)
    remaining = distance(kind, SIZES[kind], origin + marched[:, None] * rays)
    hit = torch.isfinite(depth)
    assert 0.1 < hit.double().mean() < 0.9
    assert (
        remaining[hit].max() < 1e-3
    )  # marching stalls near grazing rays, which is why it is only the judge
    clear = hit & (remaining < 1e-9)
    assert clear.sum() > 0.9 * hit.sum()
    assert (depth - marched)[clear].abs().max() < 1e-5
    assert (marched[~hit] > 1.0).all() and (remaining[~hit] > 0).all()


@pytest.mark.parametrize("kind", SIZES)
def test_normals_point_up_the_distance(kind):
    origin, rays = _rays(2000, 2)
    depth = intersect(kind, SIZES[kind], origin, rays)
    points = (origin + depth[:, None] * rays)[torch.isfinite(depth)]
    normal = normals(kind, SIZES[kind], points)
    assert torch.allclose(
        normal.norm(dim=-1), torch.ones(len(points), dtype=torch.float64), atol=1e-9
    )
    assert (distance(kind, SIZES[kind], points + 0.01 * normal) - 0.01).abs().max() < 1e-6


def test_a_ray_that_starts_inside_meets_nothing():
    rays = _rays(50, 3)[1]
    for kind, size in SIZES.items():
        assert torch.isinf(intersect(kind, size, torch.zeros(3, dtype=torch.float64), rays)).all()


def test_tiles_never_lose_a_hit():
    """Compare the culled cast with one that tries every solid on every ray."""
    spec = SyntheticSpec(seed=4, frames=2, exo_width=112, exo_height=64, ego_size=64)
    scene = draw_layout(spec).scene
    indices = scene.indices(head=False)
    for camera in (scene.exo, scene.ego):
        renderer = Renderer(scene, camera, {}, edge_samples=1)
        fast, plain = renderer.cast([0, 1], indices), []
        for frame in (0, 1):
            visible = renderer.visible([frame], indices)
            assert visible.float().mean() < 0.5
            plain.append(renderer.cast([frame], indices, tile_mask=torch.ones_like(visible)))
        index = torch.cat([view.index for view in plain])
        assert (fast.index == index).float().mean() > 0.9999
        # Only the order of float32 sums differs (matrix products of other shapes): a few last
        # digits.
        depth = torch.cat([view.ray_depth for view in plain])
        close = torch.isclose(fast.ray_depth, depth, rtol=1e-5, atol=1e-5)
        assert close.float().mean() > 0.9999
