"""The exact geometry of a scene that the released presets made, for the judge alone."""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras import CameraModel, CameraPath, raw_gopro
from egox_core.metrics import exact_scene
from egox_core.metrics.exact_scene import raw_lens
from egox_core.takes import with_exo_lens
from egox_core.takes.take_cameras import exo_lens_of_size
from egox_core.types import CameraTrajectory, DepthVideo, TakeMeta

K = torch.tensor([[1256.0, 0, 1920], [0, 1256, 1080], [0, 0, 1]], dtype=torch.float64)
POSE = torch.eye(3, 4, dtype=torch.float64)


def released(size: tuple[int, int], k: torch.Tensor = K, **more) -> DepthVideo:
    """Make depth of pictures of a size, with K for a pinhole of them, as the released presets have
    it."""
    meta = TakeMeta(name="take", camera_intrinsics=k, exo=CameraPath.of_exo(None, POSE))
    exo = CameraPath.of_exo(exo_lens_of_size(meta, size)[0], POSE)
    depth_m = torch.full((5, size[1], size[0]), 3.0) + torch.linspace(0, 1, size[0])
    return DepthVideo(depth_m=depth_m, exo=replace(exo, **more))


@pytest.mark.parametrize("size", [(784, 448), (796, 448), (256, 144), (112, 64)])
def test_the_raw_lens_is_that_of_the_exact_preset(size):
    meta = TakeMeta(name="take", camera_intrinsics=K, exo=CameraPath.of_exo(None, POSE))
    raw, _ = exo_lens_of_size(with_exo_lens(meta, "raw")[0], size)
    lens = raw_lens(released(size))
    assert lens is not None and lens.lens == "opencv_fisheye" and lens.stored_size == size
    points = torch.tensor([[0.3, 0.2, 1.0], [-1.5, 0.4, 1.0]])
    # K is brought to a size by whole factors, a lens by its pixels' centres: a tenth of a pixel.
    assert (lens.project(points)[0] - raw.project(points)[0]).abs().max() < 0.1


def test_other_cameras_have_none():
    other = K.clone()
    other[0, 0] = other[1, 1] = 2000
    exact = released((112, 64))
    gopro = raw_gopro(K).rescale(112, 63)
    for depth in (
        released((112, 64), other),
        released((112, 64), lens_guessed=True),
        released((112, 64), world="exo"),
        released((112, 64), lens=replace(exact.exo.lens, cx=60.0)),
        released((112, 64), lens=gopro),
    ):
        assert raw_lens(depth) is None
    assert raw_lens(exact) is not None


def test_the_scene_has_the_raw_lens_and_says_so():
    depth = released((112, 64))
    ego = replace(depth.exo, lens=CameraModel.pinhole(32, 32, 16.0), w2c=POSE.expand(5, 3, 4))
    path = CameraTrajectory(ego=ego, exo=depth.exo)
    exo = torch.rand(5, 64, 112, 3, generator=torch.Generator().manual_seed(0))
    scene_and_note = exact_scene(exo, depth, path)
    assert scene_and_note is not None
    points, note = scene_and_note
    assert points.exo.lens == raw_lens(depth) and "fisheye" in note and "scale as is" in note
    assert exact_scene(exo, replace(depth, exo=points.exo), path) is None, "exact already"
    guessed = replace(path, guessed=torch.zeros(5, dtype=torch.bool))
    assert exact_scene(exo, depth, guessed) is None
