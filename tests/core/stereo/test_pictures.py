"""Test both eyes' pictures for a headset: directions, the horizon, flat screens and mp4 boxes."""

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
from tests.poses import make_path
from tests.refusals import refuses

EGO_CAMERA = preset_camera("aria_released", 128)
LEAN_ROTATION = torch.tensor([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]).double()


@pytest.mark.parametrize("stabilise", ["full", "horizon", "off", "upright"])
def test_colours_lie_at_their_direction_in_the_half_sphere(stabilise):
    """Colour the video by world directions, while the head turns and leans."""
    gaze_targets = ([0.4, 0.5, 2.0], [-0.5, 0.3, 2.0])
    first, second = (look_at([0.0, 0.0, 0.0], gaze_target)[:, :3] for gaze_target in gaze_targets)
    upright = torch.stack((LEAN_ROTATION @ first, second))
    w2c = F.pad(sensor_from_upright(EGO_CAMERA.quarter_turns) @ upright, (0, 1))
    path = make_path(w2c, EGO_CAMERA, exo_w2c=look_at([3.0, 0.0, 1.0], [0.0, 0.0, 1.0]))
    video = (EGO_CAMERA.upright().pixel_rays()[0] @ upright[:, None].float() + 1) / 2
    stereo_form = StereoForm(eye_px=96, stabilise=stabilise)
    eye_pictures = torch.stack(list(stereo_pictures(video, 1 - video, path, stereo_form)))
    axes, rays = stereo_form.axes(path), stereo_form.rays(EGO_CAMERA)
    written_rotation = axes.mT @ upright
    direction, front_mask = (
        (rays @ written_rotation[:, None] + 1) / 2,
        (rays @ axes.mT[:, None])[..., 2] > 0.7,
    )
    left, right = eye_pictures.split(96, 2)
    for eye in (left, 1 - right):
        assert (eye - direction)[front_mask].abs().max() < 0.004
    assert not eye_pictures[:, [0, -1]].any() and not eye_pictures[:, :, [0, 95, 96, 191]].any()
    if stabilise != "off":  # level, and not upside down
        assert (
            written_rotation[:, 0, 1].abs().max() < 2e-3 and written_rotation[:, 1, 1].min() > 0.8
        )
    if stabilise == "upright":  # the world's vertical is the viewer's
        assert torch.allclose(written_rotation[:, 1], torch.tensor([0.0, 1, 0]).double(), atol=1e-3)
    assert torch.allclose(*written_rotation) == (stabilise in ("full", "upright"))


def test_unknown_vertical_is_remarked():
    path = make_path(look_at([0.0, 0.0, 0.0], [0.4, 0.5, 2.0])[None], EGO_CAMERA)
    upright_form, full_form = (StereoForm(stabilise=name) for name in ("upright", "full"))
    known_up = Up(
        direction=torch.tensor([0.0, -1, 0]).double(), within_deg=2.0, evidence=("floor",)
    )
    unknown_up = replace(known_up, within_deg=90.0)
    assert "isn't known" in upright_form.word(unknown_up) and "2 degrees" in upright_form.word(
        known_up
    )
    assert not full_form.word(unknown_up)
    assert torch.equal(upright_form.axes(path, unknown_up), full_form.axes(path, unknown_up))
    assert not torch.equal(upright_form.axes(path, known_up), full_form.axes(path, known_up))


def test_flat_screen_has_its_distance_and_angle():
    """Check that a point on the screen is at one place in both eyes' pictures."""
    stereo_form = StereoForm(layout="flat", eye_px=64, screen_m=2.0)
    left, right = stereo_form.rays(EGO_CAMERA)
    tangents = ((torch.arange(64).double() + 0.5) / 32 - 1) * np.tan(
        np.radians(stereo_form.fov_deg / 2)
    )
    screen_rays = torch.stack(
        (*torch.meshgrid(tangents, tangents, indexing="xy"), torch.ones(64, 64)), -1
    )
    assert torch.allclose((left + right) / 2, screen_rays)
    assert torch.allclose(2 * left - torch.tensor([0.063, 0.0, 0.0]), 2 * right, atol=1e-6)
    wrong_options = (
        {"eye_px": 4096},
        {"eye_px": 101},
        {"layout": "a"},
        {"stabilise": "b"},
        {"eyes_m": 0.3},
    )
    for options in wrong_options:
        with refuses("expected"):
            StereoForm(**options)


def read_boxes(data: bytes) -> dict[bytes, bytes]:
    """Read the boxes of an mp4 by name: size, four letters, content."""
    boxes, position = {}, 0
    while position < len(data):
        size, box_name = struct.unpack_from(">I4s", data, position)
        assert 8 <= size <= len(data) - position
        boxes[box_name] = data[position + 8 : position + size]
        position += size
    return boxes


def test_stereo_boxes_are_written_to_an_mp4(tmp_path):
    """Check also with ffprobe, and that a file that is no mp4 stays unchanged."""
    path = tmp_path / "film_180_LR.mp4"

    def decode_pictures() -> np.ndarray:
        with av.open(str(path)) as film:
            return np.stack([frame.to_ndarray() for frame in film.decode(video=0)])

    write_video(path, torch.rand(12, 64, 128, 3), 10.0)
    pictures_before = decode_pictures()
    mark_stereo(path, half_sphere=True)
    assert np.array_equal(pictures_before, decode_pictures())
    box_content = path.read_bytes()
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        box_content = read_boxes(box_content)[name]
    sample_entry = read_boxes(read_boxes(box_content)[b"stsd"][8:])[b"avc1"]
    sample_boxes = read_boxes(sample_entry[78:])
    assert sample_boxes[b"st3d"] == bytes(4) + b"\x02"  # left, right
    sphere = read_boxes(sample_boxes[b"sv3d"])
    assert sphere[b"svhd"] == bytes(4) + b"EgoX\0"
    projection = read_boxes(sphere[b"proj"])
    bounds = struct.unpack(">5I", projection[b"equi"])
    assert projection[b"prhd"] == bytes(16) and bounds == (0, 0, 0, 2**30, 2**30)
    if probe := shutil.which("ffprobe"):
        text = subprocess.check_output([probe, "-show_streams", path], text=True)
        assert "type=side by side" in text and "projection=tiled equirectangular" in text
    path.write_bytes(b"no film at all")
    with refuses("without one index"):
        mark_stereo(path, half_sphere=True)
    assert path.read_bytes() == b"no film at all" and list(tmp_path.iterdir()) == [path]
