"""``run.py demo`` as a whole, small: a server of its own, all stages, the four results."""

from dataclasses import replace

import av
import pytest

from egox_core.file_names import HEAD_KEYPOINTS
from egox_core.video.grid import GAP
from tools.setup.api_client import PromptRefused
from tools.setup.demo import (
    DemoOptions,
    apply_options,
    frames_in_use,
    run_demo,
    run_prompt,
    save_prior,
)
from tools.setup.demo_head import HEAD, estimate_head, keypoints_in_use
from tools.setup.layout import Layout, SetupError
from tools.setup.server import Server

from .prompts import ran
from .test_server import image, shown

SIZE, FRAMES = 64, 5
BEFORE_THE_MODEL = {
    "EgoXLoadExoVideo",
    "EgoXDepthAlign",
    "EgoXBuildScene",
    HEAD,
    "EgoXEgoPoseInput",
    "EgoXRenderEgoPrior",
}


def test_demo_leaves_its_four_results_and_a_server_until_it_ends(
    environment, tmp_path, repo_root, capsys, monkeypatch
):
    """With --take, so that staging is part of it; the sample is a take like any other. State and
    results are in a folder of the test."""
    layout = Layout(tmp_path)
    layout.repo = environment.layout.repo
    ended = []

    def dies(server: Server) -> None:
        assert server.is_running()
        with pytest.raises(SetupError, match="(?s)The server went away.*The end of .*Prompt exec"):
            kill = server.process.kill
            monkeypatch.setattr("tools.setup.demo.Progress", lambda prompt: lambda event: kill())
            run_prompt(server, {"1": image(64, 7), "2": shown("1")})
        server.process.wait(30)  # killed, it may take a moment to be gone
        ended.append(server.is_running())

    monkeypatch.setattr(Server, "wait_for_ctrl_c", dies)
    options = DemoOptions(
        take=repo_root / "sample" / "synthetic_room",
        frames=FRAMES,
        size=SIZE,
        steps=1,
        keep_server=True,
    )
    assert run_demo(replace(environment, layout=layout), options) == 0 and ended == [False]
    results = layout.output / "egox_demo"
    assert sorted(path.name for path in results.iterdir()) == [
        "contact_sheet.png",
        "ego.mp4",
        "prior.mp4",
        "side_by_side.mp4",
    ]
    widths = {"ego.mp4": SIZE, "prior.mp4": SIZE, "side_by_side.mp4": 112 + 3 * (SIZE + GAP)}
    for name, width in widths.items():
        with av.open(str(results / name)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (width, SIZE), name
            assert stream.sample_aspect_ratio in (None, 0, 1), "square pixels"
            assert sum(1 for _ in container.decode(stream)) == FRAMES, name
    console = capsys.readouterr().out
    assert f"Server: ComfyUI {environment.host.version_text} at http://127.0.0.1:" in console
    assert "STAND-IN" in console and "egox_standin_wan22_i2v.safetensors" in console
    assert all(f"\n  {name} " in console for name in ("LoadExoVideo", "DecodeEgoHalf", "SaveVideo"))


def test_the_estimated_head_in_the_demo_s_graph(
    client, load_workflow, object_info, server_base, repo_root
):
    """``--head estimated``: the graph that it makes, run up to the prior, on the keypoints that
    ship."""
    prompt = save_prior(
        apply_options(load_workflow("egox_demo"), DemoOptions(frames=9, size=SIZE), None)
    )
    exo, chosen = frames_in_use(prompt, server_base, Layout(repo_root))
    assert exo.parent == repo_root / "sample" / "calm_room"
    keypoints = keypoints_in_use(exo.parent / HEAD_KEYPOINTS, exo, chosen)
    prompt = {
        name: node
        for name, node in estimate_head(prompt, keypoints, object_info).items()
        if node["class_type"] in BEFORE_THE_MODEL or name.startswith("prior_")
    }
    outcome = ran(client, prompt)
    assert "profile, back or small: the turn is a guess" in outcome.outputs["head"]["text"][0]

    del prompt["head"]["inputs"]["pose_keypoints"]
    with pytest.raises(PromptRefused, match="no output of a detector"):
        client.run(prompt)
