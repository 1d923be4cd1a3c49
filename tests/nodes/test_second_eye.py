"""Second Eye: its video is saved with the boxes that headsets read, and with its sound."""

import av
import torch

from egox_core.scene.build import build_scene
from lab.drawn import SyntheticSpec, make_take


def test_pair_is_saved_as_a_headset_reads_it(pack, tmp_path):
    from egox_pack.nodes.second_eye import EgoXSecondEye

    take = make_take(SyntheticSpec(frames=2, exo_width=112, exo_height=64, ego_size=64))
    scene = build_scene(take.exo_rgb, take.depth_video())
    audio = {"waveform": torch.rand(1, 1, 1600) - 0.5, "sample_rate": 8000}
    given = (take.ego_frames(), scene, take.trajectory())
    both, video, right = EgoXSecondEye.execute(
        *given, "VR180", "full", 128, 63.0, 0.0, audio=audio
    ).args
    assert both.shape == (2, 128, 256, 3) and right.shape == take.ego_rgb.shape
    path = tmp_path / "ego_180_LR.mp4"
    video.save_to(str(path))
    assert path.read_bytes().count(b"sv3d") == 1
    with av.open(str(path)) as file:
        assert [stream.type for stream in file.streams] == ["video", "audio"]
        assert sum(frame.width == 256 for frame in file.decode(video=0)) == 2
    _, video, _ = EgoXSecondEye.execute(*given, "flat", "full", 128, 63.0, 2.0).args
    video.save_to(str(path))
    assert b"st3d" in path.read_bytes() and b"sv3d" not in path.read_bytes()
