"""Test building a scene: fused background, moving points, masks and refused input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.scene.background import fuse_static, mean_background
from egox_core.scene.build import build_scene
from egox_core.scene.dynamic_mask import WARNING, derive_dynamic
from egox_core.scene.edges import depth_edge, depth_range, stray_step
from egox_core.scene.fusion import fuse_scenes
from egox_core.scene.surface import depth_steps
from egox_core.types import DepthVideo
from lab.drawn import SyntheticSpec, make_take
from tests.poses import replace_exo_pose, still_poses
from tests.refusals import refuses

HEIGHT, WIDTH, FRAME_COUNT = 48, 64, 12
CAMERA = CameraModel.pinhole(WIDTH, HEIGHT, 60.0)
PIXEL_X, PIXEL_Y = CAMERA.pixel_grid().unbind(-1)


def sliding_poses(metres: float) -> torch.Tensor:  # [T, 3, 4] float64
    """Build the poses of a camera that moves to its right at constant speed."""
    w2c = still_poses(FRAME_COUNT)
    w2c[:, 0, 3] = -torch.linspace(0, metres, FRAME_COUNT)
    return w2c


@pytest.fixture(scope="module")
def take():
    return make_take(
        SyntheticSpec(
            seed=1, frames=9, fps=3.5, exo_width=128, exo_height=80, ego_size=16, edge_samples=1
        )
    )


def draw_wall_with_ball(noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw frames, depth and moving-object mask of a ball that passes a slanted wall."""
    wall_depth = 4 + 0.01 * PIXEL_X
    wall_texture = torch.randint(60, 200, (HEIGHT, WIDTH, 3), dtype=torch.uint8)
    frames, depths, moving_masks = [], [], []
    for t in range(FRAME_COUNT):
        ball_mask = (PIXEL_X - 5 * t) ** 2 + (PIXEL_Y - 24) ** 2 < 64
        depth = torch.where(ball_mask, torch.full_like(wall_depth, 2.0), wall_depth)
        depths.append(depth * (1 + noise * torch.randn(HEIGHT, WIDTH)))
        frames.append(
            torch.where(
                ball_mask[..., None], torch.tensor([250, 10, 10], dtype=torch.uint8), wall_texture
            )
        )
        moving_masks.append(ball_mask)
    return torch.stack(frames), torch.stack(depths), torch.stack(moving_masks)


def test_mean_background_equals_the_released_renderers():
    """Check that the mean background equals a nanmean over frames without motion or depth edges."""
    frames, depth, moving_masks = draw_wall_with_ball(0.002)
    depth[3, 20, 20] = torch.nan
    mean_depth, mean_rgb = mean_background(frames, depth, lambda t: moving_masks[t])
    valid_mask = (
        torch.stack([depth_range(frame_depth) for frame_depth in depth]) < 0.1
    ) & ~moving_masks
    assert 0.5 < float(valid_mask.float().mean()) < 0.98, (
        "outlines of the ball and of the hole are left out"
    )
    expected_depth = torch.where(valid_mask, depth, torch.nan).nanmean(0)
    assert torch.allclose(mean_depth, expected_depth, atol=1e-5, equal_nan=True)
    expected_rgb = (frames * valid_mask[..., None]).sum(0) / valid_mask.sum(0).clamp_min(1)[
        ..., None
    ]
    assert float((mean_rgb - expected_rgb).abs().max()) <= 0.51


def test_depth_range_equals_the_released_filters():
    """Check that the local depth range equals the plain formula over 5 x 5 pixels."""
    depth = 2 + torch.rand(448, 12)
    depth[100:103, 4:6] = torch.nan
    zero_filled_depth = depth.nan_to_num(0.0).double().numpy()
    padded_depth, inside_mask = (
        np.pad(zero_filled_depth, 2),
        np.pad(np.ones(zero_filled_depth.shape, bool), 2),
    )
    expected_range = np.empty_like(zero_filled_depth)
    for v, u in np.ndindex(*zero_filled_depth.shape):
        window, window_mask = padded_depth[v : v + 5, u : u + 5], inside_mask[v : v + 5, u : u + 5]
        expected_range[v, u] = (
            window[window_mask].max() - window[window_mask].min()
        ) / window.mean()
    expected_range[depth.isnan().numpy()] = np.nan
    assert np.allclose(depth_range(depth).numpy(), expected_range, rtol=1e-4, equal_nan=True)


