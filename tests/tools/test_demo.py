"""The demo's own steps: options, the side-by-side; and the sample's keypoints."""

import numpy as np
import pytest
import torch

from egox_core import file_names
from egox_core.safe_files import read_json
from egox_core.trajectory.head_payloads import openpose_people
from egox_core.trajectory.head_points import choose_person
from egox_core.video.reader import probe_video
from egox_train.video_writer import write_video
from tests.paths import ROOT
from tools.setup.demo import DemoOptions, apply_options, check_options
from tools.setup.layout import SetupError
from tools.setup.side_by_side import join, read_frames

CALM_ROOM = ROOT / "sample" / "calm_room"
EXO = CALM_ROOM / file_names.EXO


def test_side_by_side(tmp_path):
    random = np.random.default_rng(0)
    sizes = {"exo": (64, 112), "prior": (64, 64), "ego": (64, 64), "truth": (128, 128)}
    for name, (height, width) in sizes.items():
        flat = random.integers(0, 255, (7 if name in ("exo", "truth") else 5, 1, 1, 3))
        frames = np.broadcast_to(flat, (len(flat), height, width, 3)).astype(np.uint8)
        write_video(tmp_path / f"{name}.mp4", torch.from_numpy(frames), 10.0)
    join(tmp_path, tmp_path / "exo.mp4", tmp_path / "truth.mp4", range(2, 7), "")
    joined = read_frames(tmp_path / "side_by_side.mp4")
    assert joined.shape == (5, 64, 112 + 3 * 68, 3), "as long as the ego video, one height"
    exo = read_frames(tmp_path / "exo.mp4")
    # Flat pictures: what differs is the second encoding only.
    assert np.abs(joined[:, 20:40, 20:90].astype(int) - exo[2:, 20:40, 20:90]).mean() < 4
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000


def test_options_that_no_node_would_see(tmp_path):
    (tmp_path / "exo.mp4").write_bytes(b"")
    with pytest.raises(SetupError, match="lacks depth.npz, meta.json"):
        check_options(DemoOptions(take=tmp_path))
    with pytest.raises(SetupError, match="no EgoXWanSampler node with an input steps"):
        apply_options({}, DemoOptions(steps=3), None)


def test_the_sample_s_keypoints_are_of_its_video():
    """As a detector gives them: some frames without anybody, never a point outside the picture by
    far."""
    video, frames = probe_video(EXO), read_json(CALM_ROOM / file_names.HEAD_KEYPOINTS)
    points = choose_person(openpose_people(frames))
    assert len(frames) == video.frame_count and points.picture == (video.width, video.height)
    there = points.seen.any(1)
    assert bool(there.any()) and not bool(there.all())
