"""Ray casting against independent answers: marching by distance, brute force, supersampling."""

import pytest
import torch

from egox_core.trajectory.poses import camera_centre
from lab.drawn import SyntheticSpec
from lab.drawn.casting import Bounds, RayBundle, first_hits, tile_picture, visible_tiles
from lab.drawn.layout import draw_layout
from lab.drawn.solids import distance, intersect, normals

SIZES = {
    "box": (0.3, 0.2, 0.1),
    "sphere": (0.25, 0.0, 0.0),
    "capsule": (0.1, 0.3, 0.0),
    "cylinder": (0.2, 0.15, 0.0),
}


def _rays(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Origins on a sphere of 1.5 m, rays towards points near the middle; float64."""
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


@pytest.mark.parametrize("frames", [[1], [0, 1]])
def test_tiles_never_lose_a_hit(frames):
    """The culled cast is the plain one, which tries every solid on every ray; so is that of several
    frames at once."""
    scene = draw_layout(
        SyntheticSpec(seed=4, frames=2, exo_width=112, exo_height=64, ego_size=64)
    ).scene
    indices = scene.indices(head=False)
    poses = scene.world_from_solid[frames]
    for camera, w2c in (
        (scene.exo_camera, scene.exo_w2c.expand(2, 3, 4)),
        (scene.ego_camera, scene.ego_w2c),
    ):
        rays_cam = camera.pixel_rays()[0]
        tiling = tile_picture(rays_cam)
        rotation, origin = w2c[frames][..., :3].float(), camera_centre(w2c[frames]).float()
        rays = (rays_cam.reshape(-1, 3) @ rotation).reshape(-1, 3)
        count = len(tiling.of_pixel)
        frame = torch.arange(len(frames)).repeat_interleave(count)
        visible = visible_tiles(tiling, rotation, origin, Bounds.of(scene.solids, indices), poses)
        assert visible.float().mean() < 0.5
        together = RayBundle(
            rays=rays, origin=origin, frame=frame if len(frames) > 1 else None, poses=poses
        )
        tile_of_ray = tiling.of_pixel.repeat(len(frames)) + frame * len(tiling.axes)
        fast = first_hits(scene.solids, indices, together, tile_of_ray, visible)
        alone = [
            first_hits(
                scene.solids,
                indices,
                RayBundle(rays=rays[frame == f], origin=origin[[f]], frame=None, poses=poses[[f]]),
            )
            for f in range(len(frames))
        ]
        assert (fast[1] == torch.cat([index for _, index in alone])).float().mean() > 0.9999
        # Only the order of float32 sums differs (matrix products of other shapes): a few last
        # digits.
        close = torch.isclose(
            fast[0], torch.cat([depth for depth, _ in alone]), rtol=1e-5, atol=1e-5
        )
        assert close.float().mean() > 0.9999
