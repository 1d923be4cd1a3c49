"""A click on a person's head: the head's centre, in drawn rooms whose people are known."""

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
from tests.poses import with_exo

CLICKS = 6
HEIGHTS = (96, 160, 288)  # of the exo pictures, px
HEAD_BREADTH_M = 0.216  # of the drawn head, hair included
FAR_BEHIND_M = 0.4
STILL = torch.eye(3, 4, dtype=torch.float64)


@dataclass(frozen=True)
class Head:
    """A head as an exo camera sees it."""

    camera: CameraModel
    points: CoarsePoints  # exo camera frame
    mask: np.ndarray  # [H, W] bool, without the neck
    centre: Tensor  # [3] metres, exo camera frame

    def clicks(self) -> Iterator[tuple[float, float]]:
        """Yield pixels in the inner half of the mask: those that lie deeper in it than half of it."""
        depth = distance_transform_edt(self.mask)
        rows, columns = np.nonzero(depth >= np.median(depth[self.mask]))
        rows_drawn = np.random.default_rng(0).choice(
            len(rows), min(CLICKS, len(rows)), replace=False
        )
        return ((float(columns[i]), float(rows[i])) for i in rows_drawn)


def seen_heads(room: int) -> Iterator[Head]:
    """Yield one room's person as seen by those of four exo cameras from which nothing hides it."""
    height = HEIGHTS[room % len(HEIGHTS)]
    size = {"exo_width": height * 7 // 4, "exo_height": height, "ego_size": 16}
    take = make_take(SyntheticSpec(seed=room, frames=1, edge_samples=1, exo_views=4, **size))
    solids, world_from_solid = take.scene.solids, take.scene.world_from_solid[0].double()
    names = [solid.name for solid in solids]
    centre = world_from_solid[names.index("head"), None, :, 3]
    head = torch.tensor([s.group == "head" and s.name != "neck" for s in solids] + [False])
    for view in take.views:
        camera, mask = view.exo.camera, head[view.exo_index[0].long()]
        exo_centre = transform(view.exo.pose, centre)[0]
        across_px = HEAD_BREADTH_M * camera.fx / float(exo_centre[2])
        if float(mask.sum()) < 0.7 * math.pi / 4 * across_px**2:
            continue  # behind furniture, or out of the picture
        cloud = build_scene(view.exo_rgb, with_exo(view.depth_video(), None))
        points = CoarsePoints.of(cloud.static).joined(CoarsePoints.of(cloud.moving[0]))
        yield Head(camera=camera, points=points, mask=mask.numpy(), centre=exo_centre)


@pytest.fixture(scope="module", params=[8, pytest.param(16, marks=pytest.mark.slow)])
def heads(request) -> list[Head]:
    return [head for room in range(request.param) for head in seen_heads(room)]


def test_the_heads_centre(heads):
    off_m = []
    for head in heads:
        for pixel in head.clicks():
            pick = pick_head(head.points, CameraPath.of_exo(head.camera), pixel)
            off_m.append(float((pick.point - head.centre).norm()))
    assert np.median(off_m) <= 0.03 and np.mean(np.array(off_m) <= 0.05) >= 0.9


@pytest.mark.parametrize("off_deg", [0, -20, 20])
def test_the_centre_is_seen_where_one_clicked(heads, off_deg):
    """Within half a head and a pixel, as the rule is, whatever lens was guessed: what is seen stays,
    its metres don't."""
    for head in heads:
        half = math.atan(head.camera.width / 2 / head.camera.fx)
        focal = head.camera.width / 2 / math.tan(max(0.1, half + math.radians(off_deg / 2)))
        wider = torch.tensor([head.camera.fx / focal, head.camera.fx / focal, 1])
        camera = replace(head.camera, fx=focal, fy=focal)
        points = replace(head.points, xyz=head.points.xyz * wider)
        half_head = VERTEX_TO_CHIN / 2 * head.camera.fx / float(head.centre[2])
        for pixel in head.clicks():
            centre = pick_head(
                points, CameraPath.of_exo(camera), pixel, lens_guessed=off_deg != 0
            ).point
            centre_px = camera.project(centre[None])[0][0]
            assert float((centre_px - torch.tensor(pixel)).norm()) <= half_head + 1


def test_a_click_beside_a_small_head_is_one_on_it(heads):
    """Within the window the near thing counts: a pixel of a shrunken picture is several of the true
    one."""
    counted = 0
    for head in heads:
        rows, columns = np.nonzero(head.mask)
        right = int(columns[rows == int(np.median(rows))].max())
        pixel = (right + 1.0, float(np.median(rows)))
        uv, _ = head.camera.project(head.points.xyz)
        around = head.points.xyz[(uv - torch.tensor(pixel)).norm(dim=-1) < 1.5, 2]
        if not len(around) or float(around.min()) < float(head.centre[2]) + FAR_BEHIND_M:
            continue  # the click itself is on something else that is near
        counted += 1
        assert (
            abs(
                pick_point(head.points, CameraPath.of_exo(head.camera), pixel).depth_m
                - float(head.centre[2])
            )
            < 0.2
        )
        assert (
            float(
                (
                    pick_head(head.points, CameraPath.of_exo(head.camera), pixel).point
                    - head.centre
                ).norm()
            )
            < 0.06
        )
    assert counted >= len(heads) // 4
