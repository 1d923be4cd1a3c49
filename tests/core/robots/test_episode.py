"""Labels of an episode for hands, cameras and times, against the pictures next to them."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.poses import transform
from egox_core.hands.track import HandTrack
from egox_core.remarks import Remark
from egox_core.robots.episode import TIPS, Episode, frames_at
from egox_core.robots.fit import CameraFit, camera_fit
from egox_core.stages import scene
from lab.drawn import SyntheticSpec, make_take
from tests.poses import with_ego, with_exo
from tests.refusals import refuses

from .episodes import FRAMES, LENS, episode, hands, number_of, trajectory

POINTS = torch.tensor([1.0, 0, 0, 1, 1, 1, 1, 1])[:, None]
"""Points among a hand's eight vectors: the wrist, two axes of its rotation, five finger tips."""


def vectors_of(values: np.ndarray) -> torch.Tensor:  # [T, 48] -> [T, 2, 8, 3]
    return torch.from_numpy(values).double().view(-1, 2, 8, 3)


def poses_of(own: Episode, name: str) -> torch.Tensor:  # [T, 4, 4]
    return torch.from_numpy(own.columns[f"egox.{name}"]).view(-1, 4, 4)


def track_of(number: int) -> HandTrack:
    torch.manual_seed(number)
    return hands(FRAMES)


def test_labels_lie_on_the_pixels_of_the_pictures_as_stored():
    own, path, track = episode(1), trajectory(FRAMES, 10), track_of(1)
    world = track.in_world(path.exo)[0][:, :, TIPS, :]
    turned, seen = path.ego.camera.project(
        transform(path.ego.w2c[:, None], world)
    )  # the sensor's own way
    known = seen & track.valid[..., None]
    state = vectors_of(own.columns["observation.state"])[:, :, 3:]
    for tips in (state, transform(poses_of(own, "ego_w2c")[:, None, :3], world)):
        upright, _ = own.ego_camera.project(tips)
        assert known.sum() > 100 and torch.allclose(turned[known], upright[known], atol=1e-4)
    exo = transform(poses_of(own, "exo_w2c")[:, None, :3], world)
    assert torch.allclose(exo[known], track.joints[:, :, TIPS, :][known])
    for which, camera in (("ego", own.ego_camera), ("exo", own.exo_camera)):
        assert camera.quarter_turns == 0
        assert (own.columns[f"egox.{which}_K"] == camera.intrinsics.flatten().numpy()).all()
        both_ways = poses_of(own, f"{which}_w2c") @ poses_of(own, f"{which}_c2w")
        assert torch.allclose(both_ways, torch.eye(4, dtype=torch.float64))


def test_an_action_is_the_next_state_from_this_head():
    own = episode(1)
    state, action = (vectors_of(own.columns[key]) for key in ("observation.state", "action"))
    heads = poses_of(own, "ego_w2c")
    step = (heads[:-1] @ heads[1:].inverse())[:, None]  # this head from the next one
    moved = state[1:] @ step[..., :3, :3].mT + POINTS * step[..., None, :3, 3]
    valid, action_valid = own.columns["egox.hand_valid"], own.columns["egox.action_valid"]
    both = action_valid[:-1]
    assert torch.allclose(moved[both], action[:-1][both], atol=1e-6)
    assert valid[:, 0].tolist() == [True] * 3 + [False] * 2 + [True] * 7
    assert action_valid[:, 0].tolist() == [True] * 2 + [False] * 3 + [True] * 7
    assert state[valid].all() and not state[~valid].any() and not action[~action_valid].any()
    assert own.columns["egox.action_repeated"].tolist() == [False] * 11 + [True]
    assert action[-1].equal(state[-1])


def test_times_of_another_rate_take_the_nearest_frames():
    own = episode(0, count=25, source_fps=24.0, resample=True)
    times = own.columns["egox.source_time"]
    assert len(own) == 11 and np.abs(times - np.arange(11) / 10).max() <= 0.5 / 24 + 1e-9
    frames = np.rint(times * 24).astype(int)
    shown = [number_of(each.numpy()) for each in own.videos["observation.images.ego"][1]]
    assert shown == frames.tolist()
    turned = LENS.upright_poses(trajectory(25, 24.0).ego.w2c[frames])
    assert torch.allclose(poses_of(own, "ego_w2c")[:, :3], turned)
    almost = torch.arange(49, dtype=torch.float64) / 29.97
    assert torch.equal(frames_at(almost, 30, False, "clip"), torch.arange(49))
    with refuses("uneven"):
        frames_at(torch.tensor([0.0, 0.1, 0.1, 0.2]).double(), 10, True, "clip")


