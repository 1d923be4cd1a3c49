"""Tables go on behind what stands on them, and things have backs: what the prior must not be drawn through."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from egox_core.cameras import CameraModel
from egox_core.ego_prior import render_ego_prior
from egox_core.hidden_planes import SUNK_M, find_planes, hidden_parts
from egox_core.object_backs import LIMB, THING, supposed_thickness
from egox_core.pointcloud import build_scene
from egox_core.prior_presets import prior_preset
from egox_core.surface_lift import depth_rays, surface_steps
from egox_core.types import CameraTrajectory, DepthVideo
from egox_core.unseen_sides import ExoSight

CAMERA = CameraModel(lens="pinhole", width=640, height=384, fx=400.0, fy=400.0, cx=319.5, cy=191.5)
DOWN = torch.tensor([0.0, 0.8, 0.6])  # the camera looks down on the table by 37 degrees
TABLE_M, FLOOR_M = 1.3, 2.1  # distances of the two planes from the camera
ACROSS = torch.linalg.cross(DOWN, torch.tensor([1.0, 0.0, 0.0]))  # along the table, towards the camera
HALF_TABLE = (0.35, 0.6)  # half its width and depth, metres, around where the optical axis meets it


def on_table(points: torch.Tensor) -> torch.Tensor:
    """[..., 2] metres from the table's middle: rightwards and towards the camera."""
    middle = torch.tensor([0.0, 0.0, 1.0]) * TABLE_M / DOWN[2]
    return torch.stack((points[..., 0], (points - middle) @ ACROSS), dim=-1)


def room() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(depth [H, W], which: 0 floor, 1 table, 2 a board that stands on the table, rays)."""
    rays = depth_rays(CAMERA)
    slope = rays @ DOWN
    floor, table = (torch.where(slope > 0.05, height / slope, torch.inf) for height in (FLOOR_M, TABLE_M))
    half = torch.tensor(HALF_TABLE)
    table = torch.where((on_table(rays * table.nan_to_num(posinf=0.0)[..., None]).abs() < half).all(-1), table,
                        torch.inf)
    # Upright, facing the camera, 0.3 m wide and high, at the table's middle.
    board = TABLE_M / DOWN[2] * ACROSS[2] / (rays @ ACROSS)
    spot = rays * board[..., None]
    lies = TABLE_M - spot @ DOWN
    board = torch.where((spot[..., 0].abs() < 0.15) & (lies > 0) & (lies < 0.3) & (board > 0), board, torch.inf)
    depth, which = torch.stack((floor, table, board)).min(0)
    return torch.where(torch.isfinite(depth), depth, torch.nan), which, rays


def test_the_planes_of_a_room_are_found() -> None:
    depth, which, rays = room()
    planes = find_planes(depth, rays)
    for height, number in ((FLOOR_M, 0), (TABLE_M, 1)):
        found = [plane for plane in planes if abs(plane.offset - height) < 1e-3]
        assert len(found) == 1 and float(found[0].normal @ DOWN) > 1 - 1e-5
        members, truth = found[0].members, which == number
        # Pixels at outlines have slopes of their own.
        assert int((members & truth).sum()) > 0.95 * int((truth & torch.isfinite(depth)).sum())
        assert not (members & (which == 1 - number)).any()


def test_a_table_goes_on_behind_what_stands_on_it() -> None:
    depth, which, rays = room()
    hidden = hidden_parts(find_planes(depth, rays), depth, rays).xyz
    assert len(hidden) > 50
    # On the table, sunk a little, and inside its border: nothing is supposed of the floor, which hides nothing.
    assert (hidden @ DOWN - TABLE_M - SUNK_M).abs().max() < 2e-3
    assert (on_table(hidden).abs() < torch.tensor(HALF_TABLE) + 1e-3).all()
    # All in the board's shadow, and all of it but where the board meets the table: each pixel has a point near it.
    uv = hidden - SUNK_M * DOWN
    uv = (400.0 * uv[:, :2] / uv[:, 2:] + torch.tensor([319.5, 191.5])).round().long()
    assert (which[uv[:, 1], uv[:, 0]] == 2).all()
    table = torch.where(rays @ DOWN > 0.05, TABLE_M / (rays @ DOWN), torch.nan)
    behind = (which == 2) & (on_table(rays * table[..., None]).abs() < torch.tensor(HALF_TABLE) - 0.03).all(-1)
    behind &= depth < 0.98 * table
    rows, cols = behind.nonzero(as_tuple=True)
    gaps = (torch.stack((cols, rows), -1)[:, None] - uv).abs().amax(-1).amin(1)
    assert int(behind.sum()) > 200 and int(gaps.max()) <= 2


def test_rough_depth_shows_no_planes() -> None:
    depth, _, rays = room()
    rough = depth * (1 + 0.01 * torch.randn(depth.shape, generator=torch.Generator().manual_seed(0)))
    assert find_planes(rough, rays) == []
    assert len(hidden_parts([], depth, rays)) == 0


def test_the_floor_is_not_seen_through_a_table() -> None:
    """Seen from aside, the board's shadow on the table is unknown: black, not the floor beside it."""
    depth, which, _ = room()
    colours = torch.tensor([[200, 0, 0], [0, 200, 0], [0, 0, 200]], dtype=torch.uint8)
    video = DepthVideo(depth_m=depth[None], camera=CAMERA, dynamic=torch.zeros(1, *depth.shape, dtype=torch.bool))
    scene = build_scene(colours[which][None], video)
    # The ego camera stands 0.3 m above the table, left of it and behind the board, and looks to the right and down.
    right = torch.tensor([1.0, 0.0, 0.0])
    eye = (torch.tensor([0.0, 0.0, 1.0]) * TABLE_M / DOWN[2] - 0.4 * right - 0.3 * DOWN - 0.27 * ACROSS).double()
    ahead = torch.nn.functional.normalize(0.5 * right + 0.3 * DOWN, dim=0)
    rotation = torch.stack((ACROSS, torch.linalg.cross(ahead, ACROSS), ahead)).double()
    camera = CameraModel(lens="pinhole", width=128, height=128, fx=80.0, fy=80.0, cx=63.5, cy=63.5)
    path = CameraTrajectory(w2c=torch.cat((rotation, -(rotation @ eye)[:, None]), 1)[None], camera=camera,
                            times_s=torch.zeros(1).double())
    floor = []
    for shown in (scene, replace(scene, hidden=None)):
        prior = render_ego_prior(shown, path, prior_preset("clean"))
        red, green = prior.rgb[0, ..., 0] > 0.5, prior.rgb[0, ..., 1] > 0.5
        floor.append(int(red[64:80, 56:72].sum()))
        assert int(green.sum()) > 300 and int(red.sum()) > 300, "table and floor are there"
    assert floor[0] == 0 and floor[1] > 50


