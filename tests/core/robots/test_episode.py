"""Labels of an episode for hands, cameras and times, against the pictures next to them."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.model import CameraModel
from egox_core.hands.track import HandTrack
from egox_core.robots.episode import STATE_NAMES, TIPS, frames_at
from egox_core.robots.fit import CameraFit, camera_fit
from egox_core.stages import scene
from egox_core.trajectory.poses import compose, invert, transform
from lab.drawn import SyntheticSpec, make_take
from tests.refusals import refuses

from .episodes import EXO_LENS, FRAMES, LENS, episode, hands, number_of, trajectory


def tips_of(values: np.ndarray) -> torch.Tensor:  # [T, 48] -> [T, 2, 5, 3]
    return torch.from_numpy(values).double().view(-1, 2, 24)[..., 9:].unflatten(-1, (5, 3))


def track_of(number: int) -> HandTrack:
    torch.manual_seed(number)
    return hands(FRAMES)


def test_the_state_lies_on_the_pixels_of_the_picture_as_stored():
    own, path = episode(1), trajectory(FRAMES, 10)
    track = track_of(1)
    world = transform(invert(path.exo_w2c), track.joints)
    sensor = transform(path.w2c[:, None], world)[:, :, TIPS, :]
    turned, seen = path.camera.project(sensor)  # the turned sensor's own way to stored pixels
    upright, _ = own.ego_camera.project(tips_of(own.columns["observation.state"]))
    known = seen & track.valid[..., None]
    assert known.sum() > 100 and torch.allclose(turned[known], upright[known].to(turned), atol=1e-4)
    k = own.columns["egox.ego_K"].reshape(-1, 3, 3)
    assert np.allclose(k, own.ego_camera.intrinsics) and own.ego_camera.quarter_turns == 0
    w2c = own.columns["egox.ego_w2c"].reshape(-1, 4, 4)
    head = torch.from_numpy(w2c)[:, None, :3]
    again, _ = own.ego_camera.project(transform(head, world)[:, :, TIPS, :])
    assert torch.allclose(again[known], turned[known], atol=1e-9)
    assert np.allclose(w2c @ own.columns["egox.ego_c2w"].reshape(-1, 4, 4), np.eye(4))
    exo_w2c = torch.from_numpy(own.columns["egox.exo_w2c"].reshape(-1, 4, 4))[:, None, :3]
    assert torch.allclose(transform(exo_w2c, world).nan_to_num(), track.joints.nan_to_num())


def test_an_action_is_the_next_state_from_this_head():
    own = episode(1)
    state, action = (own.columns[key] for key in ("observation.state", "action"))
    heads = torch.from_numpy(own.columns["egox.ego_w2c"].reshape(-1, 4, 4))[:, :3]
    step = compose(heads[:-1], invert(heads[1:]))  # this head from the next one
    moved = transform(step[:, None], tips_of(state[1:]))
    valid = torch.from_numpy(own.columns["egox.action_valid"])
    assert torch.allclose(moved[valid[:-1]], tips_of(action[:-1])[valid[:-1]], atol=1e-6)
    at = STATE_NAMES.index("right_wrist_r11")
    now, then = (
        torch.from_numpy(each[:, at : at + 6]).double().view(-1, 2, 3).mT
        for each in (state, action)
    )
    assert torch.allclose(step[:, :, :3] @ now[1:], then[:-1], atol=1e-6)
    assert own.columns["egox.hand_valid"][:, 0].tolist() == [True] * 3 + [False] * 2 + [True] * 7
    assert valid[:, 0].tolist() == [True] * 2 + [False] * 3 + [True] * 7
    assert not state[3, :24].any() and not action[2, :24].any() and state[3, 24:].all()
    assert own.columns["egox.action_repeated"].tolist() == [False] * 11 + [True]
    assert np.array_equal(state[-1], action[-1])


def test_times_of_another_rate_take_the_nearest_frames():
    own = episode(0, count=25, source_fps=24.0, resample=True)
    times = own.columns["egox.source_time"]
    assert len(own) == 11 and np.abs(times - np.arange(11) / 10).max() <= 0.5 / 24 + 1e-9
    frames = np.rint(times * 24).astype(int)
    shown = [number_of(each.numpy()) for each in own.videos["observation.images.ego"][1]]
    assert shown == frames.tolist()
    turned = LENS.upright_poses(trajectory(25, 24.0).w2c[frames])
    assert np.allclose(own.columns["egox.ego_w2c"].reshape(-1, 4, 4)[:, :3], turned)
    almost = torch.arange(49, dtype=torch.float64) / 29.97
    assert torch.equal(frames_at(almost, 30, False, "clip"), torch.arange(49))
    with refuses("uneven"):
        frames_at(torch.tensor([0.0, 0.1, 0.1, 0.2]).double(), 10, True, "clip")


def test_a_pinhole_view_has_its_own_lens():
    own = episode(2, rectify_deg=80.0, depth_m=torch.ones(FRAMES, 64, 64))
    lens = own.ego_camera
    assert lens.lens == "pinhole" and lens.fx == pytest.approx(32 / math.tan(math.radians(40)))
    assert np.allclose(own.columns["egox.ego_K"][0].reshape(3, 3), lens.intrinsics)
    wide, ray = LENS.upright(), torch.tensor([[0.2, -0.1, 1.0]])
    (fish,), (flat,) = wide.project(ray)[0].round().long(), lens.project(ray)[0].round().long()
    before = episode(2).videos["observation.images.ego"][1][5]
    after = own.videos["observation.images.ego"][1][5]
    difference = after[flat[1], flat[0]].int() - before[fish[1], fish[0]].int()
    assert difference.abs().max() < 3
    assert (own.videos["observation.images.ego_depth"][1][:, 32, 32] == 1).all()


def test_labels_are_held_against_what_a_detector_saw():
    path, track = trajectory(FRAMES, 10), track_of(3)
    joints, _ = track.in_head(path)
    shifted = joints + torch.tensor([0.01, 0.0, 0.0]) * joints[..., 2:]
    seen = HandTrack.of_joints(shifted)
    own = episode(3, detected=seen).columns["egox.hand_label_px"]
    exact = episode(3, detected=HandTrack.of_joints(joints)).columns["egox.hand_label_px"]
    valid = track.valid.numpy() & (exact >= 0)
    assert valid.sum() > 10 and exact[valid].max() < 1e-3
    assert 0.05 < own[valid].min() and own[valid].max() < 0.01 * LENS.fy + 0.05
    assert (own[~track.valid.numpy()] == -1).all()
    assert (episode(3).columns["egox.hand_label_px"] == -1).all(), "not testable"


def test_what_makes_no_episode_is_refused():
    wrong = CameraFit(path_deg=torch.zeros(FRAMES), fits=0, notes=("7° off",))
    assert (episode(0, fit=wrong).columns["egox.camera_fits"] == 0).all()
    with refuses("7° off"):
        episode(0, fit=wrong, strict=True)
    with refuses("5 of depth"):
        episode(0, depth_m=torch.ones(5, 64, 64))
    assert CameraModel.pinhole(96, 64, 80.0) == EXO_LENS == episode(0).exo_camera


def test_a_true_video_tells_of_a_camera_that_is_wrong():
    """By a turn of the head or of the exo camera, about which the scene turns, or by ten centimetres;
    a generated one tells nothing."""
    take = make_take(SyntheticSpec(seed=4, frames=5, exo_width=128, exo_height=80, ego_size=96))
    depth, path, ego = take.depth_video(), take.trajectory(), take.ego_frames()
    points, _ = scene(take.exo_rgb, depth)
    turn = torch.from_numpy(Rotation.from_rotvec([6, 0, 8], degrees=True).as_matrix())
    shift = torch.zeros(3, 4, dtype=torch.float64)
    shift[1, 3] = 0.1
    turned = {"exo_w2c": turn @ path.exo_w2c}
    beside, _ = scene(take.exo_rgb, replace(depth, **turned))
    cases = [
        (points, path),
        (points, replace(path, w2c=turn @ path.w2c)),
        (points, replace(path, w2c=path.w2c + shift)),
        (beside, replace(path, **turned)),
    ]
    fits = [camera_fit(*each, ego, generated=False) for each in cases]
    assert [fit.fits for fit in fits] == [1, 0, 0, 0]
    assert fits[0].path_deg.max() < 1
    for fit in (fits[1], fits[3]):
        assert fit.path_deg.median() == pytest.approx(10, abs=1)
    off_cm = [int(re.search(r"(\d+) cm off", fit.text())[1]) for fit in fits]
    assert off_cm[0] < 3 and 8 <= off_cm[2] <= 12 < off_cm[3]
    assert camera_fit(*cases[3], ego, generated=True).fits == -1
    foreign, _ = scene(take.exo_rgb, replace(depth, depth_m=depth.depth_m.flip(2)))
    assert "the depth doesn't fit" in camera_fit(foreign, path, ego, generated=True).text()
