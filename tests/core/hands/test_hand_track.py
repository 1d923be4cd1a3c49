"""Tracks of both hands: the wrists' turn, other frames, and the file."""

import json
import re
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras import look_at, preset_camera
from egox_core.hands import HandTrack, read_hands, write_hands
from egox_core.hands.track import PALM, PALMS, wrist_turns
from lab.drawn.person import HAND
from tests.frames_in_use import frames_in_use
from tests.poses import path_of
from tests.refusals import refuses


def palms(turns: torch.Tensor) -> torch.Tensor:  # [T, 3, 3] -> [T, 2, 21, 3]
    """Both hands turned alike, 0.4 m before the exo camera."""
    right = torch.from_numpy(HAND[:, [1, 0, 2]])
    hand = torch.stack([right * torch.tensor([1, -1, 1]), right])
    hand[:, PALM] = PALMS
    return hand @ turns.mT.unsqueeze(1) + torch.tensor([0.0, 0.0, 0.4])


def random_turns(count: int) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(count, random_state=1).as_matrix())


def angles_deg(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    trace = (a.mT @ b).diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).arccos())


def test_hands_laid_side_by_side_are_turned_alike_and_noise_is_small():
    turns = random_turns(500)
    hands = palms(turns)
    assert (wrist_turns(hands) - turns[:, None]).abs().max() < 1e-9
    assert torch.linalg.det(wrist_turns(hands)).allclose(torch.tensor(1.0, dtype=torch.float64))
    noise = 0.01 * torch.randn(hands.shape, generator=torch.Generator().manual_seed(2)).double()
    off = angles_deg(wrist_turns(hands + noise), turns[:, None])
    assert off.median() < 13 and off.quantile(0.95) < 26
    hands[3, 0, PALM[2], 1] = torch.nan
    assert wrist_turns(hands)[3, 0].isnan().all() and wrist_turns(hands)[3, 1].isfinite().all()


def test_the_head_is_the_upright_ego_camera():
    """Projected from there, they are where the turned sensor sees them from the world."""
    camera = preset_camera("aria_released", 448)
    exo_w2c = look_at([0.1, -0.5, -0.4], [0.0, 0.0, 0.5])
    w2c = torch.stack([look_at([0.0, 0.1 * t, -0.3], [0.0, 0.0, 0.3]) for t in range(2)])
    path = path_of(w2c, camera, exo_w2c=exo_w2c)
    track = HandTrack.of_joints(palms(random_turns(2)))
    world, world_turns = track.in_world(path.exo)
    sensor = world @ w2c[:, None, :, :3].mT + w2c[:, None, None, :, 3]
    joints, turns = track.in_head(path)
    expected, got = camera.project(sensor)[0], camera.upright().project(joints)[0]
    assert (expected - got).abs().max() < 1e-6
    assert (turns - camera.upright_poses(w2c)[:, None, :, :3] @ world_turns).abs().max() < 1e-9


def test_file(tmp_path):
    """Unknown joints stay unknown, and a doubt keeps its reason."""
    joints = palms(random_turns(4))
    joints[0, 1], joints[1, 0, 4], joints[2] = torch.nan, torch.nan, torch.nan
    track = HandTrack.of_joints(joints)
    assert track.valid.tolist() == [[True, False], [False, True], [False, False], [True, True]]
    track.reason[3, 1] = 4
    write_hands(track, tmp_path / "hands.json")
    again = read_hands(tmp_path / "hands.json")
    assert torch.allclose(again.joints, joints, atol=1e-6, equal_nan=True)
    assert again.reason.equal(track.reason)
    some = again.select(torch.tensor([3, 0]))
    assert some.valid.tolist() == [[True, False], [True, False]]
    with refuses("4 frames; expected 5"):
        again.select(torch.tensor([0, 4]))


@pytest.mark.parametrize(
    ("video_frames", "fits"), [(40, True), (39, True), (41, True), (60, True)]
    + [(20, False), (80, False), (79, False), (120, False), (200, False)],
)  # fmt: skip
def test_as_many_hands_as_the_video_has_frames(video_frames, fits):
    """A spare one passes, and the first part of a longer video; not every n-th frame."""
    track = HandTrack.of_joints(palms(random_turns(40)))
    frames = frames_in_use(range(9), (64, 64), source_frames=video_frames)
    with nullcontext() if fits else refuses(f"40 frames; expected {video_frames}"):
        assert len(track.in_use(frames)) == 9


