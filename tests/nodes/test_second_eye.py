"""Second Eye: its video is saved with the boxes that headsets read, and with its sound."""

from contextlib import nullcontext

import av
import numpy as np
import pytest
import torch

from egox_core.scene.build import build_scene
from lab.drawn import SyntheticSpec, make_take
from tests.refusals import refuses


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


@pytest.mark.parametrize("kind", ["alpha", "0...255", "NaN", "one channel"])
def test_pictures_that_are_none_are_refused_at_their_sockets(pack, kind):
    from egox_pack.nodes.exo_motion import EgoXExoMotion
    from egox_pack.nodes.load_exo_video import EgoXLoadExoVideo
    from egox_pack.nodes.second_eye import EgoXSecondEye

    take = make_take(SyntheticSpec(frames=5, exo_width=96, exo_height=64, ego_size=64))
    scene, path = build_scene(take.exo_rgb, take.depth_video()), take.trajectory()

    def changed(frames):
        if kind == "alpha":
            return torch.cat((frames, frames[..., :1]), -1)
        if kind == "one channel":
            return frames[..., :1]
        return frames * (255 if kind == "0...255" else torch.nan)

    exo, ego = changed(take.exo_frames().float()), changed(take.ego_frames())
    options = {"start_frame": 0, "frame_count": 5, "target_fps": 0.0, "resize": "crop"}
    sizes = {"width": 64, "height": 48}
    for run in (
        lambda: EgoXLoadExoVideo.execute("none", **options, **sizes, images=exo),
        lambda: EgoXExoMotion.execute(exo, take.depth_video(), "auto"),
        lambda: EgoXSecondEye.execute(ego, scene, path, "flat", "full", 64, 63.0, 2.0),
    ):
        with nullcontext() if kind == "alpha" else refuses("got (floats|shape)"):
            run()
