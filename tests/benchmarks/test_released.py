"""Test ``bench released``: the settings of the published run, and a run with stand-in models."""

import subprocess
import sys

import pytest

from benchmarks import released
from tools.setup.demo import DemoOptions, inputs_by_type


@pytest.mark.parametrize("stand_in", [False, True])
def test_the_graph_is_set_as_the_public_run_was(repo_root, stand_in):
    options = DemoOptions(take=repo_root / "sample/calm_room", steps=released.STEPS)
    prompt = released.released_prompt(options, "take_x", stand_in, repo_root)
    (sampler_inputs,), (loader_inputs,) = (
        inputs_by_type(prompt, "EgoXWanSampler"),
        inputs_by_type(prompt, "EgoXLoadExoVideo"),
    )
    assert (sampler_inputs["seed"], sampler_inputs["steps"], sampler_inputs["noise"]) == (
        42,
        50,
        "released",
    )
    assert loader_inputs["file"] == "take_x/exo.mp4" and loader_inputs["frame_count"] == 49
    assert (loader_inputs["width"], loader_inputs["height"]) == (784, 448)
    if not stand_in:
        released_settings = {"cfg": 5.0, "lambda_g": 3.0, "sampler": "released", "shift": 3.0}
        assert released_settings.items() <= sampler_inputs.items()
        assert inputs_by_type(prompt, "EgoXLoadLora")[0]["strength"] == 1.0


def test_without_a_truth_it_ends_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["released", "--take", str(tmp_path)])
    with pytest.raises(SystemExit, match="no true ego video.*ego_GT.mp4"):
        released.main()


@pytest.mark.slow
def test_it_runs_with_stand_ins_to_the_end(repo_root):
    completed = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.released",
            "--take",
            "sample/synthetic_room",
            "--stand-in",
            "--frames",
            "5",
            "--size",
            "112",
            "--steps",
            "1",
        ],
        cwd=repo_root,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "STAND-IN weights: the path ran to its end" in completed.stdout
    assert "| PSNR |" in completed.stdout and "17.83" in completed.stdout
