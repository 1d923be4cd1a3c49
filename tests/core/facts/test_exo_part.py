"""Test that half of a stereo video, or a mirrored one, gives the take that its own picture gives.

A file of a mirrored video is as a program makes it that was given that video."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel
from egox_core.hands import read_hands, write_hands
from egox_core.safe_files import read_json
from egox_core.stages import align, load_clip
from egox_core.take import load_take
from egox_core.takes import read_meta
from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.refusals import refuses

SPEC = SyntheticSpec(seed=11, frames=5, exo_width=96, exo_height=64, ego_size=32, edge_samples=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Write a take whose exo lens is off the middle and has a tangential part."""
    folder = tmp_path_factory.mktemp("plain") / "take"
    write_take(make_take(SPEC), folder)
    content = read_json(folder / "meta.json", "meta")
    lens = replace(CameraModel.pinhole(96, 64, 80.0), cx=45.0, lens="opencv")
    content["exo_camera"] = replace(lens, distortion=(0.02, -0.01, 0.003, 0.004)).to_json()
    (folder / "meta.json").write_text(json.dumps(content), "utf-8")
    return folder


def with_part(plain, folder, part):
    """Write the take whose video shows its picture as ``part``."""
    shutil.copytree(plain, folder)
    frames = load_clip(plain / "exo.mp4", frame_count=None)[0].exo
    content = read_json(plain / "meta.json", "meta")
    content["declared"] = {"exo.part": part}
    if part == "mirrored":
        lens = content["exo_camera"]
        lens["cx"] = 95 - lens["cx"]
        lens["distortion"][3] *= -1
        depth = dict(np.load(plain / "depth.npz"))
        np.savez(
            folder / "depth.npz", **{k: v[..., ::-1] if v.ndim > 2 else v for k, v in depth.items()}
        )
        hands = read_hands(plain / "hands.json")
        turned = hands.joints.flip(1) * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
        write_hands(
            replace(hands, joints=turned, reason=hands.reason.flip(1)), folder / "hands.json"
        )
        frames = frames.flip(2)
    else:
        other_eye = frames.flip(1)
        frames = torch.cat((frames, other_eye) if part == "left" else (other_eye, frames), 2)
    write_video(folder / "exo.mp4", frames, SPEC.fps, quality=1)
    (folder / "meta.json").write_text(json.dumps(content), "utf-8")
    return folder


@pytest.mark.parametrize("part", ["left", "right", "mirrored"])
def test_a_part_of_the_picture_is_the_take_of_that_part(plain, tmp_path, part):
    expected, take = (
        load_take(plain, frame_count=5),
        load_take(with_part(plain, tmp_path / "a", part), frame_count=5),
    )
    pictures = [each.read_exo().float() for each in (expected, take)]
    assert float((pictures[0] - pictures[1]).abs().mean()) < 3  # a codec's
    assert torch.equal(expected.depth.depth_m.nan_to_num(), take.depth.depth_m.nan_to_num())
    assert torch.equal(expected.depth.dynamic, take.depth.dynamic)
    assert take.depth.exo.camera.agrees(expected.depth.exo.camera)
    assert take.trajectory.exo.camera.agrees(expected.trajectory.exo.camera)
    np.testing.assert_allclose(take.hands.joints, expected.hands.joints, atol=1e-6)
    assert torch.equal(take.hands.reason, expected.hands.reason)
    assert ("exo.part", "declared in meta.json") in {(row.fact, row.by) for row in take.facts}


def test_the_part_is_declared_where_the_video_is_read(plain, tmp_path):
    folder = with_part(plain, tmp_path / "a", "left")
    meta = read_meta(folder / "meta.json")
    whole_clip, _ = load_clip(folder / "exo.mp4", frame_count=None, declared="exo.part=whole")
    assert whole_clip.exo.shape[2] == 192
    content = read_json(folder / "meta.json", "meta")
    del content["declared"]
    (folder / "meta.json").write_text(json.dumps(content), "utf-8")
    clip, report = load_clip(folder / "exo.mp4", frame_count=None, declared="exo.part=right")
    assert [row.text for row in report.facts] == ["exo.part: right (by declared)"]
    assert clip.selection.source_size == (96, 64)
    align(folder / "depth.npz", frames=clip.selection, meta=meta)
    whole_selection = load_clip(folder / "exo.mp4", frame_count=None)[0].selection
    with refuses("exo.part=left"):
        align(folder / "depth.npz", frames=whole_selection, meta=meta)
    with refuses("declared exo.part"):
        align(folder / "depth.npz", frames=clip.selection, meta=meta, declared="exo.part=left")
    both_halves = np.ones((5, 64, 192), np.float32)
    np.savez(tmp_path / "both.npz", depth=both_halves)
    with refuses("both halves"):
        align(tmp_path / "both.npz", frames=clip.selection)
    with refuses("two equal halves"):
        load_clip(torch.zeros(5, 32, 31, 3), frame_count=None, declared="exo.part=left")
