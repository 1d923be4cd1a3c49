"""Second Eye: its video is saved with the boxes that headsets read, and with its sound."""

import av
import numpy as np
import pytest
import torch

from egox_core.scene.build import build_scene
from lab.drawn import SyntheticSpec, make_take


def test_pair_is_saved_as_a_headset_reads_it(pack, tmp_path):
    """Its index moves to the front, where the host leaves it behind. The node can be cancelled."""
    from comfy import model_management
    from egox_pack.nodes.second_eye import EgoXSecondEye

    take = make_take(SyntheticSpec(frames=2, exo_width=112, exo_height=64, ego_size=64))
    scene = build_scene(take.exo_rgb, take.depth_video())
    audio = {"waveform": torch.rand(1, 1, 800) - 0.5, "sample_rate": 8000}
    left_eye = (take.ego_frames(), scene, take.trajectory())
    path = tmp_path / "pair.mp4"
    for layout, marks in (("VR180", 1), ("flat", 0)):
        options = (layout, "full", 128, 63.0, 2.0, audio)
        both, video, right = EgoXSecondEye.execute(*left_eye, *options).args
        assert both.shape == (2, 128, 256, 3) and right.shape == take.ego_rgb.shape
        video.save_to(str(path))
        data = path.read_bytes()
        assert data.count(b"st3d") == 1 and data.count(b"sv3d") == marks
        assert data.index(b"moov") < data.index(b"mdat")
        with av.open(str(path)) as file:
            saved = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
            file.seek(0)
            assert sum(frame.samples for frame in file.decode(audio=0)) >= 800
        assert np.abs(np.stack(saved) / 255 - both.numpy()).mean() < 0.05
    model_management.interrupt_current_processing()
    with pytest.raises(model_management.InterruptProcessingException):
        EgoXSecondEye.execute(*left_eye, *options)
