"""Test the demo's options and sample key points."""

import pytest

from egox_core import file_names
from egox_core.safe_files import read_json
from egox_core.trajectory.head_payloads import openpose_people
from egox_core.trajectory.head_points import choose_person
from egox_core.video import probe_video
from tests.paths import ROOT
from tools.setup.demo import DemoOptions, apply_options, check_options
from tools.setup.layout import SetupError

CALM_ROOM = ROOT / "sample" / "calm_room"
EXO = CALM_ROOM / file_names.EXO


def test_options_that_no_node_would_see(tmp_path):
    (tmp_path / "exo.mp4").write_bytes(b"")
    with pytest.raises(SetupError, match="lacks depth.npz, meta.json"):
        check_options(DemoOptions(take=tmp_path))
    with pytest.raises(SetupError, match="no EgoXWanSampler node with an input steps"):
        apply_options({}, DemoOptions(steps=3), None)
    with pytest.raises(SetupError, match="previewed without a model"):
        check_options(DemoOptions(take=CALM_ROOM, steps=3))


def test_the_sample_s_keypoints_are_of_its_video():
    """Check that the sample's key points fit its video."""
    video = probe_video(EXO)
    keypoint_frames = read_json(CALM_ROOM / file_names.HEAD_KEYPOINTS)
    key_points = choose_person(openpose_people(keypoint_frames))
    assert len(keypoint_frames) == video.frame_count and key_points.picture == (
        video.width,
        video.height,
    )
    seen_frames = key_points.seen.any(1)
    assert bool(seen_frames.any())
    assert not bool(seen_frames.all())
