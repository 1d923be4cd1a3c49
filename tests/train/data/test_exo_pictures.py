"""Exo pictures of clips: cameras turned by 90 degrees are fitted whole; a 4K video never lies in
memory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras.model import project
from egox_core.video.reader import decode_frames
from egox_train.data import exo_pictures
from egox_train.data.clip_files import read_clip
from egox_train.data.prepare import prepare
from tests.paths import ROOT
from tests.train.prepared_takes import SMALL, prepared

SIZE = (224, 128)
OPTIONS = replace(SMALL, exo_size=SIZE, ego_size=SIZE[1], depth="plane")
SCRIPT = """
import sys, json
from pathlib import Path
from egox_train.data.prepare import prepare
from egox_train.data.prepare_options import PrepareOptions
frames, height = int(sys.argv[3]), int(sys.argv[4])
options = PrepareOptions(frames=frames, depth="plane", exo_size=(height // 4 * 7, height), ego_size=height)
print(prepare(Path(sys.argv[1]), Path(sys.argv[2]), options, fractions={}).clips, "clips")
status = Path("/proc/self/status")
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
except ImportError:
    import psutil
    peak = psutil.Process().memory_info().peak_wset
if status.exists():  # what getrusage says there counts the process that started this one, too
    peak = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
print("PEAK", peak)
"""


def lamps_in(
    picture: np.ndarray,
) -> list[tuple[float, float]]:  # [H, W, 3] -> (u, v) of each white disc
    import cv2

    count, _, stats, centres = cv2.connectedComponentsWithStats(
        (picture.min(axis=2) > 160).astype(np.uint8)
    )
    return [tuple(centres[i]) for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= 2]


@pytest.mark.parametrize("exo_lens", ["raw", "as given"])
def test_an_upright_camera_is_fitted_whole(takes, tmp_path, exo_lens):
    """Bars are black and have no depth; of the raw lens every lamp lies where the clip's camera
    says."""
    source = takes.write_egoexo4d(
        tmp_path / "raw",
        "upenn_boulder_2",
        frames=5,
        cameras={"cam01": (144, 256), "cam02": (256, 144)},
    )
    records, report = prepared(source, tmp_path / "set", replace(OPTIONS, exo_lens=exo_lens))
    records = {r.exo_camera: r for r in records}
    notes = " ".join(report["notes"]["upenn_boulder_2"])
    assert "cam01: its picture of 144x256 is fitted whole" in notes and "cam02: its" not in notes
    for name, bars in (("cam01", True), ("cam02", False)):
        clip = read_clip(tmp_path / "set", records[name])
        picture = clip.exo[2].numpy()
        side = picture[:, :70].astype(int)
        assert (side.max() < 20) == bars  # 72 of 224 columns hold the picture, in the middle
        assert int(picture[:, 80:144].mean(axis=2).min()) > 30
        depth = clip.take.depth
        assert bool(torch.isfinite(depth.depth_m[0, :, :70]).any()) != bars
        if exo_lens == "raw":
            uv, _ = project(depth.camera, torch.tensor(takes.POINTS, dtype=torch.float64))
            seen = lamps_in(picture)
            assert len(seen) == len(takes.POINTS)
            assert (
                max(min(((uv - torch.tensor(lamp)).norm(dim=-1)).tolist()) for lamp in seen) < 1.0
            )


def test_decoded_frames_are_let_go_one_by_one(takes, tmp_path, monkeypatch):
    seen, most = [], 0

    def decode(source, info, indices):
        nonlocal most
        for index, picture in decode_frames(source, info, indices):
            seen.append(weakref.ref(picture))
            most = max(most, sum(frame() is not None for frame in seen))
            yield index, picture

    monkeypatch.setattr(exo_pictures, "decode_frames", decode)
    source = takes.write_egoexo4d(tmp_path / "raw", "cmu_bike08_2", frames=17)
    prepare(source, tmp_path / "set", replace(OPTIONS, frames=17), fractions={})
    assert len(seen) >= 17 and 0 < most <= 3  # the last one, this one, the walk's own


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("resource" if sys.platform != "win32" else "psutil") is None,
    reason="no way to measure a process' peak memory: psutil is not installed",
)
@pytest.mark.parametrize(("frames", "height"), [(17, 192), (49, 448)])
def test_a_4k_video_needs_little_memory(takes, tmp_path, frames, height):
    """17 frames of 3840x2160 are 0.4 GB in bytes and 1.7 GB in floats; a worker stays under 2 GB
    with all it loads."""
    source = takes.write_egoexo4d(
        tmp_path / "raw",
        "cmu_bike08_2",
        frames=frames,
        cameras={"cam01": (3840, 2160)},
        folder="frame_aligned_videos",
    )
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, (source, tmp_path / "set", frames, height))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "1 clips" in run.stdout
    assert int(run.stdout.split("PEAK")[1]) < 2 * 2**30
