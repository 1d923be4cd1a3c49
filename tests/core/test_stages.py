"""The seven stages take arrays of numpy and torch, refuse what doesn't fit, and can be cancelled."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core import __version__
from egox_core.cameras import CAMERA_PRESETS
from egox_core.cameras.path import CameraPath
from egox_core.frames import Frames
from egox_core.stages import align, condition, judge, load_clip, path, prior, scene
from egox_core.types import DepthVideo, seen_shares, seen_text
from egox_core.wan import denormalise_latent
from tests.refusals import refuses

FRAMES, HEIGHT, WIDTH = 5, 32, 48
K = np.array([[40.0, 0, 23.5], [0, 40.0, 15.5], [0, 0, 1]])
DRAWN = np.random.default_rng(0)
VIDEO = DRAWN.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
DEPTH = 2 + DRAWN.random((FRAMES, HEIGHT, WIDTH), np.float32)
UPPER = np.broadcast_to(np.arange(HEIGHT)[:, None] < HEIGHT // 2, DEPTH.shape).astype(np.float32)
STILL = np.eye(3, 4)[None].repeat(FRAMES, 0)


class Encoders:
    """Encodes latents of the right sizes. An embedding is the image itself."""

    def encode(self, video):
        t, h, w = 1 + (len(video) - 1) // 4, video.shape[1] // 8, video.shape[2] // 8
        return torch.full((1, 16, t, h, w), float(video.float().mean()))

    def decode(self, latent):
        return latent[0, 0, :1, :, :, None].expand(-1, -1, -1, 3)

    def embed(self, picture):
        return picture


def a_scene():
    return scene(VIDEO, DEPTH, camera=K)[0]


def a_depth():
    return align(DEPTH, camera=K)[0]


def test_arrays_go_all_the_way(device):
    on = {"device": device}
    clip, _ = load_clip(VIDEO, frame_count=FRAMES, fps=20, **on)
    assert clip.exo.dtype == torch.uint8 and np.array_equal(clip.exo.cpu(), VIDEO)
    depth, report = align(DEPTH, frames=clip.selection, camera=K, exo_w2c=STILL[0], **on)
    assert (
        np.array_equal(depth.depth_m.cpu(), DEPTH) and depth.exo.camera.fx == 40 and report.text()
    )
    trajectory, _ = path(STILL, frames=clip.selection, ego_size=HEIGHT, **on)
    assert torch.equal(trajectory.ego.frames.times_s.cpu(), clip.selection.times_s)
    points, built = scene(clip.exo, depth, dynamic_mask=np.zeros((1, HEIGHT, WIDTH)), **on)
    assert points.frame_count == FRAMES and "static points" in built.text()
    align(depth, trust=True), path(trajectory, camera="pinhole"), points.points(0)
    ego, prior_report = prior(points, trajectory, hidden_lines="leave out", classes=True, **on)
    assert "no intrinsics" in scene(VIDEO, DEPTH)[1].text()
    text = seen_text(seen_shares(ego.seen))
    assert text in prior_report.text() and "never seen (most in frame" in text
    assert ego.rgb.shape == (FRAMES, HEIGHT, HEIGHT, 3) and prior_report.covered.shape == (FRAMES,)
    conditioned, _ = condition(clip.exo, ego.rgb, Encoders(), **on)
    packed = conditioned.model_input(torch.zeros_like(conditioned.canvas.prior_latent))
    assert packed.shape == (1, 36, 2, 4, 6 + 4) and packed.dtype == torch.float32
    exo = denormalise_latent(packed[:, :16, ..., :6])
    torch.testing.assert_close(exo, conditioned.canvas.exo_latent)
    judgement, judged = judge(
        ego.rgb, scene=points, trajectory=trajectory, truth=ego.rgb.numpy(), **on
    )
    assert float(judgement.psnr_db.min()) == 100 and "PSNR" in judged.text()


def test_warnings_are_of_a_kind_not_of_words(wordless):
    """Depth in wrong units, and a lens that nothing tells."""
    assert [len(align(scale * DEPTH)[1].warnings()) for scale in (1, 200)] == [1, 2]


def test_forms_of_one_video_are_one():
    """Bytes and floats, the other byte order, the views that cv2's colours are."""
    kinds = (VIDEO / 255).astype(np.float32), (VIDEO / 255).astype(">f8"), VIDEO[..., ::-1].copy()
    depths = DEPTH, DEPTH.astype(">f4"), DEPTH[:, ::-1].copy()[:, ::-1]
    of_bytes = a_scene().static
    for video, depth in zip((*kinds[:2], kinds[2][..., ::-1]), depths, strict=True):
        points = scene(video, depth, camera=K)[0].static
        assert torch.equal(of_bytes.rgb, points.rgb) and torch.equal(of_bytes.xyz, points.xyz)


def test_the_embedding_of_a_seed_is_that_of_its_noise():
    def embedded(**options):
        return condition(VIDEO, VIDEO[:, :, :HEIGHT], Encoders(), **options)[0].embedding

    drawn = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(embedded(noise_seed=3), embedded(draw_noise=lambda _: drawn))
    assert not torch.equal(embedded(noise_seed=3), embedded(noise_seed=4))
    assert embedded(image_embedding="none") is None
    assert embedded(image_embedding="exo+prior").shape == (1, HEIGHT, WIDTH + HEIGHT, 3)


def spoilt(value: float) -> np.ndarray:
    """Make a clip of floats with one number in one frame."""
    video = np.repeat(VIDEO / 255, 4, 0)
    video[13, 3, 3] = value
    return video