def test_scene_has_two_backgrounds_and_a_note_on_its_mask(take):
    masked_scene, derived_scene = (
        build_scene(take.exo_rgb, depth_video)
        for depth_video in (take.depth_video(), replace(take.depth_video(), dynamic=None))
    )
    assert WARNING in derived_scene.notes
    assert WARNING not in masked_scene.notes
    for scene in (masked_scene, derived_scene):
        mean_points = scene.mean_static()
        # Whole pixels of one surface in both: the mean of exact depth is that depth.
        assert 0.5 * len(scene.static) < len(mean_points) and bool(
            (mean_points.instance == 0).all()
        )
    progress_stages = []
    masked_scene.mean_static(lambda step, total, stage: progress_stages.append(stage))
    assert len(progress_stages) == 10
    assert set(progress_stages) == {"average the static background"}
    fused_backgrounds = fuse_scenes([masked_scene, masked_scene]).mean_background()
    assert len(fused_backgrounds) == 2 * len(masked_scene.mean_static())
    w2c = take.exo.pose.repeat(9, 1, 1)
    w2c[:, 0, 3] += torch.linspace(0, 0.1, 9)
    moving_camera_scene = build_scene(take.exo_rgb, replace_exo_pose(take.depth_video(), w2c))
    assert (
        moving_camera_scene.mean_static is None
        and moving_camera_scene.mean_background() is moving_camera_scene.static
    )


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_moving_pixels_are_found_without_a_mask(noise):
    frames, depth, true_mask = draw_wall_with_ball(noise)
    background = fuse_static(frames, depth)
    for t in (2, 6, 9):
        moving_mask = derive_dynamic(frames[t], depth[t], background)
        mask_iou = (moving_mask & true_mask[t]).sum() / (moving_mask | true_mask[t]).sum()
        assert mask_iou >= 0.85, f"frame {t}: {float(mask_iou):.2f}"


def test_moving_points_are_left_out_or_taken_from_the_mask(take):
    static_scene = build_scene(take.exo_rgb, take.depth_video(), "none")
    assert len(static_scene.moving[0]) == 0
    assert len(static_scene.static) > 0.95 * 128 * 80
    maskless_scene = build_scene(take.exo_rgb, replace(take.depth_video(), dynamic=None), "mask")
    assert len(maskless_scene.moving[0]) == 0
    with refuses("what moves"):
        build_scene(take.exo_rgb, take.depth_video(), "some")


