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
from egox_core.robots.episode import TIPS, Episode, frames_at, make_episodes
from egox_core.robots.fit import CameraFit, camera_fit
from egox_core.robots.hand_gaps import HandGaps
from egox_core.robots.statistics import merged, of_episode
from egox_core.stages import scene
from lab.drawn import SyntheticSpec, make_take
from tests.poses import with_ego, with_exo
from tests.refusals import refuses

from .episodes import FRAMES, LENS, episode, hands, number_of, numbered, trajectory

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
    run, path, track = episode(1), trajectory(FRAMES, 10), track_of(1)
    world = track.in_world(path.exo)[0][:, :, TIPS, :]
    turned, in_picture = path.ego.camera.project(
        transform(path.ego.w2c[:, None], world)
    )  # the sensor's own way
    known_tips = in_picture & track.valid[..., None]
    state = vectors_of(run.columns["observation.state"])[:, :, 3:]
    for tips in (state, transform(poses_of(run, "ego_w2c")[:, None, :3], world)):
        upright, _ = run.ego_camera.project(tips)
        assert known_tips.sum() > 100 and torch.allclose(
            turned[known_tips], upright[known_tips], atol=1e-4
        )
    exo = transform(poses_of(run, "exo_w2c")[:, None, :3], world)
    assert torch.allclose(exo[known_tips], track.joints[:, :, TIPS, :][known_tips])
    for which, camera in (("ego", run.ego_camera), ("exo", run.exo_camera)):
        assert camera.quarter_turns == 0
        assert (run.columns[f"egox.{which}_K"] == camera.intrinsics.flatten().numpy()).all()
        both_ways = poses_of(run, f"{which}_w2c") @ poses_of(run, f"{which}_c2w")
        assert torch.allclose(both_ways, torch.eye(4, dtype=torch.float64))


def test_an_action_is_the_next_state_from_this_head():
    run = episode(1)
    state, action = (vectors_of(run.columns[key]) for key in ("observation.state", "action"))
    heads = poses_of(run, "ego_w2c")
    step = (heads[:-1] @ heads[1:].inverse())[:, None]  # this head from the next one
    moved = state[1:] @ step[..., :3, :3].mT + POINTS * step[..., None, :3, 3]
    valid, action_valid = run.columns["egox.hand_valid"], run.columns["egox.action_valid"]
    both = action_valid[:-1]
    assert torch.allclose(moved[both], action[:-1][both], atol=1e-6)
    assert valid[:, 0].tolist() == [True] * 3 + [False] * 2 + [True] * 7
    assert action_valid[:, 0].tolist() == [True] * 2 + [False] * 3 + [True] * 7
    held_pose = state[2, 0]  # the last pose that was seen stands for the gap
    assert torch.stack((*state[3:5, 0], *action[2:4, 0])).equal(held_pose.expand(4, -1, -1))
    assert torch.allclose(moved[4, 0], action[4, 0], atol=1e-6), "where it is seen again"
    assert run.columns["egox.action_repeated"].tolist() == [False] * 11 + [True]
    assert action[-1].equal(state[-1])


@pytest.mark.parametrize(
    ("left", "right", "labelled", "pieces"),
    [
        ("v" * 20, "v" * 20, (True, True), [(0, 20)]),
        ("-" * 20, "v" * 20, (False, True), [(0, 20)]),
        ("v" * 20, "vvvvvv-----vvvvvvvvv", (True, True), [(0, 20)]),
        ("v" * 20, "vvvvvv------vvvvvvvv", (True, True), [(0, 6), (12, 20)]),
        ("v" * 20, "------vvvvvvvv------", (True, False), [(0, 20)]),
        ("v" * 20, "------vvvvvvvvvv----", (True, True), [(6, 20)]),
        ("v" * 10 + "-" * 10, "-" * 10 + "v" * 10, (True, False), [(0, 10)]),
        ("-" * 20, "-" * 20, (False, False), [(0, 20)]),
        ("vvv------vvvvvvvvvvv", "v" * 20, (True, True), [(9, 20)]),
    ],
)
def test_a_gap_is_bridged_or_cut_out(left, right, labelled, pieces):
    """At 10 frames a second, half a second is 5 frames. In the table ``v`` is a frame with a valid
    hand."""
    valid = torch.tensor([[each == "v" for each in hand] for hand in (left, right)]).T
    gaps = HandGaps.of(valid, 10)
    assert tuple(gaps.labelled.tolist()) == labelled
    assert [(int(piece[0]), int(piece[-1]) + 1) for piece in gaps.pieces] == pieces
    assert bool(gaps.text(20)) == (labelled != (True, True) or pieces != [(0, 20)])


