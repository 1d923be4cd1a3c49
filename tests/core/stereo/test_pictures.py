"""Both eyes as a headset reads them: directions, the horizon, and the boxes of the file."""

import shutil
import struct
import subprocess
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from egox_core.cameras import preset_camera, sensor_from_upright
from egox_core.cameras.poses import look_at
from egox_core.stereo import StereoForm, mark_stereo, stereo_pictures
from egox_core.trajectory import Up
from egox_train.video_writer import write_video
from tests.poses import path_of
from tests.refusals import refuses

CAMERA = preset_camera("aria_released", 128)
LEAN = torch.tensor([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]).double()


@pytest.mark.parametrize("stabilise", ["full", "horizon", "off", "upright"])
def test_each_direction_is_where_the_half_sphere_has_it(stabilise):
    """The pictures' colours are the world's directions, and the head turns and leans."""
    ways = ([0.4, 0.5, 2.0], [-0.5, 0.3, 2.0])
    first, second = (look_at([0.0, 0.0, 0.0], way)[:, :3] for way in ways)
    upright = torch.stack((LEAN @ first, second))
    w2c = F.pad(sensor_from_upright(CAMERA.quarter_turns) @ upright, (0, 1))
    path = path_of(w2c, CAMERA, exo_w2c=look_at([3.0, 0.0, 1.0], [0.0, 0.0, 1.0]))
    video = (CAMERA.upright().pixel_rays()[0] @ upright[:, None].float() + 1) / 2
    form = StereoForm(eye_px=96, stabilise=stabilise)
    both = torch.stack(list(stereo_pictures(video, 1 - video, path, form)))
    axes, rays = form.axes(path), form.rays(CAMERA)
    written = axes.mT @ upright
    direction, ahead = (rays @ written[:, None] + 1) / 2, (rays @ axes.mT[:, None])[..., 2] > 0.7
    left, right = both.split(96, 2)
    for eye in (left, 1 - right):
        assert (eye - direction)[ahead].abs().max() < 0.004
    assert not both[:, [0, -1]].any() and not both[:, :, [0, 95, 96, 191]].any()
    if stabilise != "off":  # level, and not upside down
        assert written[:, 0, 1].abs().max() < 2e-3 and written[:, 1, 1].min() > 0.8
    if stabilise == "upright":  # the world's vertical is the viewer's
        assert torch.allclose(written[:, 1], torch.tensor([0.0, 1, 0]).double(), atol=1e-3)
    assert torch.allclose(*written) == (stabilise in ("full", "upright"))


def test_a_world_without_a_vertical_is_told():
    path = path_of(look_at([0.0, 0.0, 0.0], [0.4, 0.5, 2.0])[None], CAMERA)
    upright, full = (StereoForm(stabilise=name) for name in ("upright", "full"))
    sure = Up(direction=torch.tensor([0.0, -1, 0]).double(), within_deg=2.0, evidence=("floor",))
    unsure = replace(sure, within_deg=90.0)
    assert "isn't known" in upright.word(unsure) and "2 degrees" in upright.word(sure)
    assert not full.word(unsure)
    assert torch.equal(upright.axes(path, unsure), full.axes(path, unsure))
    assert not torch.equal(upright.axes(path, sure), full.axes(path, sure))


def test_flat_screen_lies_where_it_is_said():
    """A point on the screen has one place in both eyes. The pair is rectified, and spans its angle."""
    form = StereoForm(layout="flat", eye_px=64, screen_m=2.0)
    left, right = form.rays(CAMERA)
    side = ((torch.arange(64).double() + 0.5) / 32 - 1) * np.tan(np.radians(form.fov_deg / 2))
    screen_rays = torch.stack((*torch.meshgrid(side, side, indexing="xy"), torch.ones(64, 64)), -1)
    assert torch.allclose((left + right) / 2, screen_rays)
    assert torch.allclose(2 * left - torch.tensor([0.063, 0.0, 0.0]), 2 * right, atol=1e-6)
    wrong = {"eye_px": 4096}, {"eye_px": 101}, {"layout": "a"}, {"stabilise": "b"}, {"eyes_m": 0.3}
    for each in wrong:
        with refuses("expected"):
            StereoForm(**each)


def children(data: bytes) -> dict[bytes, bytes]:
    """Read boxes by name, from their public form: size, four letters, content."""
    boxes, at = {}, 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at
        boxes[kind] = data[at + 8 : at + size]
        at += size
    return boxes


def test_boxes_are_read_back(tmp_path):
    """They are read by the public form and by ffprobe. A file that is no mp4 is refused and stays."""
    path = tmp_path / "film_180_LR.mp4"

    def pictures() -> np.ndarray:
        with av.open(str(path)) as film:
            return np.stack([frame.to_ndarray() for frame in film.decode(video=0)])

    write_video(path, torch.rand(12, 64, 128, 3), 10.0)
    before = pictures()
    mark_stereo(path, half_sphere=True)
    assert np.array_equal(before, pictures())
    inside = path.read_bytes()
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        inside = children(inside)[name]
    entry = children(children(inside)[b"stsd"][8:])[b"avc1"]
    inner = children(entry[78:])
    assert inner[b"st3d"] == bytes(4) + b"\x02"  # left, right
    sphere = children(inner[b"sv3d"])
    assert sphere[b"svhd"] == bytes(4) + b"EgoX\0"
    projection = children(sphere[b"proj"])
    bounds = struct.unpack(">5I", projection[b"equi"])
    assert projection[b"prhd"] == bytes(16) and bounds == (0, 0, 0, 2**30, 2**30)
    if probe := shutil.which("ffprobe"):
        text = subprocess.check_output([probe, "-show_streams", path], text=True)
        assert "type=side by side" in text and "projection=tiled equirectangular" in text
    path.write_bytes(b"no film at all")
    with refuses("without one index"):
        mark_stereo(path, half_sphere=True)
    assert path.read_bytes() == b"no film at all" and list(tmp_path.iterdir()) == [path]