def test_a_moving_exo_camera_gives_one_world():
    """Check that a moving exo camera's scene contains each part of a wall only once."""
    w2c = sliding_poses(1.2)
    # z = 4 + 0.1 x in the world
    depth = (4 - 0.1 * w2c[:, 0, 3].float())[:, None, None] / (1 - 0.1 * (PIXEL_X - 31.5) / 60)
    frames = torch.randint(0, 255, (FRAME_COUNT, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    scene = build_scene(frames, DepthVideo(depth_m=depth, exo=CameraPath.of_exo(CAMERA, w2c)))
    static_xyz = scene.static.xyz
    assert torch.allclose(static_xyz[:, 2], 4 + 0.1 * static_xyz[:, 0], atol=2e-3)
    assert (
        float(static_xyz[:, 0].max() - static_xyz[:, 0].min()) > 64 / 60 * 3.9 + 1.0
    )  # wider than one picture
    assert len(scene.static) < 1.7 * HEIGHT * WIDTH, (
        "parts seen by several frames must not be there several times"
    )
    assert any("mask" in note.text for note in scene.notes)


def test_moving_objects_are_removed_from_a_moving_cameras_scene():
    """Check that a rolling ball isn't in the scene of a moving camera, even without a mask."""
    w2c = sliding_poses(0.4)
    frames, depths, ball_masks = [], [], []
    for t, pose in enumerate(w2c):
        wall_x = (PIXEL_X - 31.5) / 60 * 4 - float(pose[0, 3])
        wall_colour = torch.stack(
            [120 + 60 * torch.sin(3 * wall_x + k) * torch.cos(PIXEL_Y / 6) for k in range(3)], -1
        )
        ball_mask = (PIXEL_X - 5 * t) ** 2 + (PIXEL_Y - 24) ** 2 < 64
        frames.append(torch.where(ball_mask[..., None], 250.0, wall_colour).to(torch.uint8))
        depths.append(torch.where(ball_mask, 2.0, 4.0) * (1 + 0.03 * (-1) ** t))  # flicker
        ball_masks.append(ball_mask)
    depth = DepthVideo(depth_m=torch.stack(depths), exo=CameraPath.of_exo(CAMERA, w2c))
    scene = build_scene(torch.stack(frames), depth)
    point_depths = scene.static.xyz[:, 2]
    assert (
        len(scene.static) < 1.3 * HEIGHT * WIDTH and float((point_depths < 3).float().mean()) < 0.01
    )
    assert float((point_depths - point_depths.median()).abs().quantile(0.95)) < 0.03 * 4
    moving_mask = scene.moving.mask(6)
    true_mask = ball_masks[6]
    assert (
        float((moving_mask & true_mask).sum() / true_mask.sum()) > 0.8
        and float((moving_mask & ~true_mask).sum()) < 80
    )


def test_depth_edges_and_stray_pixels_are_found():
    depth = torch.full((20, 30), 4.0)
    depth[:, 15:] = 2.0
    assert depth_edge(depth)[5, [14, 3]].tolist() == [1, 0]
    assert float(stray_step(depth).max()) == 0, "a clean outline has no stray pixels"
    depth[:, 14] = 2.8
    stray_steps = stray_step(depth)
    assert bool((stray_steps[3:-3, 14] > 0.2).all())
    assert float(stray_steps[:, :13].max()) == 0
    floor_depth = 1 / (
        0.1 + 0.01 * torch.arange(60.0)[:, None].expand(60, 80)
    )  # a floor at a low angle: steep, but smooth
    assert float(stray_step(floor_depth).max()) == 0


def test_a_strip_of_one_pixel_has_no_step_to_the_surface_behind_it():
    wall_with_strips = torch.full((20, 30), 4.0)
    wall_with_strips[:, 10] = 2.0
    wall_with_strips[:, 20] = 2.0
    wall_with_strips[:, 21] = torch.nan
    assert float(depth_steps(wall_with_strips, 1).abs().max()) == 0
    floor_depth = 1 / (0.1 + 0.01 * torch.arange(60.0)[:, None].expand(60, 80))
    floor_with_wall = torch.cat((floor_depth, floor_depth[-1:] + 2.0))
    floor_steps = depth_steps(floor_with_wall, 0)[:-1]
    assert float((floor_steps / floor_with_wall[:-1]).abs().min()) > 0.01, "a floor is no edge"


def distant_camera(*translation: float, count: int = 1) -> CameraPath:
    w2c = torch.cat((torch.eye(3), torch.tensor(translation)[:, None]), 1)
    return CameraPath.of_exo(CAMERA, w2c.expand(count, 3, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kind="disparity"), "disparity.*expected metric z"),
        (dict(kind="relative z"), "relative z.*stages.align"),
        (dict(depth_m=torch.full((FRAME_COUNT, HEIGHT, WIDTH), torch.nan)), "no valid pixel"),
        (dict(depth_m=torch.ones(FRAME_COUNT - 1, HEIGHT, WIDTH)), "12 frames and 11 depth maps"),
        (dict(depth_m=torch.ones(FRAME_COUNT, HEIGHT, WIDTH + 2)), "size of the depth maps"),
        (dict(exo=CameraPath.of_exo(replace(CAMERA, width=WIDTH + 1))), "exo camera"),
        (
            dict(exo=distant_camera(4e5, -6e6, 31)),
            r"6013 km .* R @ \(-400000, 6000000, 0\) to the t",
        ),
        (
            dict(exo=distant_camera(0, 0, 11_000, count=FRAME_COUNT)),
            "11 km from the world's origin",
        ),
        (
            dict(exo=CameraPath.of_exo(CAMERA, torch.eye(4)[:3] * torch.tensor([1, 1, -1, 1]))),
            "reflection",
        ),
        (
            dict(exo=CameraPath.of_exo(CAMERA, still_poses(FRAME_COUNT - 1))),
            "11 poses for 12 frames",
        ),
        (
            dict(dynamic=torch.zeros(FRAME_COUNT, HEIGHT, WIDTH + 2, dtype=torch.bool)),
            "dynamic mask",
        ),
        (dict(sky=torch.zeros(FRAME_COUNT - 2, HEIGHT, WIDTH, dtype=torch.bool)), "sky mask"),
    ],
)
def test_bad_scene_input_is_refused(change, message):
    frames, depth, _ = draw_wall_with_ball()
    with refuses(message):
        build_scene(
            frames, replace(DepthVideo(depth_m=depth, exo=CameraPath.of_exo(CAMERA)), **change)
        )
