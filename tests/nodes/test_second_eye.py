"""Test the node Second Eye."""

import av
import numpy as np
import pytest
import torch

from egox_core.scene.build import build_scene
from egox_core.types import PointCloud
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from tests.refusals import refuses


@pytest.fixture(scope="module")
def take() -> SyntheticTake:
    return make_take(
        SyntheticSpec(frames=2, exo_width=112, exo_height=64, ego_size=64, edge_samples=1)
    )


@pytest.fixture(scope="module")
def scene(take) -> PointCloud:
    return build_scene(take.exo_rgb, take.depth_video())


def test_the_stereo_video_is_saved_as_headsets_read_it(pack, take, scene, tmp_path, caplog):
    """Check that the mp4 file's index comes first, and that the node can be cancelled."""
    from comfy import model_management
    from egox_pack.nodes.second_eye import EgoXSecondEye

    audio = {"waveform": torch.rand(1, 1, 800) - 0.5, "sample_rate": 8000}
    left_eye = (take.ego_frames(), scene, take.trajectory())
    video_path = tmp_path / "pair_180_LR.mp4"
    for layout, sv3d_count in (("VR180", 1), ("flat", 0)):
        options = (layout, "full", 128, 63.0, 2.0, audio)
        side_by_side, video, right_frames = EgoXSecondEye.execute(*left_eye, *options).args
        assert side_by_side.shape == (2, 128, 256, 3)
        assert right_frames.shape == take.ego_rgb.shape
        video.save_to(str(video_path))
        assert ("pair_180_LR.mp4 is a flat film" in caplog.text) is (layout == "flat")
        file_bytes = video_path.read_bytes()
        assert file_bytes.count(b"st3d") == 1
        assert file_bytes.count(b"sv3d") == sv3d_count
        assert file_bytes.index(b"moov") < file_bytes.index(b"mdat")
        with av.open(str(video_path)) as container:
            saved_frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            container.seek(0)
            assert sum(frame.samples for frame in container.decode(audio=0)) >= 800
        assert np.abs(np.stack(saved_frames) / 255 - side_by_side.numpy()).mean() < 0.05
    model_management.interrupt_current_processing()
    with pytest.raises(model_management.InterruptProcessingException):
        EgoXSecondEye.execute(*left_eye, *options)


@pytest.mark.parametrize(
    "damage",
    [
        lambda frames: frames * 255,
        lambda frames: frames * torch.nan,
        lambda frames: frames[..., :1],
    ],
)
def test_tensors_that_are_no_pictures_are_refused(pack, take, scene, damage):
    from egox_pack.nodes.exo_motion import EgoXExoMotion
    from egox_pack.nodes.load_exo_video import EgoXLoadExoVideo
    from egox_pack.nodes.second_eye import EgoXSecondEye

    exo, ego = damage(take.exo_frames().float()), damage(take.ego_frames())
    video_inputs = ("none", 0, 5, 0.0, "crop", 64, 48)
    for run_node in (
        lambda: EgoXLoadExoVideo.execute(*video_inputs, images=exo),
        lambda: EgoXExoMotion.execute(exo, take.depth_video(), "auto"),
        lambda: EgoXSecondEye.execute(ego, scene, take.trajectory(), "flat", "full", 64, 63.0, 2.0),
    ):
        with refuses("got (floats|shape)"):
            run_node()
