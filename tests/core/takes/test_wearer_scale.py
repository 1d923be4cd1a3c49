"""The wearer gives the metric scale: a body is drawn where it must be, and read back at another
scale. Bad sources are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel, sensor_from_upright
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import compose, look_at
from egox_core.cameras.presets import preset_camera
from egox_core.takes.body_scale import MODEL_ERROR, wearer_scale
from egox_core.takes.metric_scale import with_scale
from egox_core.takes.wearer_body import (
    HEAD_FROM_CAMERA,
    TRUNK_TO,
    face_from_camera,
    head_depth,
    trunk_depth,
)
from egox_core.types import FROM_HEAD_KEYPOINTS, DepthVideo
from lab.drawn import SyntheticSpec, make_take
from tests.poses import with_exo
from tests.refusals import refuses

CAMERA = CameraModel.pinhole(320, 240, 480)
UP = (0.0, 0.0, 1.0)
COUNT, WALL_M = 6, 7.0
# Pitched, as on a tripod; so far off that from chin to chest no depth step breaks the body in two.
EXO = look_at((0.0, -4.5, 2.4), (0.0, 0.0, 1.2), UP)


def glasses(frame: int) -> torch.Tensor:
    """Compute the wearer's camera [3, 4], unturned. It looks past the exo camera and down, and
    sways."""
    upright = look_at((0.02 * frame, 0.0, 1.55), (0.6, -1.0, 0.9 + 0.03 * frame), UP)
    turn = torch.cat((sensor_from_upright(1), torch.zeros(3, 1, dtype=torch.float64)), dim=1)
    return compose(turn, upright)


@pytest.fixture(scope="module")
def depth() -> DepthVideo:
    """Draw exact z depth of an ordinary body before a wall, by the very surfaces that the estimate
    assumes."""
    rays, _ = CAMERA.pixel_rays(torch.float64)
    rays, maps = (rays / rays[..., 2:]).numpy(), []
    down = (EXO[:, :3] @ torch.tensor([0.0, 0, -1], dtype=torch.float64)).numpy()
    for frame in range(COUNT):
        ego = glasses(frame)
        exo_from_face = (EXO[:, :3] @ ego[:, :3].T).numpy() @ face_from_camera(1).T
        eye = (EXO[:, :3] @ (-ego[:, :3].T @ ego[:, 3]) + EXO[:, 3]).numpy()
        centre = eye + exo_from_face @ HEAD_FROM_CAMERA
        head, _ = head_depth(rays, centre, exo_from_face)
        trunk, _, drop = trunk_depth(rays, centre, down)
        trunk = np.where(np.isnan(head) & (drop > 0) & (drop < TRUNK_TO), trunk, np.nan)
        wall = 8.5 / (rays @ EXO[:, 1].numpy())  # it stands 8.5 m off the camera
        maps.append(np.fmin(np.fmin(head, trunk), wall))
    return DepthVideo(
        depth_m=torch.from_numpy(np.stack(maps)).float(), exo=CameraPath.of_exo(CAMERA, EXO)
    )


@pytest.fixture(scope="module")
def path() -> CameraPath:
    poses = torch.stack([glasses(t) for t in range(COUNT)])
    return CameraPath(lens=preset_camera("aria_released", 448), w2c=poses, world="take")


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_a_body_at_another_scale_tells_it(depth, path, factor):
    scale = wearer_scale(replace(depth, depth_m=depth.depth_m / factor), path)
    # The surfaces are the assumed ones, so what the wearer says is exact but for float32 depth.
    assert scale.wearer == pytest.approx(factor, rel=1e-3)
    assert (
        scale.seen == scale.frames == COUNT
        and scale.spread_frames < 1e-3
        and "head and" in scale.cue
    )
    # Held against the model's own word: between it and 1, nearer to the wearer's as its error is
    # smaller.
    weight = np.log(scale.scale) / np.log(scale.wearer) if factor != 1 else 1.0
    assert 0.5 < weight <= 1 and scale.sigma < MODEL_ERROR
    assert (
        scale.content()["scale"] == round(scale.scale, 4) and f"{scale.scale:.3f}" in scale.text()
    )


@pytest.mark.parametrize(("seed", "factor"), [(2, 1.25), (4, 0.8)])
def test_a_drawn_person_of_other_build_tells_it_too(seed, factor):
    """The drawn rooms' people weren't made from this body. 12 % is the estimate's own stated error."""
    take = make_take(
        SyntheticSpec(
            seed=seed, frames=3, fps=7.0, exo_width=224, exo_height=128, ego_size=32, edge_samples=1
        )
    )
    depth = replace(take.depth_video(), depth_m=take.exo_depth_m / factor)
    scale = wearer_scale(depth, take.trajectory().ego)
    assert scale.wearer == pytest.approx(factor, rel=0.12)


def test_what_stands_before_the_trunk_is_not_the_wearer(depth, path):
    """A table edge is far before the lower body. A mask that ends at the chest bounds the wearer as
    well."""
    hidden = depth.depth_m.clone()
    hidden[:, 135:] = 0.8
    assert wearer_scale(replace(depth, depth_m=hidden), path).wearer == pytest.approx(1.0, rel=0.03)
    mask = torch.zeros(depth.depth_m.shape, dtype=torch.bool)
    mask[:, :130] = depth.depth_m[:, :130] < WALL_M
    scale = wearer_scale(replace(depth, depth_m=depth.depth_m / 1.2, dynamic=mask), path)
    assert scale.wearer == pytest.approx(1.2, rel=1e-3)
    assert sum(np.isfinite(scale.parts)) < sum(np.isfinite(wearer_scale(depth, path).parts))


def test_poses_without_a_measured_scale_are_refused(depth, path):
    for pose in (None, torch.eye(3, 4, dtype=torch.float64)):
        with refuses("exo camera's own frame"):
            wearer_scale(with_exo(depth, pose), path)
    with refuses("no tracker"):
        wearer_scale(depth, replace(path, w2c=path.poses(COUNT)[:1].repeat(COUNT, 1, 1)))
    for source in ("pose editor", FROM_HEAD_KEYPOINTS):
        with refuses(source):
            with_scale(depth, "wearer", path, pose_source=source)
    # Poses of head keypoints are brought together with the trunk where exact asks for it.
    _, report = with_scale(depth, "wearer where seen", path, pose_source=FROM_HEAD_KEYPOINTS)
    assert report.wearer is not None
    with refuses("ego_extrinsics"):
        with_scale(depth, "wearer", None)
    away = replace(path, w2c=path.w2c + 50 * torch.tensor([0, 0, 0, 1]))
    with refuses(f"head in 0 of {COUNT} frames"):
        wearer_scale(depth, away)


def test_the_choice_is_applied_and_reported(depth, path):
    same, report = with_scale(depth, "as is", path)
    assert same is depth and report.content()["source"] == "as is"
    double, report = with_scale(depth, 2.0, None)
    assert torch.equal(double.depth_m, depth.depth_m * 2) and report.content() == {
        "source": "number",
        "scale": 2.0,
        "note": "scale 2, as given",
    }
    scaled, report = with_scale(replace(depth, depth_m=depth.depth_m / 1.4), "wearer", path)
    assert report.wearer is not None and torch.allclose(
        scaled.depth_m, depth.depth_m / 1.4 * report.scale, rtol=1e-6
    )
    same, report = with_scale(with_exo(depth, None), "wearer where seen", path)
    assert (
        report.scale == 1
        and "own frame" in report.text()
        and torch.equal(same.depth_m, depth.depth_m)
    )
