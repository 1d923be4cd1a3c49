"""``run.py demo`` as a whole, small: a server of its own, all stages, the four results."""

from __future__ import annotations

from dataclasses import replace

import av
import pytest

from egox_core.file_names import HEAD_KEYPOINTS
from tools.setup.api_client import PromptRefused
from tools.setup.demo import DemoOptions, apply_options, find_exo, of_type, run_demo, save_prior
from tools.setup.demo_head import HEAD, estimate_head, keypoints_in_use
from tools.setup.environment import Environment
from tools.setup.layout import Layout

from .prompts import ran

SIZE, FRAMES = 64, 5
BEFORE_THE_MODEL = {
    "EgoXLoadExoVideo",
    "EgoXDepthAlign",
    "EgoXBuildScene",
    HEAD,
    "EgoXEgoPoseInput",
    "EgoXRenderEgoPrior",
}


@pytest.fixture
def apart(environment, tmp_path) -> Environment:
    """This checkout, but with state and results in a folder of the test."""
    layout = Layout(tmp_path)
    layout.repo = environment.layout.repo
    return replace(environment, layout=layout)


def test_demo_leaves_its_four_results(apart, repo_root, capsys):
    """With --take, so that staging is part of it; the sample is a take like any other."""
    take = repo_root / "sample" / "synthetic_room"
    said: list[str] = []
    assert (
        run_demo(apart, DemoOptions(take=take, frames=FRAMES, size=SIZE, steps=1), said.append) == 0
    )
    results = apart.layout.output / "egox_demo"
    assert sorted(path.name for path in results.iterdir()) == [
        "contact_sheet.png",
        "ego.mp4",
        "prior.mp4",
        "side_by_side.mp4",
    ]
    widths = {"ego.mp4": SIZE, "prior.mp4": SIZE, "side_by_side.mp4": 112 + 3 * SIZE}
    for name, width in widths.items():
        with av.open(str(results / name)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (width, SIZE), name
            assert stream.sample_aspect_ratio in (None, 0, 1), "square pixels"
            assert sum(1 for _ in container.decode(stream)) == FRAMES, name
    console = "\n".join(said)
    assert f"Server: ComfyUI {apart.host.version_text} at http://127.0.0.1:" in console
    assert all(name in console for name in (*widths, "contact_sheet.png")) and "STAND-IN" in console
    assert "egox_standin_wan22_i2v.safetensors" in console
    ran = capsys.readouterr().out
    assert "All 6 stages ran" in ran and all(
        f"stage {number} of 6" in ran for number in range(1, 7)
    )
    staged = apart.layout.base / "input" / "take_synthetic_room"
    assert (staged / "exo.mp4").is_file(), "staged into the demo host's own input folder"


def test_the_estimated_head_in_the_demo_s_graph(
    client, load_workflow, object_info, server_base, repo_root
):
    """``--head estimated``: the graph that it makes, run up to the prior, on the keypoints that
    ship."""
    prompt = save_prior(
        apply_options(load_workflow("egox_demo"), DemoOptions(frames=9, size=SIZE), None)
    )
    (load,) = of_type(prompt, "EgoXLoadExoVideo")
    exo = find_exo(load, server_base, Layout(repo_root))
    assert exo.parent == repo_root / "sample" / "calm_room"
    prompt = estimate_head(
        prompt, keypoints_in_use(exo.parent / HEAD_KEYPOINTS, exo, load), object_info
    )
    prompt = {
        name: node
        for name, node in prompt.items()
        if node["class_type"] in BEFORE_THE_MODEL or name.startswith("prior_")
    }
    outcome = ran(client, prompt)
    assert "profile, back or small: the turn is a guess" in outcome.outputs["head"]["text"][0]

    prompt["head"]["inputs"]["up"] = "nowhere"
    with pytest.raises(PromptRefused, match="nowhere"):
        client.run(prompt)