def test_a_run_with_a_long_gap_becomes_several_episodes():
    joints = hands(40).joints.clone()
    joints[12:20, 0] = torch.nan
    runs = make_episodes(
        "run",
        "pour",
        numbered((96, 64), 0, 40),
        numbered((64, 64), 0, 40),
        trajectory(40, 10.0),
        HandTrack.of_joints(joints),
        fps=10,
        cameras="ego",
    )
    assert [(run.name, len(run)) for run in runs] == [("run_1of2", 12), ("run_2of2", 20)]
    for run, first in zip(runs, (0, 20), strict=True):
        ((key, (_, pictures)),) = run.videos.items()
        assert key == "observation.images.ego" and number_of(pictures[0].numpy()) == first
        assert run.columns["egox.source_time"][0] == pytest.approx(first / 10)
        assert run.columns["egox.action_repeated"].tolist() == [False] * (len(run) - 1) + [True]
        assert "8 of 40 frames are left out" in run.fit.text()


def test_a_policy_can_learn_from_what_is_missing():
    """Ten runs of 6 s with a third of the left hand missing in short and long gaps, in one all of it: by
    LeRobot's own formulas no normalised value is over 10, and no label stands still for over half a
    second."""
    random = np.random.default_rng(7)
    total, columns = {}, []
    for number in range(10):
        joints = hands(180).joints.clone()
        joints += 0.1 * torch.sin(torch.arange(180) / 9)[:, None, None, None]
        start = 10
        while start < 170 and number:
            gap = int(random.integers(3, 30))
            joints[start : start + gap, 0] = torch.nan
            start += 3 * gap
        if number == 4:
            joints[:, 0] = torch.nan
        pictures = torch.zeros(180, 16, 16, 3, dtype=torch.uint8)
        runs = make_episodes(
            f"run {number}",
            "pour",
            pictures,
            pictures,
            trajectory(180, 30.0),
            HandTrack.of_joints(joints),
            fps=30,
        )
        columns += [run.columns for run in runs]
        for run in runs:
            total = merged(total, of_episode(run, run.columns))
    assert len(columns) > 12
    for key in ("observation.state", "action"):
        statistics = total[key]
        for run_columns in columns:
            values = run_columns[key]
            assert np.abs((values - statistics["mean"]) / (statistics["std"] + 1e-8)).max() < 10
            assert (
                np.abs(
                    2
                    * (values - statistics["min"])
                    / (statistics["max"] - statistics["min"] + 1e-8)
                    - 1
                ).max()
                < 1.01
            )
            for hand in (0, 1):
                if run_columns["egox.hand_valid"][:, hand].any():
                    wrist = values[:, 24 * hand : 24 * hand + 3]
                    still = (np.diff(wrist, axis=0) == 0).all(1)
                    longest = max(map(len, "".join(map(str, still.astype(int))).split("0")))
                    assert longest <= 15


def test_times_of_another_rate_take_the_nearest_frames():
    run = episode(0, count=25, source_fps=24.0, resample=True)
    times = run.columns["egox.source_time"]
    assert len(run) == 11 and np.abs(times - np.arange(11) / 10).max() <= 0.5 / 24 + 1e-9
    frames = np.rint(times * 24).astype(int)
    numbers = [number_of(each.numpy()) for each in run.videos["observation.images.ego"][1]]
    assert numbers == frames.tolist()
    turned = LENS.upright_poses(trajectory(25, 24.0).ego.w2c[frames])
    assert torch.allclose(poses_of(run, "ego_w2c")[:, :3], turned)
    almost = torch.arange(49, dtype=torch.float64) / 29.97
    assert torch.equal(frames_at(almost, 30, False, "clip"), torch.arange(49))
    with refuses("uneven"):
        frames_at(torch.tensor([0.0, 0.1, 0.1, 0.2]).double(), 10, True, "clip")


