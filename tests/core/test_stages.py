"""Test the seven stages on numpy and torch arrays: results, refused input and cancelling."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core import __version__
from egox_core.cameras import CAMERA_PRESETS, CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.frames import Frames
from egox_core.stages import adapt_path, align, condition, judge, load_clip, path, prior, scene
from egox_core.types import DepthVideo, TakeMeta, seen_shares, seen_text
from egox_core.wan import denormalise_latent
from tests.refusals import refuses

FRAMES, HEIGHT, WIDTH = 5, 32, 48
INTRINSICS = np.array([[40.0, 0, 23.5], [0, 40.0, 15.5], [0, 0, 1]])
RNG = np.random.default_rng(0)
VIDEO = RNG.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
DEPTH = 2 + RNG.random((FRAMES, HEIGHT, WIDTH), np.float32)
UPPER_HALF_MASK = np.broadcast_to(np.arange(HEIGHT)[:, None] < HEIGHT // 2, DEPTH.shape).astype(
    np.float32
)
STILL_POSES = np.eye(3, 4)[None].repeat(FRAMES, 0)
STILL_TRAJECTORY = path(STILL_POSES)[0]


class ConstantEncoders:
    """Return constant latents of the right sizes in place of real image encoders."""

    def encode(self, video):
        t = 1 + (len(video) - 1) // 4
        h = video.shape[1] // 8
        w = video.shape[2] // 8
        return torch.full((1, 16, t, h, w), float(video.float().mean()))

    def decode(self, latent):
        return latent[0, 0, :1, :, :, None].expand(-1, -1, -1, 3)

    def embed(self, picture):
        return picture


def make_scene():
    return scene(VIDEO, make_depth())[0]


def make_depth():
    return align(DEPTH, camera=INTRINSICS)[0]


def make_posed_depth():
    return align(DEPTH, camera=INTRINSICS, exo_w2c=STILL_POSES[0])[0]


def test_stages_run_on_arrays_from_video_to_judgement(device):
    device_option = {"device": device}
    clip, _ = load_clip(VIDEO, frame_count=FRAMES, fps=20, **device_option)
    assert clip.exo.dtype == torch.uint8
    assert np.array_equal(clip.exo.cpu(), VIDEO)
    depth, align_report = align(
        DEPTH, frames=clip.selection, camera=INTRINSICS, exo_w2c=STILL_POSES[0], **device_option
    )
    assert (
        np.array_equal(depth.depth_m.cpu(), DEPTH)
        and depth.exo.camera.fx == 40
        and align_report.text()
    )
    trajectory, _ = path(STILL_POSES, frames=clip.selection, ego_size=HEIGHT, **device_option)
    assert torch.equal(trajectory.ego.frames.times_s.cpu(), clip.selection.times_s)
    scene_points, scene_report = scene(
        clip.exo, depth, dynamic_mask=np.zeros((1, HEIGHT, WIDTH)), **device_option
    )
    assert scene_points.frame_count == FRAMES
    assert "static points" in scene_report.text()
    align(depth, trust=True), adapt_path(trajectory, camera="pinhole"), scene_points.points(0)
    ego_prior, prior_report = prior(
        scene_points, trajectory, hidden_lines="leave out", classes=True, **device_option
    )
    assert "no intrinsics" in align(DEPTH)[1].text()
    shares_text = seen_text(seen_shares(ego_prior.seen))
    assert shares_text in prior_report.text()
    assert "never seen (most in frame" in shares_text
    assert ego_prior.rgb.shape == (FRAMES, HEIGHT, HEIGHT, 3) and prior_report.covered.shape == (
        FRAMES,
    )
    conditioning, _ = condition(clip.exo, ego_prior.rgb, ConstantEncoders(), **device_option)
    model_input = conditioning.model_input(torch.zeros_like(conditioning.canvas.prior_latent))
    assert model_input.shape == (1, 36, 2, 4, 6 + 4)
    assert model_input.dtype == torch.float32
    exo_latent = denormalise_latent(model_input[:, :16, ..., :6])
    torch.testing.assert_close(exo_latent, conditioning.canvas.exo_latent)
    judgement, judge_report = judge(
        ego_prior.rgb,
        scene=scene_points,
        trajectory=trajectory,
        truth=ego_prior.rgb.numpy(),
        **device_option,
    )
    assert float(judgement.psnr_db.min()) == 100
    assert "PSNR" in judge_report.text()


def test_warnings_do_not_depend_on_remark_texts(are_remarks_blank):
    """Check that depth in wrong units gives a Python warning whatever the remark's text is."""
    assert [len(align(scale * DEPTH)[1].warnings()) for scale in (1, 200)] == [1, 2]