@pytest.mark.parametrize("shape", [LIMB, THING])
def test_a_round_bar_is_as_thick_as_it_is_broad(shape) -> None:
    """A standing bar of radius 4 cm, 1.5 m away, before a wall."""
    rays = depth_rays(CAMERA)
    away, radius = 1.5, 0.04
    # Nearest hit of the ray (x, ., 1) t with the circle x^2 + (z - away)^2 = radius^2.
    a, b = rays[..., 0] ** 2 + 1, away
    root = b * b - a * (away ** 2 - radius ** 2)
    depth = torch.where(root > 0, (b - root.clamp_min(0).sqrt()) / a, 3.0)
    thick = supposed_thickness(depth, surface_steps(depth, rays), rays, shape)
    row, middle = 192, 320
    across = thick[row] * rays[row].norm(dim=-1)
    expected = shape.roundness * 2 * radius - shape.doubt_m
    # 3.75 mm a pixel; the radius is that of a disc out of a list, 8 % apart here.
    assert abs(float(across[middle]) - expected) < 0.15 * expected
    assert bool((across[root[row] <= 0] == 0).all()), "a wall has no back"
    assert float(across[middle]) > float(across[middle + 6]), "thinner towards its outline"
    flat = root > 0
    assert not supposed_thickness(depth, surface_steps(depth, rays), rays, shape, flat).any()


def test_what_exo_does_not_see_just_then() -> None:
    """Pixel by pixel: behind a blocker, beside it, before it, on it, outside the picture."""
    shift = torch.cat((torch.eye(3), torch.tensor([[0.0], [0.0], [1.0]])), 1).double()
    sight = ExoSight(camera=CAMERA, exo_from_frame=shift)
    blockers = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.5]])  # 2 m and 2.5 m from the camera, one pixel
    points = torch.tensor([[0.0, 0.0, 3.0], [0.5, 0.0, 3.0], [0.0, 0.0, 0.5], [0.0, 0.0, 1.0], [9.0, 0.0, 1.0],
                           [0.0, 0.0, 1.2], [0.0, 0.0, -3.0]])
    assert sight.behind(points, blockers).tolist() == [True, False, False, False, False, True, False]
