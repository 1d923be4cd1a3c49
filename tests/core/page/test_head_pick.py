"""Test the head centre found from a click on a person in drawn rooms."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import transform
from egox_core.page.queries import pick_head, pick_point
from egox_core.prior.coarse import CoarsePoints
from egox_core.scene.build import build_scene
from egox_core.trajectory.head_template import VERTEX_TO_CHIN
from lab.drawn import SyntheticSpec, make_take
from tests.poses import replace_exo_pose

CLICKS = 6
HEIGHTS = (96, 160, 288)  # of the exo pictures, px
HEAD_BREADTH_M = 0.216  # of the drawn head, hair included
FAR_BEHIND_M = 0.4


@dataclass(frozen=True)
class SeenHead:
    """Store one head in an exo camera's picture: its points, its mask and its true centre."""

    camera: CameraModel
    points: CoarsePoints  # exo camera frame
    mask: np.ndarray  # [H, W] bool, without the neck
    centre: Tensor  # [3] metres, exo camera frame

    def clicks(self) -> Iterator[tuple[float, float]]:
        """Yield some pixels in the inner half of the head's mask as click positions."""
        edge_distance = distance_transform_edt(self.mask)
        rows, columns = np.nonzero(edge_distance >= np.median(edge_distance[self.mask]))
        chosen_pixels = np.random.default_rng(0).choice(
            len(rows), min(CLICKS, len(rows)), replace=False
        )
        return ((float(columns[i]), float(rows[i])) for i in chosen_pixels)


def draw_seen_heads(room: int) -> Iterator[SeenHead]:
    """Yield the head of a room's person in the pictures of four exo cameras."""
    height = HEIGHTS[room % len(HEIGHTS)]
    picture_sizes = {"exo_width": height * 7 // 4, "exo_height": height, "ego_size": 16}
    take = make_take(
        SyntheticSpec(seed=room, frames=1, edge_samples=1, exo_views=4, **picture_sizes)
    )
    solids = take.scene.solids
    world_from_solid = take.scene.world_from_solid[0].double()
    solid_names = [solid.name for solid in solids]
    head_centre = world_from_solid[solid_names.index("head"), None, :, 3]
    is_head_solid = torch.tensor([s.group == "head" and s.name != "neck" for s in solids] + [False])
    for view in take.views:
        camera = view.exo.camera
        mask = is_head_solid[view.exo_index[0].long()]
        exo_centre = transform(view.exo.pose, head_centre)[0]
        head_width_px = HEAD_BREADTH_M * camera.fx / float(exo_centre[2])
        if float(mask.sum()) < 0.7 * math.pi / 4 * head_width_px**2:
            continue  # behind furniture, or out of the picture
        scene = build_scene(view.exo_rgb, replace_exo_pose(view.depth_video(), None))
        points = CoarsePoints.of(scene.static).joined(CoarsePoints.of(scene.moving[0]))
        yield SeenHead(camera=camera, points=points, mask=mask.numpy(), centre=exo_centre)


ALL_ROOMS = pytest.param(range(16), marks=pytest.mark.slow, id="all")


@pytest.fixture(scope="module", params=[pytest.param((0, 1, 3, 4), id="small"), ALL_ROOMS])
def heads(request) -> list[SeenHead]:
    return [head for room in request.param for head in draw_seen_heads(room)]


def test_picked_head_centre_is_within_5_cm(heads):
    errors_m = []
    for head in heads:
        for pixel in head.clicks():
            picked_head = pick_head(head.points, CameraPath.of_exo(head.camera), pixel)
            errors_m.append(float((picked_head.point - head.centre).norm()))
    assert np.median(errors_m) <= 0.03
    assert np.mean(np.array(errors_m) <= 0.05) >= 0.9


@pytest.mark.parametrize("fov_error_deg", [0, -20, 20])
def test_picked_centre_projects_near_the_click(heads, fov_error_deg):
    """Check that the head centre lies in the clicked direction even if the field of view is
    wrong."""
    for head in heads:
        half_fov = math.atan(head.camera.width / 2 / head.camera.fx)
        wrong_focal_px = (
            head.camera.width / 2 / math.tan(max(0.1, half_fov + math.radians(fov_error_deg / 2)))
        )
        scale_xy = torch.tensor(
            [head.camera.fx / wrong_focal_px, head.camera.fx / wrong_focal_px, 1]
        )
        camera = replace(head.camera, fx=wrong_focal_px, fy=wrong_focal_px)
        points = replace(head.points, xyz=head.points.xyz * scale_xy)
        half_head_px = VERTEX_TO_CHIN / 2 * head.camera.fx / float(head.centre[2])
        for pixel in head.clicks():
            picked_centre = pick_head(
                points, CameraPath.of_exo(camera), pixel, lens_guessed=fov_error_deg != 0
            ).point
            centre_px = camera.project(picked_centre[None])[0][0]
            assert float((centre_px - torch.tensor(pixel)).norm()) <= half_head_px + 1


def test_click_beside_a_small_head_picks_the_head(heads):
    """Check that a click one pixel beside a small head selects the head, not the background."""
    tested_heads = 0
    for head in heads:
        rows, columns = np.nonzero(head.mask)
        right_column = int(columns[rows == int(np.median(rows))].max())
        clicked_pixel = (right_column + 1.0, float(np.median(rows)))
        uv, _ = head.camera.project(head.points.xyz)
        near_depths = head.points.xyz[(uv - torch.tensor(clicked_pixel)).norm(dim=-1) < 1.5, 2]
        if not len(near_depths) or float(near_depths.min()) < float(head.centre[2]) + FAR_BEHIND_M:
            continue  # the click itself is on something else that is near
        tested_heads += 1
        assert (
            abs(
                pick_point(head.points, CameraPath.of_exo(head.camera), clicked_pixel).depth_m
                - float(head.centre[2])
            )
            < 0.2
        )
        assert (
            float(
                (
                    pick_head(head.points, CameraPath.of_exo(head.camera), clicked_pixel).point
                    - head.centre
                ).norm()
            )
            < 0.06
        )
    assert tested_heads >= len(heads) // 4