def test_array_types_of_one_video_give_the_same_points():
    """Check that byte, float, byte-swapped and reversed arrays of a video give equal scene
    points."""
    video_forms = (
        (VIDEO / 255).astype(np.float32),
        (VIDEO / 255).astype(">f8"),
        VIDEO[..., ::-1].copy(),
    )
    depth_forms = DEPTH, DEPTH.astype(">f4"), DEPTH[:, ::-1].copy()[:, ::-1]
    byte_points = make_scene().static
    for video, depth in zip(
        (*video_forms[:2], video_forms[2][..., ::-1]), depth_forms, strict=True
    ):
        scene_points = scene(video, align(depth, camera=INTRINSICS)[0])[0].static
        assert torch.equal(byte_points.rgb, scene_points.rgb) and torch.equal(
            byte_points.xyz, scene_points.xyz
        )


def test_embedding_depends_on_the_noise_seed():
    def make_embedding(**options):
        return condition(VIDEO, VIDEO[:, :, :HEIGHT], ConstantEncoders(), **options)[0].embedding

    noise = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(make_embedding(noise_seed=3), make_embedding(draw_noise=lambda _: noise))
    assert not torch.equal(make_embedding(noise_seed=3), make_embedding(noise_seed=4))


def video_with_value(value: float) -> np.ndarray:
    """Build a float video in which one pixel has the given value."""
    video = np.repeat(VIDEO / 255, 4, 0)
    video[13, 3, 3] = value
    return video


def test_payloads_take_numpy_and_refuse_wrong_cameras():
    lens = CAMERA_PRESETS["pinhole"].camera
    exo_path = CameraPath.of_exo(lens, STILL_POSES, Frames.timed(np.arange(FRAMES) / 30))
    assert (
        exo_path.w2c.dtype == exo_path.frames.times_s.dtype == torch.float64
        and exo_path == replace(exo_path)
    )
    assert DepthVideo(depth_m=DEPTH[:, ::-1].astype(">f4"), exo=exo_path).valid.all()
    for wrong_camera, expected_text in (
        (INTRINSICS, "camera of the depth video: got ndarray"),
        (exo_path.at(0), "got Tensor"),
    ):
        with refuses(expected_text):
            DepthVideo(depth_m=DEPTH, exo=wrong_camera)
    with refuses("lens of a camera path: got ndarray"):
        CameraPath.of_exo(INTRINSICS)


def test_payloads_of_another_version_are_refused():
    """Check that payloads stored by another EgoX version are refused."""
    depth, _ = align(DEPTH, camera=INTRINSICS)
    pickled_depth = pickle.dumps(depth, protocol=0)  # in which the class is named as text
    older_pickle = pickled_depth.replace(b"egox_core.types.depth_video", b"egox_core.types")
    assert older_pickle != pickled_depth
    for restored_depth in (pickle.loads(pickled_depth), pickle.loads(older_pickle)):
        assert torch.equal(restored_depth.depth_m, depth.depth_m)
        assert restored_depth.exo == depth.exo
    old_depth_state = {
        "depth_m": torch.from_numpy(DEPTH),
        "camera": depth.exo.camera,
        "exo_w2c": None,
    }
    with refuses(f"kept DepthVideo: got one that EgoX 1.1 or older .*one of {__version__}"):
        DepthVideo.__new__(DepthVideo).__setstate__(old_depth_state)
    with refuses(f"EgoX {__version__} made; expected one of {__version__} in its present state"):
        DepthVideo.__new__(DepthVideo).__setstate__(old_depth_state | {"egox_core": __version__})
    with refuses(f"kept DepthVideo: .*one of {__version__}"):
        scene(VIDEO, type("DepthVideo", (), old_depth_state)())
    with refuses(f"kept CameraTrajectory: .*one of {__version__}"):
        prior(make_scene(), type("CameraTrajectory", (), {"w2c": STILL_POSES})())