def test_a_pinhole_view_has_its_own_lens():
    pinhole_run = episode(2, rectify_deg=80.0, depth_m=torch.ones(FRAMES, 64, 64))
    lens, ray = pinhole_run.ego_camera, torch.tensor([0.2, -0.1, 1.0])
    assert lens.lens == "pinhole" and lens.fx == pytest.approx(32 / math.tan(math.radians(40)))
    assert np.allclose(pinhole_run.columns["egox.ego_K"][0].reshape(3, 3), lens.intrinsics)
    before, after = (
        run.videos["observation.images.ego"][1][5, row, column].int()
        for run in (episode(2), pinhole_run)
        for column, row in [run.ego_camera.project(ray)[0].round().long()]
    )
    assert (after - before).abs().max() < 3
    assert (pinhole_run.videos["observation.images.ego_depth"][1][:, 32, 32] == 1).all()


def test_labels_are_held_against_what_a_detector_saw():
    track = track_of(3)
    joints, _ = track.in_head(trajectory(FRAMES, 10))
    shifted = joints + torch.tensor([0.01, 0.0, 0.0]) * joints[..., 2:]
    exact, off, untested = (
        episode(3, detected=detected_track).columns["egox.hand_label_px"]
        for detected_track in (HandTrack.of_joints(joints), HandTrack.of_joints(shifted), None)
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
    """The camera is off by a turn of the head or of the exo camera, about which the scene turns, or
    by ten centimetres. A generated video tells nothing but a head outside the room."""
    take = make_take(SyntheticSpec(seed=4, frames=5, exo_width=128, exo_height=80, ego_size=96))
    depth, path, ego = take.depth_video(), take.trajectory(), take.ego_frames()
    points, _ = scene(take.exo_rgb, depth)
    turn = torch.from_numpy(Rotation.from_rotvec([6, 0, 8], degrees=True).as_matrix())
    turned = with_exo(depth, turn @ path.exo.pose)
    turned_scene, _ = scene(take.exo_rgb, turned)
    shifted = path.ego.w2c.clone()
    shifted[:, 1, 3] += 0.1
    right, head_turned, head_shifted, exo_turned = (
        camera_fit(*each, ego, generated=False)
        for each in (
            (points, path),
            (points, with_ego(path, w2c=turn @ path.ego.w2c)),
            (points, with_ego(path, w2c=shifted)),
            (turned_scene, replace(path, exo=turned.exo)),
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
    shifted[:, 1, 3] += 100
    outside = camera_fit(points, with_ego(path, w2c=shifted), ego, generated=True)
    assert outside.fits == 0 and "the ego camera hardly can be" in outside.text()


def test_a_late_ego_video_is_named_as_that():
    """Not as a wrong camera, which a turned one is."""
    spec = SyntheticSpec(seed=6, frames=33, exo_width=128, exo_height=80, ego_size=96)
    take = make_take(spec)
    path, ego = take.trajectory(), take.ego_frames()
    points, _ = scene(take.exo_rgb, take.depth_video())
    late = torch.cat([ego[:1], ego[:1], ego[:1], ego[:-3]])
    turn = torch.from_numpy(Rotation.from_rotvec([3, 2, 4], degrees=True).as_matrix())
    turned = with_ego(path, w2c=turn @ path.ego.w2c)
    right, lagging, wrong = (
        camera_fit(points, *each, generated=False)
        for each in ((path, ego), (path, late), (turned, ego))
    )
    assert right.fits == 1 and lagging.fits == wrong.fits == 0
    assert "about 3 frames late" in lagging.text()
    assert "late" not in right.text() + wrong.text()
