"""Test the exact scene that the judge builds from one of the released presets."""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras import CameraModel, CameraPath, raw_gopro
from egox_core.metrics.exact_scene import exact_scene, raw_lens
from egox_core.takes import with_exo_lens
from egox_core.takes.take_cameras import exo_lens_of_size
from egox_core.types import CameraTrajectory, DepthVideo, TakeMeta

INTRINSICS = torch.tensor([[1256.0, 0, 1920], [0, 1256, 1080], [0, 0, 1]], dtype=torch.float64)
EXO_POSE = torch.eye(3, 4, dtype=torch.float64)


def released_depth(
    size: tuple[int, int], intrinsics: torch.Tensor = INTRINSICS, **exo_fields
) -> DepthVideo:
    """Build a depth video of a pinhole camera with given intrinsics, as the released presets
    contain."""
    take_meta = TakeMeta(
        name="take", camera_intrinsics=intrinsics, exo=CameraPath.of_exo(None, EXO_POSE)
    )
    exo_path = CameraPath.of_exo(exo_lens_of_size(take_meta, size)[0], EXO_POSE)
    depth_m = torch.full((5, size[1], size[0]), 3.0) + torch.linspace(0, 1, size[0])
    return DepthVideo(depth_m=depth_m, exo=replace(exo_path, **exo_fields))


@pytest.mark.parametrize("size", [(784, 448), (796, 448), (256, 144), (112, 64)])
def test_raw_lens_equals_the_exact_presets_lens(size):
    take_meta = TakeMeta(
        name="take", camera_intrinsics=INTRINSICS, exo=CameraPath.of_exo(None, EXO_POSE)
    )
    raw_camera, _ = exo_lens_of_size(with_exo_lens(take_meta, "raw")[0], size)
    lens = raw_lens(released_depth(size))
    assert lens is not None
    assert lens.lens == "opencv_fisheye"
    assert lens.stored_size == size
    points = torch.tensor([[0.3, 0.2, 1.0], [-1.5, 0.4, 1.0]])
    # K is brought to a size by whole factors, a lens by its pixels' centres: a tenth of a pixel.
    assert (lens.project(points)[0] - raw_camera.project(points)[0]).abs().max() < 0.1


def test_other_cameras_have_no_raw_lens():
    other_intrinsics = INTRINSICS.clone()
    other_intrinsics[0, 0] = other_intrinsics[1, 1] = 2000
    released_video = released_depth((112, 64))
    gopro_lens = raw_gopro(INTRINSICS).rescale(112, 63)
    for depth in (
        released_depth((112, 64), other_intrinsics),
        released_depth((112, 64), lens_guessed=True),
        released_depth((112, 64), world="exo"),
        released_depth((112, 64), lens=replace(released_video.exo.lens, cx=60.0)),
        released_depth((112, 64), lens=gopro_lens),
    ):
        assert raw_lens(depth) is None
    assert raw_lens(released_video) is not None


def test_exact_scene_has_the_raw_lens_and_a_note():
    depth = released_depth((112, 64))
    ego_path = replace(
        depth.exo, lens=CameraModel.pinhole(32, 32, 16.0), w2c=EXO_POSE.expand(5, 3, 4)
    )
    path = CameraTrajectory(ego=ego_path, exo=depth.exo)
    exo_video = torch.rand(5, 64, 112, 3, generator=torch.Generator().manual_seed(0))
    scene_and_note = exact_scene(exo_video, depth, path)
    assert scene_and_note is not None
    points, note = scene_and_note
    assert points.exo.lens == raw_lens(depth)
    assert "fisheye" in note
    assert "scale as is" in note
    assert exact_scene(exo_video, replace(depth, exo=points.exo), path) is None, "exact already"
    guessed_path = replace(path, guessed=torch.zeros(5, dtype=torch.bool))
    assert exact_scene(exo_video, depth, guessed_path) is None