def test_stages_take_keyframes_and_paths():
    keyframe = {"time_s": 0, "position": [0, 0, 1], "look_at": [0, 0.5, 2]}
    assert "turned by 90 degrees" in path(STILL_POSES)[1].placed
    assert "turned" not in path(STILL_POSES, camera="pinhole")[1].placed
    trajectory, notes = path([keyframe], count=FRAMES, scene=make_scene())
    assert trajectory.ego.w2c.shape == (FRAMES, 3, 4)
    assert notes.prompt == ""
    smaller_path, _ = adapt_path(trajectory, camera="pinhole", ego_size=16)
    assert smaller_path.ego.camera.stored_size == (16, 16)
    wide_lens = CameraModel.pinhole(32, 16, 20.0)
    square_path, notes = adapt_path(trajectory, camera=wide_lens, ego_size=16)
    assert square_path.ego.camera == replace(wide_lens, width=16, cx=wide_lens.cx - 8)
    assert "the middle 16x16 px are used" in notes.placed
    assert trajectory.ego.lens_guessed and adapt_path(trajectory)[0].ego.lens_guessed
    chosen = path([keyframe], count=FRAMES, camera="aria_released")[0]
    for known in (chosen, adapt_path(chosen)[0], smaller_path):
        assert not known.ego.lens_guessed


def test_all_frames_of_a_video_are_asked_for():
    eight_frames = np.repeat(VIDEO, 2, 0)[:8]
    clip, report = load_clip(eight_frames, frame_count=None, one_shot=True)
    assert len(clip.exo) == 5 and "the 3 after them are not" in report.text()
    _, whole_report = load_clip(VIDEO, frame_count=None, one_shot=True)
    _, five_report = load_clip(eight_frames, frame_count=5, one_shot=True)
    assert not whole_report.notes and not five_report.notes
    slower_frames = np.repeat(VIDEO, 4, 0)  # 20
    for rate_option in ({"step": 2}, {"target_fps": 10}):
        clip, _ = load_clip(slower_frames, frame_count=None, fps=20, one_shot=True, **rate_option)
        assert clip.selection.indices.tolist() == list(range(0, 18, 2))
    with refuses("start_frame"):
        load_clip(VIDEO, frame_count=None, start_frame=9)


def test_poses_may_have_a_fourth_row():
    square_poses = np.eye(4)[None].repeat(FRAMES, 0)
    trajectory, _ = path(square_poses, exo_w2c=square_poses[0])
    assert torch.equal(trajectory.ego.w2c, path(STILL_POSES)[0].ego.w2c)
    square_poses[2, 3, 0] = 1
    with refuses("last row"):
        path(square_poses)


