"""Both eyes as a headset reads them: directions, the horizon, and the boxes of the file."""

import struct

import av
import numpy as np
import pytest
import torch

from egox_core.cameras.presets import preset_camera
from egox_core.stereo import boxes
from egox_core.stereo.boxes import mark_stereo
from egox_core.stereo.pictures import StereoForm, stereo_pictures
from egox_core.trajectory.poses import look_at
from egox_core.types import CameraTrajectory
from tests.refusals import refuses

CAMERA = preset_camera("aria_released", 128)
DOWN = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def head() -> CameraTrajectory:
    """A head that turns and leans, filmed from the side by a camera that doesn't."""
    turn = torch.tensor([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]]).double()
    ways = ([0.4, 0.5, 2.0], [-0.5, 0.3, 2.0])
    upright = torch.stack([look_at([0.0, 0.0, 0.0], way) for way in ways])
    upright[0] = turn @ upright[0]
    sensor = CAMERA.upright_poses(torch.eye(3, 4).double())[:, :3].T
    return CameraTrajectory(
        w2c=sensor @ upright,
        camera=CAMERA,
        times_s=torch.arange(2).double(),
        exo_w2c=look_at([3.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
    )


@pytest.mark.parametrize("stabilise", ["full", "horizon", "off"])
def test_each_direction_is_where_the_half_sphere_has_it(stabilise):
    """Pictures whose colours are the world's directions."""
    path = head()
    upright = CAMERA.upright_poses(path.w2c)[..., :3]
    rays = CAMERA.upright().pixel_rays(torch.float64)[0]
    video = ((rays @ upright[:, None] + 1) / 2).float()
    form = StereoForm(eye_px=96, stabilise=stabilise)
    axes = form.axes(path)
    written = upright if axes is None else axes.transpose(1, 2) @ upright
    wide = form.rays(CAMERA, 0.063)[0]
    pictures = stereo_pictures(video, 1 - video, CAMERA, form, eyes_m=0.063, axes=axes)
    for t, both in enumerate(pictures):
        ahead = (wide if axes is None else wide @ axes[t].T)[..., 2] > 0.7
        direction = ((wide @ written[t] + 1) / 2).float()
        assert both.shape == (96, 192, 3) and bool(ahead.any())
        assert (both[:, :96] - direction)[ahead].abs().max() < 0.004
        assert (both[:, 96:] - 1 + direction)[ahead].abs().max() < 0.004
        assert not both[[0, -1]].any() and not both[:, [0, 95, 96, 191]].any()
        assert torch.allclose(written[t] @ written[t].T, torch.eye(3).double(), atol=1e-5)
        if stabilise != "off":
            assert abs(float(written[t][0] @ DOWN)) < 2e-3 and written[t][1] @ DOWN > 0.8
    if stabilise == "full":
        assert torch.allclose(written[0], written[1])


def test_flat_screen_lies_where_it_is_said():
    """What lies on the screen has one place in both eyes; the pair is rectified."""
    form = StereoForm(layout="flat", eye_px=64, fov_deg=80.0, screen_m=2.0)
    left, right = form.rays(CAMERA, 0.063)
    place = 2.0 * left  # z = 1: on the screen
    assert torch.allclose(place - torch.tensor([0.063, 0.0, 0.0]), 2.0 * right, atol=1e-6)
    assert StereoForm(layout="flat").axes(head()) is None
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


def write(path, *, front: bool) -> list[np.ndarray]:
    """A film with sound, its index in front or not; its pictures as they are decoded."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if front else {}) as file:
        film, sound = file.add_stream("libx264", rate=10), file.add_stream("aac", rate=8000)
        film.width, film.height, film.pix_fmt = 128, 64, "yuv420p"
        for level in range(12):
            picture = np.full((64, 128, 3), 20 * level, np.uint8)
            file.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 8000)).astype(np.float32)
        heard = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        heard.sample_rate = 8000
        for stream, last in ((sound, heard), (sound, None), (film, None)):
            file.mux(stream.encode(last))
    return decoded(path)


def decoded(path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        pictures = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    with av.open(str(path)) as file:
        return pictures + [f.to_ndarray() for f in file.decode(audio=0)]


@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_boxes_are_read_back(tmp_path, monkeypatch, front, wide):
    """By the public form, and every picture and sound is where the index says."""
    path = tmp_path / "film_180_LR.mp4"
    before = write(path, front=front)
    if wide:
        monkeypatch.setattr(boxes, "WIDE", 1000)
    mark_stereo(path, half_sphere=False)
    mark_stereo(path, half_sphere=True)  # in place of the first
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    after = decoded(path)
    assert len(after) == len(before) > 12
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    table = children(children(data)[b"moov"])[b"trak"]  # of two the last: the sound's
    media = children(children(children(table)[b"mdia"])[b"minf"])[b"stbl"]
    assert (b"co64" in children(media)) == wide
    assert data.count(b"st3d") == data.count(b"sv3d") == 1
    begin = data.index(b"avc1", data.index(b"stsd")) - 4
    entry = data[begin : begin + struct.unpack_from(">I", data, begin)[0]]
    inner = children(entry[86:])
    assert list(inner)[:3] == [b"avcC", b"st3d", b"sv3d"]
    assert inner[b"st3d"] == bytes(4) + b"\x02"  # left, right
    sphere = children(inner[b"sv3d"])
    assert sphere[b"svhd"] == bytes(4) + b"EgoX\0"
    projection = children(sphere[b"proj"])
    assert projection[b"prhd"] == bytes(16)
    quarter = 2**30
    assert struct.unpack(">5I", projection[b"equi"]) == (0, 0, 0, quarter, quarter)


def test_what_is_no_mp4_stays_as_it_is(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"no film at all")
    with refuses("without one index"):
        mark_stereo(path, half_sphere=True)
    assert path.read_bytes() == b"no film at all" and list(tmp_path.iterdir()) == [path]
