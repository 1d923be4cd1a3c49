"""Test that a take whose video is mirrored in its file gives what the take of the true video gives.

Its files are as programs make them that were given the mirrored video."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.hands import read_hands, write_hands
from egox_core.safe_files import read_json
from egox_core.stages import align, load_clip
from egox_core.take import load_take
from egox_core.takes import read_meta
from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.refusals import refuses

SPEC = SyntheticSpec(seed=11, frames=5, exo_width=96, exo_height=64, ego_size=32, edge_samples=1)
ASIDE = {"cx": 45.0, "lens": "opencv", "distortion": [0.02, -0.01, 0.003, 0.004]}
MIRRORED = ASIDE | {"cx": 50.0, "distortion": [0.02, -0.01, 0.003, -0.004]}


def write_meta(folder, changes, **fields):
    content = read_json(folder / "meta.json", "meta")
    content["exo_camera"] |= changes
    (folder / "meta.json").write_text(json.dumps(content | fields), "utf-8")


def test_a_mirrored_take_is_the_take(tmp_path):
    true_folder, folder = tmp_path / "true", tmp_path / "mirrored"
    write_take(make_take(SPEC), true_folder)
    shutil.copytree(true_folder, folder)
    write_meta(true_folder, ASIDE)
    write_meta(folder, MIRRORED, declared={"exo.part": "mirrored"})
    expected = load_take(true_folder, frame_count=5)
    write_video(folder / "exo.mp4", expected.read_exo().flip(2), SPEC.fps, quality=1)
    arrays = dict(np.load(true_folder / "depth.npz"))
    maps = {key: array[..., ::-1] for key, array in arrays.items() if array.ndim == 3}
    np.savez(folder / "depth.npz", **(arrays | maps))
    hands = read_hands(true_folder / "hands.json")
    joints = hands.joints.flip(1) * torch.tensor([-1.0, 1, 1]).double()
    write_hands(replace(hands, joints=joints, reason=hands.reason.flip(1)), folder / "hands.json")

    take = load_take(folder, frame_count=5)
    assert float((expected.read_exo().float() - take.read_exo()).abs().mean()) < 3  # a codec's
    assert torch.equal(expected.depth.depth_m.nan_to_num(), take.depth.depth_m.nan_to_num())
    assert torch.equal(expected.depth.dynamic, take.depth.dynamic)
    for camera, true_camera in (
        (take.depth.exo.camera, expected.depth.exo.camera),
        (take.trajectory.exo.camera, expected.trajectory.exo.camera),
    ):
        assert camera.agrees(true_camera)
    assert expected.depth.exo.camera.cx == ASIDE["cx"]
    np.testing.assert_allclose(take.hands.joints, hands.joints, atol=1e-6)
    assert torch.equal(take.hands.reason, hands.reason)
    assert "exo.part" in {row.fact for row in take.facts}
    whole_clip, _ = load_clip(true_folder / "exo.mp4", frame_count=5)
    with refuses("exo.part=mirrored"):
        align(
            true_folder / "depth.npz",
            frames=whole_clip.selection,
            meta=read_meta(folder / "meta.json"),
        )


@pytest.mark.parametrize(("width", "refusal"), [(64, "both halves"), (63, "two equal halves")])
def test_what_is_of_both_halves_is_refused(tmp_path, width, refusal):
    video = torch.zeros(5, 32, width, 3)
    np.savez(tmp_path / "both.npz", depth=np.ones((5, 32, 64), np.float32))
    with refuses(refusal):
        clip, _ = load_clip(video, frame_count=None, declared="exo.part=left")
        align(tmp_path / "both.npz", frames=clip.selection)