@pytest.mark.parametrize(
    "call_stage, message_pattern",
    [
        (lambda: load_clip(VIDEO[0]), "exo video: got shape.*frames, height, width, channels"),
        (lambda: load_clip(VIDEO.astype(np.float32), frame_count=5), "floats of 0 to 255"),
        (lambda: load_clip(VIDEO.astype(np.int32), frame_count=5), "got torch.int32"),
        (
            lambda: scene(video_with_value(255.0), make_depth()),
            "floats of 0 to 255",
        ),
        (
            lambda: scene(video_with_value(np.nan), make_depth()),
            "floats of nan",
        ),
        (lambda: align(DEPTH[0], camera=INTRINSICS), "depth array: got shape.*frames, height"),
        (lambda: align(DEPTH[..., None], camera=INTRINSICS), "drop the last axis"),
        (lambda: path(STILL_POSES[:, :2]), "ego poses: got shape"),
        (lambda: align((DEPTH * 1000).astype(np.uint16), camera=INTRINSICS), "uint16|int32"),
        (lambda: align(DEPTH, camera=INTRINSICS[:2]), "K of the exo camera: got shape"),
        (lambda: align(np.full_like(DEPTH, np.nan), camera=INTRINSICS), "valid"),
        (
            lambda: align(
                np.where(UPPER_HALF_MASK, DEPTH, np.nan),
                camera=INTRINSICS,
                sky_mask=UPPER_HALF_MASK,
            ),
            "not sky",
        ),
        (
            lambda: scene(VIDEO, make_depth(), dynamic_mask=np.ones((2, 3))),
            "dynamic mask",
        ),
        *(
            (lambda wrong=wrong: scene(VIDEO, wrong), f"depth of the scene: got {name}.*align")
            for wrong, name in (
                (DEPTH, "ndarray"),
                (Path("depth.npz"), ".*Path"),
                (STILL_TRAJECTORY, "CameraTrajectory"),
            )
        ),
        *(
            (lambda wrong=wrong: prior(make_scene(), wrong), f"path of the prior: got {name}.*path")
            for wrong, name in (
                (STILL_POSES, "ndarray"),
                (Path("meta.json"), ".*Path"),
                ([{"time_s": 0, "position": [0, 0, 1], "look_at": [0, 0.5, 2]}], "list"),
                (TakeMeta(name="take"), "TakeMeta"),
            )
        ),
        (lambda: prior(DEPTH, STILL_TRAJECTORY), "scene of the prior: got ndarray"),
        (lambda: prior(make_scene(), STILL_TRAJECTORY, "prettiest"), "prettiest"),
        (lambda: judge(VIDEO[..., 0]), "ego video: got shape"),
        (
            lambda: load_clip("a.mp4", fps=20),
            "fps of stages.load_clip: got a value that it has no use",
        ),
        (lambda: align(make_depth(), video_depth=DEPTH), "video_depth of stages.align"),
        (lambda: align(DEPTH, camera=INTRINSICS, exo_w2c=STILL_POSES[:2]), "exo_w2c: got 2 frames"),
        (lambda: align(DEPTH, sockets={"depth_image": VIDEO}), "depth of stages.align"),
        (lambda: path(STILL_POSES, entry="a"), "entry of stages.path"),
        (lambda: path([], every_nth=2), "every_nth of stages.path"),
        (lambda: path(STILL_TRAJECTORY), "poses of stages.path: got a path.*adapt_path"),
        (lambda: adapt_path(STILL_POSES), "path to adapt: got ndarray"),
        (
            lambda: align(make_posed_depth(), exo_w2c=np.eye(3, 4)[[1, 2, 0]]),
            "another pose",
        ),
        (lambda: judge(VIDEO, scene=make_scene()), "scene of stages.judge"),
    ],
)
def test_unfitting_arrays_and_arguments_are_refused(call_stage, message_pattern):
    with refuses(message_pattern):
        call_stage()


class Cancelled(Exception):
    pass


@pytest.mark.parametrize(
    "call_stage",
    [
        lambda raise_cancelled: load_clip(VIDEO, frame_count=FRAMES, progress=raise_cancelled),
        lambda raise_cancelled: align(
            DEPTH, camera=INTRINSICS, video_depth=DEPTH, progress=raise_cancelled
        ),
        lambda raise_cancelled: path(STILL_POSES, progress=raise_cancelled),
        lambda raise_cancelled: scene(VIDEO, make_depth(), progress=raise_cancelled),
        lambda raise_cancelled: prior(make_scene(), STILL_TRAJECTORY, progress=raise_cancelled),
        lambda raise_cancelled: condition(
            VIDEO, VIDEO, ConstantEncoders(), progress=raise_cancelled
        ),
        lambda raise_cancelled: judge(
            VIDEO[:, :, :32],
            scene=make_scene(),
            trajectory=path(STILL_POSES)[0],
            progress=raise_cancelled,
        ),
    ],
)
def test_every_stage_is_cancelled_by_its_progress_callback(call_stage):
    def raise_cancelled(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        call_stage(raise_cancelled)
