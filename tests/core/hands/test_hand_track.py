"""Test tracks of both hands: wrist rotations, frames, files, units, joint orders and refusals."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.hands import JOINT_NAMES, HandTrack, read_hands, write_hands
from egox_core.hands.forms import SHARES
from egox_core.hands.track import PALM, PALMS, wrist_turns
from lab.drawn.person import HAND_JOINTS
from tests.refusals import refuses


def draw_hands_at(rotations: torch.Tensor) -> torch.Tensor:  # [T, 3, 3] -> [T, 2, 21, 3]
    """Draw both hands with the same wrist rotation, 0.4 m in front of the exo camera."""
    right_hand = torch.from_numpy(HAND_JOINTS[:, [1, 0, 2]])
    both_hands = torch.stack([right_hand * torch.tensor([1, -1, 1]), right_hand])
    both_hands[:, PALM] = PALMS
    return both_hands @ rotations.mT.unsqueeze(1) + torch.tensor([0.0, 0.0, 0.4])


def random_rotations(count: int) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(count, random_state=1).as_matrix())


def angles_deg(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    trace = (a.mT @ b).diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).arccos())


def test_wrist_rotations_are_exact_and_robust_to_noise():
    rotations = random_rotations(500)
    hands = draw_hands_at(rotations)
    assert (wrist_turns(hands) - rotations[:, None]).abs().max() < 1e-9
    assert torch.linalg.det(wrist_turns(hands)).allclose(torch.tensor(1.0, dtype=torch.float64))
    joint_noise = (
        0.01 * torch.randn(hands.shape, generator=torch.Generator().manual_seed(2)).double()
    )
    errors_deg = angles_deg(wrist_turns(hands + joint_noise), rotations[:, None])
    assert errors_deg.median() < 13
    assert errors_deg.quantile(0.95) < 26
    hands[3, 0, PALM[2], 1] = torch.nan
    assert wrist_turns(hands)[3, 0].isnan().all()
    assert wrist_turns(hands)[3, 1].isfinite().all()


def test_shares_of_bones_at_the_wrist_are_those_of_the_palm():
    palm_lengths = (PALMS[1][1:] - PALMS[1][0]).norm(dim=-1)
    wrist_shares = SHARES[torch.tensor(PALM[1:]) - 1]
    palm_shares = palm_lengths / palm_lengths.sum() * wrist_shares.sum()
    assert torch.allclose(wrist_shares, palm_shares, atol=5e-4)
    assert float(SHARES.sum()) == pytest.approx(1)


def test_hand_file_keeps_unknown_joints_and_reasons(tmp_path):
    joints = draw_hands_at(random_rotations(4))
    joints[0, 1], joints[1, 0, 4], joints[2] = torch.nan, torch.nan, torch.nan
    hand_track = HandTrack.of_joints(joints)
    assert hand_track.valid.tolist() == [[True, False], [False, True], [False, False], [True, True]]
    hand_track.reason[3, 1] = 4
    write_hands(hand_track, tmp_path / "hands.json")
    read_track = read_hands(tmp_path / "hands.json")
    assert torch.allclose(read_track.joints, joints, atol=1e-6, equal_nan=True)
    assert read_track.reason.equal(hand_track.reason)
    selected_track = read_track.select(torch.tensor([3, 0]))
    assert selected_track.valid.tolist() == [[True, False], [True, False]]


def test_hands_that_are_all_incomplete_have_the_stated_unit(tmp_path):
    joints = draw_hands_at(random_rotations(4))
    joints[:, :, 4] = torch.nan
    hand_file = write_hand_file(tmp_path, 1000 * joints, unit="mm")
    assert torch.allclose(read_hands(hand_file).joints, joints, atol=1e-6, equal_nan=True)


def frame_set_to(number: float) -> Callable:
    """Make a function that sets all hand joints in frame 2 to one number."""
    return lambda joints: torch.where(torch.arange(4)[:, None, None, None] == 2, number, joints)


def zero_one_joint(joints: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.arange(4 * 42).view(4, 2, 21, 1) == 100, 0.0, joints)  # frame 2, left


MIRROR_X = torch.tensor([-1.0, 1, 1])


def in_shares(joints: torch.Tensor) -> torch.Tensor:
    """Write joints as shares of a picture, with z in its widths from the wrist on."""
    far = joints + torch.tensor([0.0, 0.0, 2.0])
    z = far[..., 2:]
    return torch.cat((far[..., :2] / z + 0.5, (z - z[:, :, :1]) / z[:, :, :1]), -1)


def write_hand_file(folder: Path, joints: torch.Tensor, /, **more_entries: object) -> Path:
    content = {"format": "egox_hands", "version": 1, "joints": joints.tolist()}
    (folder / "hands.json").write_text(json.dumps(content | more_entries), "utf-8")
    return folder / "hands.json"


@pytest.mark.parametrize(
    ("change_joints", "outcome"),
    [
        (lambda joints: joints * 1.4, "seen in 4 of 4 frames$"),
        (lambda joints: joints * 0.6, "seen in 4 of 4 frames$"),
        (lambda joints: joints + 0.005 * torch.randn(joints.shape), "seen in 4 of 4 frames$"),
        (lambda joints: joints * 1000, "seen in 4 of 4 frames; given in mm"),
        (lambda joints: joints * 60, "seen in 4 of 4 frames; given in cm"),
        (frame_set_to(0.0), "3 of 4 frames, 1 not given$"),
        (frame_set_to(-1.0), "3 of 4 frames, 1 not given$"),
        (zero_one_joint, "left hand seen in 3 of 4 frames, 1 bones of other lengths"),
        (lambda joints: joints.flip(1), "0 of 4 frames, 4 mirrored"),
        (lambda joints: joints * MIRROR_X, "0 of 4 frames, 4 mirrored"),
        (
            lambda joints: joints * 10,
            "8.* long together, in a unit not stated; .* as 'unit': m, cm",
        ),
        (lambda joints: joints / 0.0254, "a unit not stated"),
        (lambda joints: joints / 0.3048, "a unit not stated"),
        (lambda joints: joints * torch.tensor([1, -1, -1]), "8 of 8 hands behind the camera"),
        (lambda joints: joints - joints[:, :, :1], "about the hand's own root"),
        (lambda joints: in_shares(joints), "z from joint 0 on, .* may be shares of the picture"),
        (lambda joints: 300 * in_shares(joints), "z from joint 0 on, .* that may be pixels"),
        (
            lambda joints: torch.cat((in_shares(joints)[..., :2], joints[..., 2:] * 0 + 1), -1),
            r"0\.\d+ long together, .* of shares \(u W - cx\) z / fx",
        ),
        (lambda joints: 1000 * (joints - joints[:, :, 9:10]), "about the hand's own root"),
    ],
)
def test_hand_files_without_declarations_are_checked(tmp_path, change_joints, outcome):
    """Check that hand files without stated units are read in the right unit, or refused."""
    joints = draw_hands_at(random_rotations(4))
    torch.manual_seed(0)
    file_joints = change_joints(joints).nan_to_num()
    hand_file = write_hand_file(tmp_path, file_joints)
    if "of 4" not in outcome:
        with refuses(outcome):
            read_hands(hand_file)
        return
    hand_track = read_hands(hand_file)
    assert re.search(outcome, hand_track.text()), hand_track.text()
    units_per_metre = 1000 if "in mm" in outcome else 100 if "in cm" in outcome else 1
    assert hand_track.joints[3].equal(file_joints[3].double() / units_per_metre)


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


@pytest.mark.parametrize("order", OTHER_ORDERS)
def test_other_joint_orders_must_be_declared(tmp_path, order):
    """Check that another joint order is detected, but not in hands with errors of up to 1 cm."""
    joint_order = list(OTHER_ORDERS[order])
    joints = draw_hands_at(random_rotations(9))
    rng = torch.Generator().manual_seed(0)
    for noise_m in (0.0, 0.005, 0.01):
        noisy_joints = joints + noise_m * torch.randn(joints.shape, generator=rng).double()
        with refuses("order of joints of hands .* 'names' in the order that the file has"):
            read_hands(write_hand_file(tmp_path, noisy_joints[:, :, joint_order]))
        read_hands(write_hand_file(tmp_path, noisy_joints))


@pytest.mark.parametrize(
    ("change_joints", "fields"),
    [
        (lambda joints: joints.flip(1), {"sides": ["right", "left"]}),
        (lambda joints: joints.flip(0), {"frame_idx": [3, 2, 1, 0]}),
    ],
)
def test_what_a_hand_file_states_in_other_words_is_read(tmp_path, change_joints, fields):
    joints = draw_hands_at(random_rotations(4))
    hand_track = read_hands(write_hand_file(tmp_path, change_joints(joints), **fields))
    assert (hand_track.joints - joints).abs().max() < 1e-12 and hand_track.valid.all()
    assert "not read" not in hand_track.note
    noted = read_hands(write_hand_file(tmp_path, joints, fps=30, coordinate_system="y up")).note
    assert "warning: hands" in noted and "coordinate_system" in noted and "fps" in noted


@pytest.mark.parametrize(
    ("declarations", "message"),
    [
        ({"unit": "mm"}, "unit of hands .*: got hands whose bones are 0.8.* long together, in mm"),
        ({"unit": "yards"}, "unit of hands .*: got 'yards'; expected one of m, cm, mm, in, ft"),
        ({"unit": ["m"]}, "expected one of m, cm"),
        ({"names": ["wrist"] * 21}, "names of hands .* each of these once, in the file's order"),
        ({"names": [*JOINT_NAMES[:-1], 7]}, "names of hands"),
        ({"names": [*reversed(JOINT_NAMES)]}, "order of joints of hands"),
        ({"axes": "y up"}, "hands.axes.* expected opencv, opengl, unity"),
    ],
)
def test_wrong_declarations_are_refused(tmp_path, declarations, message):
    with refuses(message):
        read_hands(write_hand_file(tmp_path, draw_hands_at(random_rotations(4)), **declarations))


CONSTANT_HAND = [[0.0, 0.1, 0.5]] * 21


@pytest.mark.parametrize(
    ("changed_entries", "message"),
    [
        ({"version": 2}, "version of hands 'hands.json': got 2; expected 1"),
        (
            {"joints": [None, [CONSTANT_HAND, CONSTANT_HAND[:15]]]},
            "frame 1: got 15 entries; expected 21",
        ),
        ({"joints": [[CONSTANT_HAND, [[1e12, 0, 0]] * 21]]}, "1000000000000.0; expected metres"),
        ({"reason": [[0, 0]]}, "a valid hand with an unknown joint"),
    ],
)
def test_invalid_hand_files_are_refused(tmp_path, changed_entries, message):
    with refuses(message):
        read_hands(
            write_hand_file(
                tmp_path, torch.zeros(0), **{"joints": [[CONSTANT_HAND, None]]} | changed_entries
            )
        )


def test_pixels_beside_metres_are_refused_with_the_lines_that_convert_them(tmp_path):
    joints = draw_hands_at(torch.eye(3).double().repeat(4, 1, 1))
    focal_px, centre_px = 40.0, torch.tensor([24.0, 16.0]).double()
    z = joints[..., 2:]
    mixed = torch.cat((joints[..., :2] / z * focal_px + centre_px, z), -1)
    with refuses(r"wrists 0.4 cm before the lens.*x = \(u - cx\) z / fx and y = \(v - cy\) z / fy"):
        read_hands(write_hand_file(tmp_path, mixed))
    # One of three frames, as of a wrong detection, is no reason, nor is a hand beside the picture.
    mixed[1:] = joints[1:] * 100
    assert len(read_hands(write_hand_file(tmp_path, mixed))) == 4
    beside = joints + torch.tensor([3.0, 0.0, -0.2])
    assert bool(read_hands(write_hand_file(tmp_path, beside)).valid.all())
    converted = torch.cat(((joints[..., :2] / z * focal_px) * z / focal_px, z), -1)
    assert bool(read_hands(write_hand_file(tmp_path, converted)).valid.all())
