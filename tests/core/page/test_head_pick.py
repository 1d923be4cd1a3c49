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
from egox_core.page.queries import pick_head, pick_point
from egox_core.prior.coarse import CoarsePoints
from egox_core.scene.build import build_scene
from egox_core.trajectory.head_template import VERTEX_TO_CHIN
from egox_core.trajectory.poses import look_at, transform
from egox_core.types import DepthVideo
from lab.drawn.layout import draw_layout
from lab.drawn.shading import crease_neighbours
from lab.drawn.spec import SyntheticSpec
from lab.drawn.views import Renderer

CLICKS = 9
SMALLEST_PX, LARGEST_PX = 12, 80
SIDES = {"front": 0, "side": 90, "back": 180}
HEAD_BREADTH_M = 0.216  # of the drawn head, hair included
FAR_BEHIND_M = 0.4


@dataclass(frozen=True)
class Head:
    """A head as an exo camera sees it."""

    side: str
    camera: CameraModel
    points: CoarsePoints  # exo camera frame
    mask: np.ndarray  # [H, W] bool, without the neck
    centre: Tensor  # [3] metres, exo camera frame

    def clicks(self) -> Iterator[tuple[float, float]]:
        """Pixels in the inner half of the mask: those that lie deeper in it than half of it."""
        depth = distance_transform_edt(self.mask)
        rows, columns = np.nonzero(depth >= np.median(depth[self.mask]))
        chosen = np.random.default_rng(0).choice(len(rows), min(CLICKS, len(rows)), replace=False)
        return ((float(columns[i]), float(rows[i])) for i in chosen)


def seen_head(room: int, side: str) -> Head:
    """One room's person from one side, mostly unhidden, at a drawn distance and size."""
    scene = draw_layout(
        SyntheticSpec(seed=room, frames=1, exo_width=64, exo_height=64, ego_size=16)
    ).scene
    rng = np.random.default_rng([room, SIDES[side]])
    pose = scene.world_from_solid[0, [s.name for s in scene.solids].index("head")].double().numpy()
    facing, centre = math.atan2(pose[1, 1], pose[0, 1]), pose[:, 3]
    head = torch.tensor([s.group == "head" and s.name != "neck" for s in scene.solids] + [False])
    for _ in range(40):
        px = float(np.exp(rng.uniform(np.log(SMALLEST_PX), np.log(LARGEST_PX))))
        far, turn = (
            rng.uniform(1.2, 3.0),
            math.radians(SIDES[side] * rng.choice((-1, 1)) + rng.uniform(-25, 25)),
        )
        eye = centre + far * np.array([math.cos(facing + turn), math.sin(facing + turn), 0])
        eye[2] += rng.uniform(-0.2, 0.8)
        size, focal = int(max(64, 4 * px)), px * far / HEAD_BREADTH_M
        if size > 3 * focal:
            continue
        camera = CameraModel.pinhole(size, size, focal)
        w2c = look_at(eye, centre + rng.normal(size=3) * 0.15, (0.0, 0, 1))
        seen = replace(scene, exo_camera=camera, exo_w2c=w2c)
        renderer = Renderer(seen, camera, w2c, crease_neighbours(seen), 1)
        view = renderer.full([0], seen.indices())
        solid = view.index.reshape(size, size).long()
        if float(head[solid].sum()) < 0.7 * math.pi / 4 * px * px:
            continue  # behind furniture or a wall, or out of the picture
        depth = (view.ray_depth * renderer.view_rays.rays[:, 2]).reshape(1, size, size)
        depth = torch.where(solid[None] >= 0, depth, torch.nan)
        moving = scene.group_table("body", "head", "held")[solid][None]
        cloud = build_scene(
            view.rgb.reshape(1, size, size, 3).clamp(0, 1),
            DepthVideo(depth_m=depth.float(), camera=camera, dynamic=moving),
        )
        return Head(
            side=side,
            camera=camera,
            mask=head[solid].numpy(),
            points=CoarsePoints.of(cloud.static).joined(CoarsePoints.of(cloud.moving[0])),
            centre=transform(w2c, torch.from_numpy(centre)[None])[0],
        )
    raise AssertionError(f"no free view of the person in room {room} from the {side}")


@pytest.fixture(scope="module", params=[8, pytest.param(16, marks=pytest.mark.slow)])
def heads(request) -> list[Head]:
    return [seen_head(room, side) for room in range(request.param) for side in SIDES]


def test_the_heads_centre(heads):
    still = torch.eye(3, 4, dtype=torch.float64)
    misses = {side: [] for side in SIDES}
    for head in heads:
        for pixel in head.clicks():
            pick = pick_head(head.points, head.camera, still, pixel)
            misses[head.side].append(float((pick.point - head.centre).norm()))
    for side, off_m in {**misses, "all": sum(misses.values(), [])}.items():
        assert np.median(off_m) <= 0.03 and np.mean(np.array(off_m) <= 0.05) >= 0.9, (
            side,
            np.median(off_m),
        )


@pytest.mark.parametrize("off_deg", [0, -20, 20])
def test_the_centre_is_seen_where_one_clicked(heads, off_deg):
    """Within half a head, whatever lens was guessed: what is seen stays, its metres don't."""
    for head in heads:
        half = math.atan(head.camera.width / 2 / head.camera.fx)
        focal = head.camera.width / 2 / math.tan(max(0.1, half + math.radians(off_deg / 2)))
        wider = torch.tensor([head.camera.fx / focal, head.camera.fx / focal, 1])
        camera = replace(head.camera, fx=focal, fy=focal)
        points = replace(head.points, xyz=head.points.xyz * wider)
        still = torch.eye(3, 4, dtype=torch.float64)
        half_head = VERTEX_TO_CHIN / 2 * head.camera.fx / float(head.centre[2])
        for pixel in head.clicks():
            centre = pick_head(points, camera, still, pixel, lens_guessed=off_deg != 0).point
            seen = camera.project(centre[None])[0][0]
            assert float((seen - torch.tensor(pixel)).norm()) <= half_head


def test_a_click_beside_a_small_head_is_one_on_it(heads):
    """Within the window the near thing counts: a pixel of a shrunken picture is several of the true
    one."""
    still = torch.eye(3, 4, dtype=torch.float64)
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
            abs(pick_point(head.points, head.camera, still, pixel).depth_m - float(head.centre[2]))
            < 0.2
        )
        assert (
            float((pick_head(head.points, head.camera, still, pixel).point - head.centre).norm())
            < 0.06
        )
    assert counted >= len(heads) // 4
