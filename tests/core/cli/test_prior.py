"""The headless prior: what it writes, what it says, and how much memory a long clip takes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from egox_core.cli.prior import main
from egox_core.prior.options import PRIOR_PRESETS
from egox_core.prior.render import iter_ego_prior
from egox_core.scene.build import build_scene
from egox_core.scene.points import write_ply
from lab.drawn import SyntheticSpec, make_take, write_take

SPEC = SyntheticSpec(seed=4, frames=9, fps=5.0, exo_width=128, exo_height=64, ego_size=64)


@pytest.fixture(scope="module")
def take():
    return make_take(SPEC)


@pytest.fixture(scope="module")
def folder(take, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("takes") / "täke with a space"
    write_take(take, path)
    return path


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("preset", list(PRIOR_PRESETS))
def test_it_writes_prior_coverage_and_report(folder: Path, tmp_path: Path, preset: str, read_ply, capsys) -> None:
    assert main(["--take", str(folder), "--preset", preset, "--out", str(tmp_path), "--frames", "9", "--ply"]) == 0
    prior, coverage = decoded(tmp_path / "prior.mp4"), decoded(tmp_path / "coverage.mp4")
    assert prior.shape == coverage.shape == (9, 64, 64, 3)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["preset"] == preset and report["frames"] == 9 and len(report["coverage"]) == 9
    assert set(report["seconds"]) == {"load", "scene", "render and write"}
    assert report["peak_memory_mb"] is None or report["peak_memory_mb"] > 50
    covered = coverage[..., 0] > 127
    assert abs(covered.mean() - report["coverage_mean"]) < 0.02
    assert prior[covered].mean() > 20 and prior[~covered].mean() < 6  # compression smears outlines a little
    with (tmp_path / "scene.ply").open("rb") as file:
        xyz, rgb = read_ply(file)
    assert len(xyz) == len(rgb) > report["static_points"] > 1000
    assert "9 frames of 64x64" in capsys.readouterr().out


def test_bad_takes_end_with_a_message(folder: Path, tmp_path: Path, capsys) -> None:
    assert main(["--take", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "Fix:" in capsys.readouterr().err
    assert main(["--take", str(folder), "--out", str(tmp_path / "out"), "--frames", "49"]) == 1
    assert "Fix:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ply_keeps_points_and_colours(take, read_ply) -> None:
    points = build_scene(take.exo_rgb, take.depth_video()).static
    file = io.BytesIO()
    write_ply(points, file)
    file.seek(0)
    xyz, rgb = read_ply(file)
    assert np.array_equal(xyz, points.xyz.numpy()) and np.array_equal(rgb, points.rgb.numpy())


LONG_CLIP = """
import sys, torch
from dataclasses import replace
import numpy as np
sys.path.insert(0, {root!r})
torch.set_num_threads(1)
from egox_core.cameras.model import CameraModel
from egox_core.prior.options import prior_preset
from egox_core.prior.render import iter_ego_prior
from egox_core.scene.build import build_scene
from egox_core.types import CameraTrajectory, DepthVideo

count, height, width = int(sys.argv[1]), 120, 208

def private_mb():
    with open('/proc/self/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('RssAnon')) / 1024

class Streamed:
    'Frames that are made when asked for, as a mapped file would give them.'
    def __init__(self, make):
        self.make = make
    def __len__(self):
        return count
    def __getitem__(self, t):
        return self.make(t)

u = torch.arange(width).float().expand(height, width)
wall = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0))
box = lambda t: (u - (t * 4) % width).abs() < 20
frames = Streamed(lambda t: torch.where(box(t)[..., None], torch.tensor([1.0, 0, 0]), wall))
depth_m = Streamed(lambda t: torch.where(box(t), torch.tensor(1.5), 3 + 0.002 * u))
exo = CameraModel(lens='pinhole', width=width, height=height, fx=150.0, fy=150.0, cx=103.5, cy=59.5)
ego = CameraModel(lens='pinhole', width=120, height=120, fx=80.0, fy=80.0, cx=59.5, cy=59.5)
path = CameraTrajectory(w2c=torch.eye(3, 4, dtype=torch.float64).repeat(count, 1, 1), camera=ego,
                        times_s=torch.arange(count).double())
before = private_mb()
scene = build_scene(frames, DepthVideo(depth_m=depth_m, camera=exo))
peak, covered = private_mb(), 0.0
for frame in iter_ego_prior(scene, path, replace(prior_preset('clean'), dynamic='keep', supersample=1)):
    peak, covered = max(peak, private_mb()), covered + float(frame.coverage.float().mean())
print(before, peak, covered / count)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts private memory through Linux' /proc")
@pytest.mark.slow
@pytest.mark.parametrize("frames", [121, 480])
def test_memory_grows_with_the_chunk_not_the_clip(repo_root: Path, frames: int) -> None:
    """Long against 49: within 1.2 times the peak (private memory, so that mapped files don't count)."""
    peaks = {}
    for count in (49, frames):
        done = subprocess.run([sys.executable, "-c", LONG_CLIP.format(root=str(repo_root)), str(count)],
                              capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-2000:]
        before, peaks[count], covered = map(float, done.stdout.split())
        assert covered > 0.4 and peaks[count] > before
    assert peaks[frames] <= 1.2 * peaks[49], peaks


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts through Linux' /proc")
@pytest.mark.slow
def test_from_files_to_previews_memory_is_that_of_a_chunk(repo_root: Path, tmp_path: Path) -> None:
    """At full size, both depths, masks and trust: 193 frames within 1.2 times 49."""
    peaks = {}
    for count in (49, 193):
        folder = tmp_path / str(count)
        folder.mkdir()
        script = repo_root / "tests" / "core" / "cli" / "core_path_memory.py"
        command = [sys.executable, str(script), str(repo_root), str(folder), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
        peaks[count] = float(done.stdout)
    assert peaks[193] <= 1.2 * peaks[49], peaks


def test_streamed_frames_give_the_same_prior(take) -> None:
    """Sequences that only give single frames, as a mapped file or a decoder would."""
    class Frames:
        def __init__(self, stack: torch.Tensor) -> None:
            self._stack = stack

        def __len__(self) -> int:
            return len(self._stack)

        def __getitem__(self, frame: int) -> torch.Tensor:
            assert isinstance(frame, int)
            return self._stack[frame]

    whole = build_scene(take.exo_frames(), take.depth_video())
    streamed = build_scene(Frames(take.exo_rgb), take.depth_video())
    assert torch.equal(whole.static.rgb, streamed.static.rgb)
    one, other = (next(iter_ego_prior(scene, take.trajectory())) for scene in (whole, streamed))
    assert torch.equal(one.coverage, other.coverage)