def in_order(*places: int) -> Callable:
    return lambda joints: joints[:, :, list(places)]


def absent(number: float) -> Callable:
    """A change of frame 2, where nothing was found."""
    return lambda joints: torch.where(torch.arange(4)[:, None, None, None] == 2, number, joints)


SIDE = torch.tensor([-1.0, 1, 1])
MANO = (0, *(4 * f + j for f in (1, 2, 4, 3, 0) for j in (1, 2, 3)), 4, 8, 12, 16, 20)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (lambda joints: joints * 1.4, "seen in 4 of 4 frames$"),
        (lambda joints: joints * 0.6, "seen in 4 of 4 frames$"),
        (lambda joints: joints + 0.005 * torch.randn(joints.shape), "seen in 4 of 4 frames$"),
        (lambda joints: joints * 1000, "seen in 4 of 4 frames; given in millimetres"),
        (lambda joints: joints * 60, "seen in 4 of 4 frames; given in centimetres"),
        (absent(0.0), "3 of 4 frames, 1 not given$"),
        (absent(-1.0), "3 of 4 frames, 1 not given$"),
        (lambda joints: joints.flip(1), "0 of 4 frames, 4 mirrored"),
        (lambda joints: joints * SIDE, "0 of 4 frames, 4 mirrored"),
        (in_order(*MANO), "MANO's, then the tips from the thumb on"),
        (in_order(*MANO[:-5], 8, 12, 20, 16, 4), "MANO's, then the tips from the index on"),
        (in_order(0, *(4 * f + j for f in range(5) for j in (4, 3, 2, 1))), "tips first"),
        (in_order(*(4 * f + j for f in range(5) for j in (4, 3, 2, 1)), 0), "wrist last"),
        (in_order(0, *(4 * f + j for j in (1, 2, 3, 4) for f in range(5))), "all roots"),
        (lambda joints: joints * 10, "bones are 8.* long together;"),
        (lambda joints: joints / 0.0254, "long together: inches[?]; .* in metres"),
        (lambda joints: joints / 0.3048, "long together: feet[?]"),
        (lambda joints: joints * torch.tensor([1, -1, -1]), "8 of 8 hands behind the camera"),
        (lambda joints: joints - joints[:, :, :1], "about the hand's own root"),
        (lambda joints: 1000 * (joints - joints[:, :, 9:10]), "about the hand's own root"),
    ],
)
def test_forms_of_other_networks(tmp_path, change, outcome):
    """True hands stay to the last digit; others are brought to our form, not valid, or refused."""
    joints = palms(random_turns(4))
    torch.manual_seed(0)
    given = change(joints).nan_to_num()
    content = {"format": "egox_hands", "version": 1, "joints": given.tolist()}
    (tmp_path / "hands.json").write_text(json.dumps(content), "utf-8")
    if "of 4" not in outcome:
        with refuses(outcome):
            read_hands(tmp_path / "hands.json")
        return
    track = read_hands(tmp_path / "hands.json")
    assert re.search(outcome, track.text()), track.text()
    scale = 1000 if "millimetres" in outcome else 100 if "centimetres" in outcome else 1
    assert track.joints[3].equal(given[3].double() / scale)


def test_a_stated_reason_is_kept(tmp_path):
    joints = palms(random_turns(4))
    stated = torch.tensor([[2, 0], [0, 4], [0, 0], [5, 6]])
    write_hands(HandTrack(joints=joints, reason=stated), tmp_path / "hands.json")
    assert read_hands(tmp_path / "hands.json").reason.equal(stated)


STATED = [[0.0, 0.1, 0.5]] * 21


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version of hands 'hands.json': got 2; expected 1"),
        ({"names": ["thumb"]}, "names of hands .* expected .'wrist', 'thumb_cmc'"),
        ({"joints": [None, [STATED, STATED[:15]]]}, "frame 1: got 15 entries; expected 21"),
        ({"joints": [[STATED, [[1e12, 0, 0]] * 21]]}, "1000000000000.0; expected metres"),
        ({"reason": [[0, 0]]}, "a valid hand with an unknown joint"),
        ({"reason": [[0, 99]]}, "an unknown number"),
    ],
)
def test_other_files_are_refused(tmp_path, change, message):
    content = {"format": "egox_hands", "version": 1, "joints": [[STATED, None]]} | change
    (tmp_path / "hands.json").write_text(json.dumps(content), "utf-8")
    with refuses(message):
        read_hands(tmp_path / "hands.json")
