"""Test ``run.py prior``: its files, report and error messages."""

from pathlib import Path

import numpy as np
import pytest
import torch

import train_egox
from egox_core.safe_files import read_json
from egox_core.take import load_take
from egox_core.types import DOUBTFUL, EARLIER, NOW, UNOBSERVED
from egox_train.cli.facts import main as facts_main
from egox_train.cli.prior import main
from egox_train.data.clip_files import read_all, read_classes
from egox_train.options import parse_scale
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.full_disk import limit_file_size
from tests.refusals import refuses
from tests.train.prepared_takes import IN_CM, write_in_cm

SPEC = SyntheticSpec(
    seed=4, frames=9, fps=5.0, exo_width=128, exo_height=64, ego_size=64, edge_samples=1
)


@pytest.fixture(scope="module")
def take_folder(tmp_path_factory) -> Path:
    take_folder = tmp_path_factory.mktemp("takes") / "täke with a space"
    write_take(make_take(SPEC), take_folder)
    return take_folder


def test_prior_command_writes_video_coverage_and_report(take_folder, tmp_path, read_ply, capsys):
    command_words = ["--take", str(take_folder), "--preset", "clean", "--out", str(tmp_path)]
    assert main([*command_words, "--frames", "9", "--ply"]) == 0
    prior_video, coverage_video = (
        read_all(tmp_path / f"{name}.mp4", 9, (64, 64)).numpy() for name in ("prior", "coverage")
    )
    report_content = read_json(tmp_path / "report.json")
    assert (
        report_content["preset"] == "clean"
        and report_content["frames"] == 9
        and len(report_content["coverage"]) == 9
    )
    assert set(report_content["seconds"]) == {"load", "scene", "render and write"}
    assert report_content["peak_memory_mb"] is None or report_content["peak_memory_mb"] > 50
    class_video = read_classes(tmp_path / "seen.mkv", 9, (64, 64)).numpy()
    assert (
        set(np.unique(class_video)) <= {UNOBSERVED, DOUBTFUL, EARLIER, NOW}
        and (class_video == NOW).any()
    )
    assert (class_video > UNOBSERVED).mean() == pytest.approx(
        report_content["coverage_mean"], abs=1e-4
    )
    assert report_content["hidden_lines"] == "draw" and "% now and" in report_content["notes"][-1]
    covered_mask = coverage_video[..., 0] > 127
    assert abs(covered_mask.mean() - report_content["coverage_mean"]) < 0.02
    assert (
        prior_video[covered_mask].mean() > 20 and prior_video[~covered_mask].mean() < 6
    )  # compression smears outlines a little
    with (tmp_path / "scene.ply").open("rb") as point_file:
        xyz, rgb = read_ply(point_file)
    assert len(xyz) == len(rgb) > report_content["static_points"] > 1000
    assert "9 frames of 64x64" in capsys.readouterr().out


def test_a_take_in_cm_is_right_once_that_is_declared(take_folder, tmp_path, capsys):
    in_cm = tmp_path / "cm"
    write_in_cm(take_folder, in_cm)
    words = [word for fact in IN_CM for word in ("--declare", fact)]
    expected = load_take(take_folder, frame_count=9)
    take = load_take(in_cm, frame_count=9, declared=", ".join(IN_CM))
    for got, right in (
        (take.depth.depth_m, expected.depth.depth_m),
        (take.trajectory.ego.w2c, expected.trajectory.ego.w2c),
        (take.depth.exo.w2c, expected.depth.exo.w2c),
    ):
        torch.testing.assert_close(got, right, rtol=1e-3, atol=1e-6, equal_nan=True)
    assert facts_main([str(in_cm), *words]) == 0
    assert "ego.unit: cm (by declared)" in capsys.readouterr().out
    assert facts_main([str(in_cm), "--declare", "ego.time_offset_s=1"]) == 1
    assert train_egox.main(["facts", "--root", str(tmp_path), *words]) == 0
    assert "all 1 takes: depth.unit: cm (by declared)" in capsys.readouterr().out
    write_in_cm(take_folder, in_cm, declared=dict(fact.split("=") for fact in IN_CM))
    assert main(["--take", str(in_cm), "--out", str(tmp_path / "prior"), "--frames", "9"]) == 0
    report_content = read_json(tmp_path / "prior" / "report.json")
    assert "exo.unit: cm (by declared in meta.json)" in report_content["facts"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (main, ["--take", "empty", "--out"]),
        (train_egox.main, ["prepare", "empty"]),
        (train_egox.main, ["cache", "empty/file", "--vae", "empty", "--text", "empty"]),
        (train_egox.main, ["lerobot", "--clips", "empty", "--out"]),
    ],
)
def test_unwritable_output_is_refused_before_reading(tmp_path, capsys, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "file").write_text("x")
    (tmp_path / "file").write_text("x")
    assert command([*words, str(tmp_path / "file" / "out")]) != 0
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1 and f"{str(tmp_path / 'file' / 'out')!r}, where nothing" in error
    ), error


def test_full_disk_gives_a_one_line_error(take_folder, tmp_path, capsys):
    with limit_file_size(5000):
        assert (
            main(["--take", str(take_folder), "--frames", "9", "--out", str(tmp_path / "out")]) == 1
        )
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith("run.py prior: ") and "File too large" in last_line


def test_scale_option_is_parsed():
    assert (parse_scale("as-is"), parse_scale("wearer"), parse_scale("1.5")) == (
        "as is",
        "wearer",
        1.5,
    )
    for scale_text in ("head", "0", "-1", "nan"):
        with refuses("scale"):
            parse_scale(scale_text)