def test_a_pinhole_view_has_its_own_lens():
    own = episode(2, rectify_deg=80.0, depth_m=torch.ones(FRAMES, 64, 64))
    lens, ray = own.ego_camera, torch.tensor([0.2, -0.1, 1.0])
    assert lens.lens == "pinhole" and lens.fx == pytest.approx(32 / math.tan(math.radians(40)))
    assert np.allclose(own.columns["egox.ego_K"][0].reshape(3, 3), lens.intrinsics)
    before, after = (
        run.videos["observation.images.ego"][1][5, row, column].int()
        for run in (episode(2), own)
        for column, row in [run.ego_camera.project(ray)[0].round().long()]
    )
    assert (after - before).abs().max() < 3
    assert (own.videos["observation.images.ego_depth"][1][:, 32, 32] == 1).all()


def test_labels_are_held_against_what_a_detector_saw():
    track = track_of(3)
    joints, _ = track.in_head(trajectory(FRAMES, 10))
    shifted = joints + torch.tensor([0.01, 0.0, 0.0]) * joints[..., 2:]
    exact, off, untested = (
        episode(3, detected=seen).columns["egox.hand_label_px"]
        for seen in (HandTrack.of_joints(joints), HandTrack.of_joints(shifted), None)
    )
    valid = track.valid.numpy() & (exact >= 0)
    assert valid.sum() > 10 and exact[valid].max() < 1e-3
    assert 0.05 < off[valid].min() and off[valid].max() < 0.01 * LENS.fy + 0.05
    assert (off[~track.valid.numpy()] == -1).all() and (untested == -1).all()


def test_what_makes_no_episode_is_refused(wordless):
    wrong = CameraFit(path_deg=torch.zeros(FRAMES), fits=0, notes=(Remark("7° off"),))
    assert (episode(0, fit=wrong).columns["egox.camera_fits"] == 0).all()
    with refuses("cameras of" if wordless else "7° off"):
        episode(0, fit=wrong, strict=True)
    with refuses("5 of depth"):
        episode(0, depth_m=torch.ones(5, 64, 64))


def test_a_true_video_tells_of_a_camera_that_is_wrong():
    """By a turn of the head or of the exo camera, about which the scene turns, or by ten centimetres;
    a generated one tells nothing."""
    take = make_take(SyntheticSpec(seed=4, frames=5, exo_width=128, exo_height=80, ego_size=96))
    depth, path, ego = take.depth_video(), take.trajectory(), take.ego_frames()
    points, _ = scene(take.exo_rgb, depth)
    turn = torch.from_numpy(Rotation.from_rotvec([6, 0, 8], degrees=True).as_matrix())
    turned = with_exo(depth, turn @ path.exo.pose)
    beside, _ = scene(take.exo_rgb, turned)
    shifted = path.ego.w2c.clone()
    shifted[:, 1, 3] += 0.1
    right, head_turned, head_shifted, exo_turned = (
        camera_fit(*each, ego, generated=False)
        for each in (
            (points, path),
            (points, with_ego(path, w2c=turn @ path.ego.w2c)),
            (points, with_ego(path, w2c=shifted)),
            (beside, replace(path, exo=turned.exo)),
        )
    )
    assert right.fits == 1 and right.path_deg.max() < 1
    for fit in (head_turned, exo_turned):
        assert fit.fits == 0 and fit.path_deg.median() == pytest.approx(10, abs=1)
    assert head_shifted.fits == 0
    assert 8 <= int(re.search(r"(\d+) cm off", head_shifted.text())[1]) <= 12
    foreign, _ = scene(take.exo_rgb, replace(depth, depth_m=depth.depth_m.flip(2)))
    generated = camera_fit(foreign, path, ego, generated=True)
    assert generated.fits == -1 and "the depth doesn't fit" in generated.text()
