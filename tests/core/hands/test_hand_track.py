"""Tracks of both hands: the wrists' turn, other frames, and the file."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras import look_at, preset_camera
from egox_core.hands import JOINT_NAMES, HandTrack, read_hands, write_hands
from egox_core.hands.track import PALM, PALMS, wrist_turns
from lab.drawn.person import HAND
from tests.poses import path_of
from tests.refusals import refuses


def palms(turns: torch.Tensor) -> torch.Tensor:  # [T, 3, 3] -> [T, 2, 21, 3]
    """Make both hands turned alike, 0.4 m before the exo camera."""
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


def absent(number: float) -> Callable:
    """Give a change that sets frame 2, where nothing was found, to this number."""
    return lambda joints: torch.where(torch.arange(4)[:, None, None, None] == 2, number, joints)


def one_joint_absent(joints: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.arange(4 * 42).view(4, 2, 21, 1) == 100, 0.0, joints)  # frame 2, left


SIDE = torch.tensor([-1.0, 1, 1])


def written(folder: Path, joints: torch.Tensor, /, **more: object) -> Path:
    content = {"format": "egox_hands", "version": 1, "joints": joints.tolist()}
    (folder / "hands.json").write_text(json.dumps(content | more), "utf-8")
    return folder / "hands.json"


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (lambda joints: joints * 1.4, "seen in 4 of 4 frames$"),
        (lambda joints: joints * 0.6, "seen in 4 of 4 frames$"),
        (lambda joints: joints + 0.005 * torch.randn(joints.shape), "seen in 4 of 4 frames$"),
        (lambda joints: joints * 1000, "seen in 4 of 4 frames; given in mm"),
        (lambda joints: joints * 60, "seen in 4 of 4 frames; given in cm"),
        (absent(0.0), "3 of 4 frames, 1 not given$"),
        (absent(-1.0), "3 of 4 frames, 1 not given$"),
        (one_joint_absent, "left hand seen in 3 of 4 frames, 1 bones of other lengths"),
        (lambda joints: joints.flip(1), "0 of 4 frames, 4 mirrored"),
        (lambda joints: joints * SIDE, "0 of 4 frames, 4 mirrored"),
        (
            lambda joints: joints * 10,
            "8.* long together, in a unit not stated; .* as 'unit': m, cm",
        ),
        (lambda joints: joints / 0.0254, "a unit not stated"),
        (lambda joints: joints / 0.3048, "a unit not stated"),
        (lambda joints: joints * torch.tensor([1, -1, -1]), "8 of 8 hands behind the camera"),
        (lambda joints: joints - joints[:, :, :1], "about the hand's own root"),
        (lambda joints: 1000 * (joints - joints[:, :, 9:10]), "about the hand's own root"),
    ],
)
def test_files_that_declare_nothing(tmp_path, change, outcome):
    """True hands stay to the last digit. Others are not valid, or refused."""
    joints = palms(random_turns(4))
    torch.manual_seed(0)
    file_joints = change(joints).nan_to_num()
    file = written(tmp_path, file_joints)
    if "of 4" not in outcome:
        with refuses(outcome):
            read_hands(file)
        return
    track = read_hands(file)
    assert re.search(outcome, track.text()), track.text()
    scale = 1000 if "in mm" in outcome else 100 if "in cm" in outcome else 1
    assert track.joints[3].equal(file_joints[3].double() / scale)


FINGERS = {"thumb": range(1, 5)} | {name: range(4 * f + 5, 4 * f + 9) for f, name in enumerate(
    ("index", "middle", "ring", "little")
)}  # fmt: skip
OTHER_ORDERS = {
    "MANO, tips last": (0, *(j for f in ("index", "middle", "little", "ring", "thumb")
                             for j in FINGERS[f][:3]), 4, 8, 12, 16, 20),
    "MANO, tips from the index on": (0, *(j for f in ("index", "middle", "little", "ring", "thumb")
                                          for j in FINGERS[f][:3]), 8, 12, 20, 16, 4),
    "tips first": (0, *(j for f in FINGERS.values() for j in reversed(f))),
    "tips first, the wrist last": (*(j for f in FINGERS.values() for j in reversed(f)), 0),
    "the wrist last": (*range(1, 21), 0),
    "the little finger first": (0, *(j for f in reversed(FINGERS.values()) for j in f)),
    "the thumb last": (0, *range(5, 21), *range(1, 5)),
    "all roots, then all next ones": (0, *(f[j] for j in range(4) for f in FINGERS.values())),
}  # fmt: skip
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}


@pytest.mark.parametrize("order", OTHER_ORDERS)
def test_another_order_is_declared_or_refused(tmp_path, order):
    """Of hands of other sizes and proportions, off by up to 1 cm a joint, none is taken for it."""
    places = list(OTHER_ORDERS[order])
    names = [JOINT_NAMES[place] for place in places]
    joints, random = palms(random_turns(9)), torch.Generator().manual_seed(0)
    for unit, metres in UNITS.items():
        file = written(tmp_path, joints[:, :, places] / metres, names=names, unit=unit)
        assert (read_hands(file).joints - joints).abs().max() < 1e-12
        assert read_hands(file).valid.all()
    for noise in (0.0, 0.005, 0.01):
        noisy = joints + noise * torch.randn(joints.shape, generator=random).double()
        with refuses("order of joints of hands .* 'names' in the order that the file has"):
            read_hands(written(tmp_path, noisy[:, :, places]))
        read_hands(written(tmp_path, noisy))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"unit": "mm"}, "unit of hands .*: got hands whose bones are 0.8.* long together, in mm"),
        ({"unit": "yards"}, "unit of hands .*: got 'yards'; expected one of m, cm, mm, in, ft"),
        ({"unit": ["m"]}, "expected one of m, cm"),
        ({"names": ["wrist"] * 21}, "names of hands .* each of these once, in the file's order"),
        ({"names": [*JOINT_NAMES[:-1], 7]}, "names of hands"),
        ({"names": [*reversed(JOINT_NAMES)]}, "order of joints of hands"),
    ],
)
def test_what_is_declared_is_checked(tmp_path, more, message):
    with refuses(message):
        read_hands(written(tmp_path, palms(random_turns(4)), **more))


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
        ({"joints": [None, [STATED, STATED[:15]]]}, "frame 1: got 15 entries; expected 21"),
        ({"joints": [[STATED, [[1e12, 0, 0]] * 21]]}, "1000000000000.0; expected metres"),
        ({"reason": [[0, 0]]}, "a valid hand with an unknown joint"),
        ({"reason": [[0, 99]]}, "an unknown number"),
    ],
)
def test_other_files_are_refused(tmp_path, change, message):
    with refuses(message):
        read_hands(written(tmp_path, torch.zeros(0), **{"joints": [[STATED, None]]} | change))
