"""The headless prior: what it writes, what it says, and how much memory a long clip takes."""

import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from egox_core.prior.options import PRIOR_PRESETS
from egox_core.prior.render import iter_ego_prior
from egox_core.safe_files import read_json, write_json
from egox_core.scene.build import build_scene
from egox_core.scene.viewer import write_ply
from egox_core.types import DOUBTFUL, EARLIER, NOW, UNOBSERVED
from egox_train.cli.prior import main
from egox_train.options import parse_scale
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.refusals import refuses

SPEC = SyntheticSpec(
    seed=4, frames=9, fps=5.0, exo_width=128, exo_height=64, ego_size=64, edge_samples=1
)


@pytest.fixture(scope="module")
def take():
    return make_take(SPEC)


@pytest.fixture(scope="module")
def folder(take, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("takes") / "täke with a space"
    write_take(take, path)
    return path


def test_an_exo_camera_in_the_hand(tmp_path, capsys):
    way = {"exo_path": "dolly", "exo_motion": 0.4, "exo_width": 224, "exo_height": 128}
    write_take(make_take(replace(SPEC, seed=5, texture="soft", **way)), tmp_path)
    meta = read_json(tmp_path / "meta.json", "meta")
    meta["camera_extrinsics"] = meta["camera_extrinsics"][0]  # as of a camera that stands
    write_json(tmp_path / "meta.json", meta)
    call = ["--take", str(tmp_path), "--frames", "9", "--size", "64", "--out", str(tmp_path)]
    assert main(call) == 0
    motion = read_json(tmp_path / "report.json", "report")["exo_motion"]
    assert motion["motion"] == "moves" and 0.2 < motion["travel_m"] < 0.5 < motion["agree"]
    assert main([*call, "--exo-motion", "stands"]) == 0
    assert "one pose, but" in capsys.readouterr().out


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("preset", list(PRIOR_PRESETS))
def test_it_writes_prior_coverage_and_report(folder, tmp_path, preset, read_ply, capsys):
    call = ["--take", str(folder), "--preset", preset, "--out", str(tmp_path)]
    assert main([*call, "--frames", "9", "--ply"]) == 0
    prior, coverage = decoded(tmp_path / "prior.mp4"), decoded(tmp_path / "coverage.mp4")
    assert prior.shape == coverage.shape == (9, 64, 64, 3)
    report = read_json(tmp_path / "report.json")
    assert report["preset"] == preset and report["frames"] == 9 and len(report["coverage"]) == 9
    assert set(report["seconds"]) == {"load", "scene", "render and write"}
    assert report["peak_memory_mb"] is None or report["peak_memory_mb"] > 50
    with av.open(str(tmp_path / "seen.mkv")) as file:
        seen = np.stack([frame.to_ndarray() for frame in file.decode(video=0)])
    assert set(np.unique(seen)) <= {UNOBSERVED, DOUBTFUL, EARLIER, NOW} and (seen == NOW).any()
    assert (seen > UNOBSERVED).mean() == pytest.approx(report["coverage_mean"], abs=1e-4)
    assert report["hidden_lines"] == "draw" and "% observed now" in report["notes"][-1]
    covered = coverage[..., 0] > 127
    assert abs(covered.mean() - report["coverage_mean"]) < 0.02
    assert (
        prior[covered].mean() > 20 and prior[~covered].mean() < 6
    )  # compression smears outlines a little
    with (tmp_path / "scene.ply").open("rb") as file:
        xyz, rgb = read_ply(file)
    assert len(xyz) == len(rgb) > report["static_points"] > 1000
    assert "9 frames of 64x64" in capsys.readouterr().out


def test_bad_takes_end_with_a_message(folder, tmp_path, capsys):
    assert main(["--take", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "Fix:" in capsys.readouterr().err
    assert main(["--take", str(folder), "--out", str(tmp_path / "out"), "--frames", "49"]) == 1
    assert "Fix:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ply_keeps_points_and_colours(take, read_ply):
    points = build_scene(take.exo_rgb, take.depth_video()).static
    file = io.BytesIO()
    write_ply(points, file)
    file.seek(0)
    xyz, rgb = read_ply(file)
    assert np.array_equal(xyz, points.xyz.numpy()) and np.array_equal(rgb, points.rgb.numpy())


def test_streamed_frames_give_the_same_prior(take):
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


def test_the_words_of_a_scale():
    assert (parse_scale("as-is"), parse_scale("wearer"), parse_scale("1.5")) == (
        "as is",
        "wearer",
        1.5,
    )
    for text in ("head", "0", "-1", "nan"):
        with refuses("scale"):
            parse_scale(text)
