"""Both eyes as a headset reads them: directions, the horizon, and the boxes of the file."""

import struct

import pytest
import torch

from egox_core.cameras.presets import preset_camera
from egox_core.stereo import boxes
from egox_core.stereo.pictures import StereoForm, stereo_pictures
from egox_core.trajectory.poses import look_at
from egox_core.types import CameraTrajectory
from egox_core.video.reader import decode_frames, probe_video
from egox_train.video_writer import write_video
from tests.refusals import refuses

CAMERA = preset_camera("aria_released", 128)


@pytest.mark.parametrize("stabilise", ["full", "horizon", "off"])
def test_each_direction_is_where_the_half_sphere_has_it(stabilise):
    """Pictures whose colours are the world's directions; the head turns and leans."""
    upright = torch.stack(
        [look_at([0.0, 0.0, 0.0], way)[:, :3] for way in ([0.4, 0.5, 2.0], [-0.5, 0.3, 2.0])]
    )
    upright[0] = torch.tensor([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]).double() @ upright[0]
    sensor = CAMERA.upright_poses(torch.eye(3, 4))[:, :3].T
    path = CameraTrajectory(
        w2c=torch.cat((sensor @ upright, torch.zeros(2, 3, 1)), -1),
        camera=CAMERA,
        times_s=torch.arange(2).double(),
        exo_w2c=look_at([3.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
    )
    rays, _ = CAMERA.upright().pixel_rays(torch.float64)
    video = ((rays @ upright[:, None] + 1) / 2).float()
    form = StereoForm(eye_px=96, stabilise=stabilise)
    axes = form.axes(path)
    turns = torch.eye(3).double().expand(2, 3, 3) if axes is None else axes
    wide = form.rays(CAMERA, 0.063)[0]
    written = turns.transpose(1, 2) @ upright  # from the world
    pictures = stereo_pictures(video, 1 - video, CAMERA, form, axes=axes)
    for both, turn, world in zip(pictures, turns, written, strict=True):
        ahead = (wide @ turn.T)[..., 2] > 0.7
        direction = ((wide @ world + 1) / 2).float()
        left, right = both.split(96, 1)
        assert ahead.any() and (left - direction)[ahead].abs().max() < 0.004
        assert (right - 1 + direction)[ahead].abs().max() < 0.004
        assert not both[[0, -1]].any() and not both[:, [0, 95, 96, 191]].any()
        if stabilise != "off":  # level, and not upside down
            assert abs(float(world[0, 1])) < 2e-3 and world[1, 1] > 0.8
    assert torch.allclose(*written) == (stabilise == "full")


def test_flat_screen_lies_where_it_is_said():
    """A point on the screen has one place in both eyes; the pair is rectified."""
    left, right = StereoForm(layout="flat", eye_px=64, screen_m=2.0).rays(CAMERA, 0.063)
    assert torch.allclose(2 * left - torch.tensor([0.063, 0.0, 0.0]), 2 * right, atol=1e-6)
    for wrong in ({"eye_px": 4096}, {"eye_px": 101}, {"layout": "round"}, {"stabilise": "on"}):
        with refuses("expected"):
            StereoForm(**wrong)


def children(data: bytes) -> dict[bytes, bytes]:
    """Boxes by name, from their public form: size, four letters, content."""
    found, at = {}, 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at
        found[kind] = data[at + 8 : at + size]
        at += size
    return found


@pytest.mark.parametrize("wide", [True, False])
def test_boxes_are_read_back(tmp_path, monkeypatch, wide):
    """By the public form, and every picture is where the index says."""
    path, frames = tmp_path / "film_180_LR.mp4", list(range(12))
    write_video(path, torch.rand(12, 64, 128, 3), 10.0)
    info = probe_video(path)
    before = torch.stack([torch.from_numpy(p) for _, p in decode_frames(path, info, frames)])
    if wide:
        monkeypatch.setattr(boxes, "WIDE", 1000)
    boxes.mark_stereo(path, half_sphere=True)
    after = torch.stack([torch.from_numpy(p) for _, p in decode_frames(path, info, frames)])
    assert torch.equal(before, after)
    data = path.read_bytes()
    inside, entry = data, b""
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        inside = children(inside)[name]
    assert (b"co64" in children(inside)) == wide
    ((name, entry),) = children(children(inside)[b"stsd"][8:]).items()
    inner = children(entry[78:])
    assert name == b"avc1" and inner[b"st3d"] == bytes(4) + b"\x02"  # left, right
    sphere = children(inner[b"sv3d"])
    assert sphere[b"svhd"] == bytes(4) + b"EgoX\0"
    projection = children(sphere[b"proj"])
    bounds = struct.unpack(">5I", projection[b"equi"])
    assert projection[b"prhd"] == bytes(16) and bounds == (0, 0, 0, 2**30, 2**30)


def test_what_is_no_mp4_stays_as_it_is(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"no film at all")
    with refuses("without one index"):
        boxes.mark_stereo(path, half_sphere=True)
    assert path.read_bytes() == b"no film at all" and list(tmp_path.iterdir()) == [path]
