"""Rays of tokens: against a plain loop, over lenses, and cameras that look at one thing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel, project, rescale
from egox_core.cameras.presets import preset_camera
from egox_core.errors import EgoXInputError
from egox_core.sizes import RAY_CHANNELS
from egox_core.trajectory.poses import camera_centre, compose, invert, look_at, transform
from egox_core.types import CameraTrajectory, Panels
from egox_core.wan.token_rays import canvas_rays, lines_at, token_rays
from lab.drawn import SyntheticSpec
from lab.drawn.layout import draw_layout

PINHOLE = CameraModel(lens="pinhole", width=64, height=32, fx=50.0, fy=50.0, cx=31.5, cy=15.5)
FISHEYE = CameraModel(lens="opencv_fisheye", width=64, height=32, fx=25.0, fy=25.0, cx=31.5, cy=15.5,
                      distortion=(0.03, 0.05, -0.05, 0.02))
FRAMES = 5


def path(seed: int) -> torch.Tensor:  # [FRAMES, 3, 4]
    draw = torch.Generator().manual_seed(seed)
    places = torch.randn(FRAMES, 3, generator=draw, dtype=torch.float64)
    return torch.stack([look_at(place, place + torch.tensor([0.3, 0.1, 1.0])) for place in places])


def plain_rays(camera: CameraModel, camera_from_frame: torch.Tensor, frames: int) -> torch.Tensor:
    """Token by token: the point a metre along the ray is one that the camera shows in the token's middle."""
    width, height = camera.stored_size
    t, h, w = (frames - 1) // 4 + 1, height // 16, width // 16
    out = torch.zeros(t, h, w, 24)
    for latent in range(t):
        for part in range(4):
            pose = camera_from_frame[max(0, 4 * latent - 3 + part)]
            frame_from_camera = invert(pose)
            for row in range(h):
                for column in range(w):
                    uv = torch.tensor([16 * column + 7.5, 16 * row + 7.5], dtype=torch.float64)
                    direction, moment = lines_at(camera, pose, uv)
                    centre = frame_from_camera[:, 3]
                    shown, valid = project(camera, transform(pose, (centre + direction)[None]))
                    assert not bool(valid) or torch.allclose(shown[0], uv, atol=1e-6)
                    x, y, z = centre.tolist()
                    a, b, c = direction.tolist()
                    assert torch.allclose(moment, moment.new_tensor((y * c - z * b, z * a - x * c, x * b - y * a)))
                    told = moment / (1 + moment.norm())
                    out[latent, row, column, 6 * part:6 * part + 6] = torch.cat((direction, told)).float()
    return out


@pytest.mark.parametrize("camera", [PINHOLE, FISHEYE, preset_camera("aria_released", 64)], ids=lambda c: c.lens)
def test_rays_equal_a_plain_loop(camera: CameraModel) -> None:
    poses = path(1)
    # float32 of numbers up to 1
    assert torch.allclose(token_rays(camera, poses, FRAMES), plain_rays(camera, poses, FRAMES), atol=1e-6)
    still = token_rays(camera, poses[0], FRAMES)
    assert torch.equal(still, token_rays(camera, poses[:1].expand(FRAMES, 3, 4), FRAMES))
    assert torch.equal(token_rays(camera, torch.cat((poses, poses)), FRAMES), token_rays(camera, poses, FRAMES))


def test_where_the_lens_sees_nothing_there_is_no_ray() -> None:
    narrow = replace(PINHOLE, max_angle_deg=20.0)
    rays = token_rays(narrow, path(2)[0], 1).view(1, 2, 4, 4, 6)
    lengths = rays[..., :3].norm(dim=-1)
    assert bool((rays[lengths == 0] == 0).all()) and 0 < int((lengths == 0).sum()) < lengths.numel()
    assert torch.allclose(lengths[lengths > 0], torch.ones(()))


def test_rays_of_a_canvas_are_in_the_first_ego_cameras_frame() -> None:
    """Whatever the world's axes; the first picture's ego rays pass through the origin."""
    ego_w2c, exo = path(3), [(PINHOLE, path(4)), (FISHEYE, path(5)[0])]
    ego = CameraTrajectory(w2c=ego_w2c, camera=preset_camera("aria_released", 32), times_s=torch.arange(5).double())
    rays = canvas_rays(exo, ego, Panels(views=2), FRAMES)
    assert rays.shape == (2, 2, 10, RAY_CHANNELS)
    assert bool((rays[:, :, :8, -1] == 0).all()) and bool((rays[:, :, 8:, -1] == 1).all())
    moments = rays[..., :-1].unflatten(-1, (4, 6))[..., 3:]
    assert float(moments[0, :, 8:].abs().max()) < 1e-6 and float(moments[1, :, 8:].abs().max()) > 0.01
    turn = look_at((3.0, -1.0, 2.0), (0.0, 0.5, 0.0))  # another world
    moved = [(camera, compose(w2c, invert(turn))) for camera, w2c in exo]
    other = canvas_rays(moved, replace(ego, w2c=compose(ego_w2c, invert(turn))), Panels(views=2), FRAMES)
    assert torch.allclose(rays, other, atol=1e-5)
    small = [(rescale(camera, 32, 16), w2c) for camera, w2c in (*exo, exo[0])]
    mosaic = canvas_rays(small, ego, Panels(views=3, layout="mosaic"), FRAMES)
    assert mosaic.shape == (2, 2, 6, RAY_CHANNELS) and not mosaic[:, 1:, 2:4].any(), "nothing looks from an empty tile"
    assert torch.equal(mosaic[:, :, 4:], rays[:, :, 8:])


def test_what_fits_no_canvas_is_refused() -> None:
    with pytest.raises(EgoXInputError, match="multiples of 16"):
        token_rays(replace(PINHOLE, width=60), path(0), FRAMES)
    with pytest.raises(EgoXInputError, match="5 frames"):
        token_rays(PINHOLE, path(0)[:3], FRAMES)
    ego = CameraTrajectory(w2c=path(3), camera=preset_camera("aria_released", 64), times_s=torch.arange(5).double())
    with pytest.raises(EgoXInputError, match="4, as the ego half"):
        canvas_rays([(PINHOLE, path(1))], ego, Panels(), FRAMES)


def meeting_point(directions: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:  # [N, 3] each -> [3]
    """The point nearest to all lines: each has its own point d x m nearest to the origin."""
    feet = torch.linalg.cross(directions, moments)
    across = torch.eye(3, dtype=directions.dtype) - directions[:, :, None] * directions[:, None, :]
    return torch.linalg.solve(across.sum(0), (across @ feet[..., None]).sum(0))[:, 0]


def test_rays_of_drawn_cameras_meet_where_they_look() -> None:
    scene = draw_layout(SyntheticSpec(seed=1, frames=1, exo_views=4, exo_width=112, exo_height=64)).scene
    head = camera_centre(scene.ego_w2c[0])
    frame_from_world = scene.ego_w2c[0]
    lines = []
    for camera, w2c in scene.exo_cameras:
        uv, _ = project(camera, transform(w2c, head[None]))
        lines.append(lines_at(camera, compose(w2c, invert(frame_from_world)), uv[0]))
    directions, moments = (torch.stack(of_all) for of_all in zip(*lines, strict=True))
    assert float(meeting_point(directions, moments).norm()) < 1e-9, "the wearer's camera is the frame's origin"
