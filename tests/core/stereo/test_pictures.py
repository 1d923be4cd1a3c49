"""Test stereo pictures for headsets."""

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
    """Check that both eyes' pictures show each world direction at the right pixel while the head
    turns."""
    gaze_targets = ([0.4, 0.5, 2.0], [-0.5, 0.3, 2.0])
    first_rotation, second_rotation = (
        look_at([0.0, 0.0, 0.0], gaze_target)[:, :3] for gaze_target in gaze_targets
    )
    upright_rotations = torch.stack((LEAN_ROTATION @ first_rotation, second_rotation))
    w2c = F.pad(sensor_from_upright(EGO_CAMERA.quarter_turns) @ upright_rotations, (0, 1))
    path = make_path(w2c, EGO_CAMERA, exo_w2c=look_at([3.0, 0.0, 1.0], [0.0, 0.0, 1.0]))
    video = (EGO_CAMERA.upright().pixel_rays()[0] @ upright_rotations[:, None].float() + 1) / 2
    stereo_form = StereoForm(eye_px=96, stabilise=stabilise)
    eye_pictures = torch.stack(list(stereo_pictures(video, 1 - video, path, stereo_form)))
    stereo_axes, rays = stereo_form.axes(path), stereo_form.rays(EGO_CAMERA)
    written_rotation = stereo_axes.mT @ upright_rotations
    direction = (rays @ written_rotation[:, None] + 1) / 2
    front_mask = (rays @ stereo_axes.mT[:, None])[..., 2] > 0.7
    left_eye, right_eye = eye_pictures.split(96, 2)
    for eye in (left_eye, 1 - right_eye):
        assert (eye - direction)[front_mask].abs().max() < 0.004
    assert not eye_pictures[:, [0, -1]].any()
    assert not eye_pictures[:, :, [0, 95, 96, 191]].any()
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
    """Check that the flat screen appears at the set distance and angle in both eyes' pictures."""
    stereo_form = StereoForm(layout="flat", eye_px=64, screen_m=2.0)
    left_rays, right_rays = stereo_form.rays(EGO_CAMERA)
    tangents = ((torch.arange(64).double() + 0.5) / 32 - 1) * np.tan(
        np.radians(stereo_form.fov_deg / 2)
    )
    screen_rays = torch.stack(
        (*torch.meshgrid(tangents, tangents, indexing="xy"), torch.ones(64, 64)), -1
    )
    assert torch.allclose((left_rays + right_rays) / 2, screen_rays)
    assert torch.allclose(
        2 * left_rays - torch.tensor([0.063, 0.0, 0.0]), 2 * right_rays, atol=1e-6
    )
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
    """Read the boxes of an MP4 file into a table of contents by name."""
    boxes = {}
    position = 0
    while position < len(data):
        size, box_name = struct.unpack_from(">I4s", data, position)
        assert 8 <= size <= len(data) - position
        boxes[box_name] = data[position + 8 : position + size]
        position += size
    return boxes


def test_stereo_boxes_are_written_to_an_mp4(tmp_path):
    """Check that the stereo boxes are correct, and that a file other than MP4 stays unchanged."""
    video_file = tmp_path / "film_180_LR.mp4"

    def decode_pictures() -> np.ndarray:
        with av.open(str(video_file)) as film:
            return np.stack([frame.to_ndarray() for frame in film.decode(video=0)])

    write_video(video_file, torch.rand(12, 64, 128, 3), 10.0)
    pictures_before = decode_pictures()
    mark_stereo(video_file, half_sphere=True)
    assert np.array_equal(pictures_before, decode_pictures())
    box_content = video_file.read_bytes()
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        box_content = read_boxes(box_content)[name]
    sample_entry = read_boxes(read_boxes(box_content)[b"stsd"][8:])[b"avc1"]
    sample_boxes = read_boxes(sample_entry[78:])
    assert sample_boxes[b"st3d"] == bytes(4) + b"\x02"  # left, right
    sphere_boxes = read_boxes(sample_boxes[b"sv3d"])
    assert sphere_boxes[b"svhd"] == bytes(4) + b"EgoX\0"
    projection_boxes = read_boxes(sphere_boxes[b"proj"])
    equirect_bounds = struct.unpack(">5I", projection_boxes[b"equi"])
    assert projection_boxes[b"prhd"] == bytes(16)
    assert equirect_bounds == (0, 0, 0, 2**30, 2**30)
    if ffprobe := shutil.which("ffprobe"):
        ffprobe_text = subprocess.check_output([ffprobe, "-show_streams", video_file], text=True)
        assert (
            "type=side by side" in ffprobe_text
            and "projection=tiled equirectangular" in ffprobe_text
        )
    video_file.write_bytes(b"no film at all")
    with refuses("without one index"):
        mark_stereo(video_file, half_sphere=True)
    assert video_file.read_bytes() == b"no film at all"
    assert list(tmp_path.iterdir()) == [video_file]
