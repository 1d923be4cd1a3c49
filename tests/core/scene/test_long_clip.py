"""Memory grows with the chunk, not with the clip: 480 frames of a take stay near the peak of 49."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.safe_files import read_json, write_json
from egox_train.cli.prior import peak_memory_bytes
from egox_train.video_writer import write_video

HEIGHT, WIDTH, COUNT = 224, 400, 481


def long_take(folder: Path) -> None:
    """A textured wall behind which nothing moves but a square that wanders across."""
    pattern = (np.indices((HEIGHT, WIDTH + COUNT)).sum(0) // 4 % 2 * 120 + 60).astype(np.uint8)

    def picture(t: int) -> torch.Tensor:
        frame = np.repeat(pattern[:, :WIDTH, None], 3, -1)
        frame[80:140, (t // 2) % 300 : (t // 2) % 300 + 60] = (200, 40, 40)
        return torch.from_numpy(frame)

    write_video(folder / "exo.mp4", (picture(t) for t in range(COUNT)), 20.0)
    depth = np.full((COUNT, HEIGHT, WIDTH), 3.0, np.float16)
    for t in range(COUNT):
        depth[t, 80:140, (t // 2) % 300 : (t // 2) % 300 + 60] = 2.0
    np.savez(folder / "depth.npz", depth_m=depth)
    ego = np.eye(3, 4)
    ego[:, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    write_json(
        folder / "meta.json",
        {
            "prompt": "",
            "camera_intrinsics": [[300, 0, WIDTH / 2], [0, 300, HEIGHT / 2], [0, 0, 1]],
            "camera_extrinsics": np.eye(3, 4).tolist(),
            "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
            "ego_extrinsics": [ego.tolist()] * COUNT,
        },
    )


@pytest.mark.slow
def test_480_frames_stay_near_the_peak_of_49(tmp_path, repo_root):
    if peak_memory_bytes() is None or sys.platform == "win32":
        pytest.skip(
            "peak memory of a process can't be told, or mapped pages can't be dropped, on this system"
        )
    long_take(tmp_path)
    peaks = {}
    for frames in (49, COUNT):
        out = tmp_path / str(frames)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "egox_train.cli.prior",
                "--take",
                str(tmp_path),
                "--out",
                str(out),
                "--frames",
                str(frames),
                "--size",
                "64",
            ],
            cwd=repo_root,
            check=True,
            capture_output=True,
        )
        report = read_json(out / "report.json")
        assert report["frames"] == frames
        peaks[frames] = report["peak_memory_mb"]
    # Held in memory, 481 frames would add 300 MB of pictures and depth to some 600 MB.
    assert peaks[COUNT] < 1.2 * peaks[49], peaks