def test_payloads_take_numpy_and_refuse_another_camera():
    lens = CAMERA_PRESETS["pinhole"].camera
    exo = CameraPath.of_exo(lens, STILL, Frames.timed(np.arange(FRAMES) / 30))
    assert exo.w2c.dtype == exo.frames.times_s.dtype == torch.float64 and exo == replace(exo)
    assert DepthVideo(depth_m=DEPTH[:, ::-1].astype(">f4"), exo=exo).valid.all()
    for wrong, words in ((K, "camera of the depth video: got ndarray"), (exo.at(0), "got Tensor")):
        with refuses(words):
            DepthVideo(depth_m=DEPTH, exo=wrong)
    with refuses("lens of a camera path: got ndarray"):
        CameraPath.of_exo(K)


def test_payloads_of_another_version_are_refused_with_both():
    """As a cache has kept them, and as an installed egox-core makes them beside a newer pack."""
    depth, _ = align(DEPTH, camera=K)
    again = pickle.loads(pickle.dumps(depth))
    assert torch.equal(again.depth_m, depth.depth_m) and again.exo == depth.exo
    old = {"depth_m": torch.from_numpy(DEPTH), "camera": depth.exo.camera, "exo_w2c": None}
    with refuses(f"kept DepthVideo: got one that EgoX 1.1 or older .*one of {__version__}"):
        DepthVideo.__new__(DepthVideo).__setstate__(old)
    with refuses(f"EgoX {__version__} made; expected one of {__version__} in its present state"):
        DepthVideo.__new__(DepthVideo).__setstate__(old | {"egox_core": __version__})
    with refuses(f"kept DepthVideo: .*one of {__version__}"):
        scene(VIDEO, type("DepthVideo", (), old)())


def test_a_path_of_keyframes_and_a_path_go_in():
    key = {"time_s": 0, "position": [0, 0, 1], "look_at": [0, 0.5, 2]}
    assert "turned by 90 degrees" in prior(a_scene(), STILL)[1].text()
    assert "turned" not in path(STILL, camera="pinhole")[1].placed
    trajectory, notes = path([key], count=FRAMES, scene=a_scene())
    assert trajectory.ego.w2c.shape == (FRAMES, 3, 4) and notes.prompt == ""
    smaller, _ = path(trajectory, camera="pinhole", ego_size=16)
    assert smaller.ego.camera.stored_size == (16, 16)


@pytest.mark.parametrize(
    "stage, words",
    [
        (lambda: load_clip(VIDEO[0]), "exo video: got shape"),
        (lambda: load_clip(VIDEO.astype(np.float32), frame_count=5), "floats of 0 to 255"),
        (lambda: load_clip(VIDEO.astype(np.int32), frame_count=5), "got torch.int32"),
        (lambda: scene(spoilt(255.0), np.repeat(DEPTH, 4, 0), camera=K), "floats of 0 to 255"),
        (lambda: scene(spoilt(np.nan), np.repeat(DEPTH, 4, 0), camera=K), "floats of nan"),
        (lambda: align(DEPTH[0], camera=K), "depth array: got shape"),
        (lambda: align((DEPTH * 1000).astype(np.uint16), camera=K), "uint16|int32"),
        (lambda: align(DEPTH, camera=K[:2]), "K of the exo camera: got shape"),
        (lambda: align(np.full_like(DEPTH, np.nan), camera=K), "valid"),
        (lambda: align(np.where(UPPER, DEPTH, np.nan), camera=K, sky_mask=UPPER), "not sky"),
        (lambda: path(STILL[:, :2]), "ego poses: got shape"),
        (lambda: scene(VIDEO, DEPTH, camera=K, dynamic_mask=np.ones((2, 3))), "dynamic mask"),
        (lambda: prior(DEPTH, STILL), "scene of the prior: got ndarray"),
        (lambda: prior(a_scene(), STILL, "prettiest"), "prettiest"),
        (lambda: judge(VIDEO[..., 0]), "ego video: got shape"),
        (
            lambda: load_clip("a.mp4", fps=20),
            "fps of stages.load_clip: got a value that it has no use",
        ),
        (lambda: align(a_depth(), video_depth=DEPTH), "video_depth of stages.align"),
        (lambda: align(DEPTH, camera=K, exo_w2c=STILL[:2]), "exo_w2c: got 2 frames"),
        (lambda: align(DEPTH, sockets={"depth_image": VIDEO}), "depth of stages.align"),
        (lambda: path(STILL, entry="a"), "entry of stages.path"),
        (lambda: path(path(STILL)[0], every_nth=2), "every_nth of stages.path"),
        (
            lambda: path(path(STILL, exo_w2c=STILL[0])[0], exo_w2c=np.eye(3, 4)[[1, 2, 0]]),
            "another pose",
        ),
        (lambda: prior(a_scene(), path(STILL)[0], camera="pinhole"), "camera of stages.prior"),
        (lambda: judge(VIDEO, scene=a_scene()), "scene of stages.judge"),
    ],
)
def test_wrong_arrays_are_refused(stage, words):
    """Arrays of the right kind that don't fit are refused in the rooms, whose tests name the cases."""
    with refuses(words):
        stage()


class Cancelled(Exception):
    pass


@pytest.mark.parametrize(
    "stage",
    [
        lambda stop: load_clip(VIDEO, frame_count=FRAMES, progress=stop),
        lambda stop: align(DEPTH, camera=K, video_depth=DEPTH, progress=stop),
        lambda stop: path(STILL, progress=stop),
        lambda stop: scene(VIDEO, DEPTH, camera=K, progress=stop),
        lambda stop: prior(a_scene(), STILL, progress=stop),
        lambda stop: condition(VIDEO, VIDEO, Encoders(), progress=stop),
        lambda stop: judge(
            VIDEO[:, :, :32], scene=a_scene(), trajectory=path(STILL)[0], progress=stop
        ),
    ],
)
def test_progress_cancels(stage):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        stage(stop)
