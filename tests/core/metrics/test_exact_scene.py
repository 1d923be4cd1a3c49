"""Test the exact scene that the judge builds from one of the released presets."""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras import CameraModel, CameraPath
from egox_core.metrics.exact_scene import exact_scene
from egox_core.stages import align
from egox_core.takes import with_exo_lens, with_takes_raw_scale
from egox_core.types import CameraTrajectory, DepthVideo, TakeMeta
from tests.refusals import refuses

INTRINSICS = torch.tensor([[1256.0, 0, 1920], [0, 1256, 1080], [0, 0, 1]], dtype=torch.float64)
EXO_POSE = torch.eye(3, 4, dtype=torch.float64)
EXO = CameraPath.of_exo(None, EXO_POSE)


def released_depth(size: tuple[int, int], **meta_fields) -> DepthVideo:
    """Align a depth of a take whose camera file has K alone, as the released presets do."""
    take_meta = TakeMeta(name="take", camera_intrinsics=INTRINSICS, exo=EXO)
    depth_m = torch.full((5, size[1], size[0]), 3.0) + torch.linspace(0, 1, size[0])
    return align(depth_m, meta=replace(take_meta, **meta_fields))[0]


@pytest.mark.parametrize("size", [(784, 448), (796, 448), (256, 144), (112, 64)])
def test_raw_lens_is_the_exact_presets_lens(size):
    meta = TakeMeta(name="take", camera_intrinsics=INTRINSICS, exo=EXO)
    raw_depth = released_depth(size, exo=with_exo_lens(meta, "raw")[0].exo)
    assert raw_depth.exo.camera.lens == "opencv_fisheye"
    assert raw_depth.exo.camera == released_depth(size).raw_lens
    assert raw_depth.raw_lens is None


def test_exact_scene_has_the_raw_lens_and_a_note():
    depth = released_depth((112, 64))
    ego_path = replace(
        depth.exo, lens=CameraModel.pinhole(32, 32, 16.0), w2c=EXO_POSE.expand(5, 3, 4)
    )
    path = CameraTrajectory(ego=ego_path, exo=depth.exo)
    exo_video = torch.rand(5, 64, 112, 3, generator=torch.Generator().manual_seed(0))
    with refuses("measure it by takes.with_takes_raw_scale"):
        exact_scene(exo_video, depth, path)
    depth = with_takes_raw_scale(depth, None, depth.frames)
    scene_and_note = exact_scene(exo_video, depth, path)
    assert scene_and_note is not None
    points, note = scene_and_note
    assert points.exo.lens == depth.raw_lens
    assert "fisheye" in note
    assert "scale as is" in note
    assert exact_scene(exo_video, replace(depth, raw_lens=None), path) is None
    guessed_path = replace(path, guessed=torch.zeros(5, dtype=torch.bool))
    assert exact_scene(exo_video, depth, guessed_path) is None
