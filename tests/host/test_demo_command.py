"""``run.py demo`` as a whole, small: a server of its own, all stages, the three results."""

from dataclasses import replace

import pytest

from egox_core.video import probe_video
from tools.setup.demo import GAP, DemoOptions, run_demo, run_prompt
from tools.setup.layout import Layout, SetupError
from tools.setup.server import Server

from .test_server import image, shown

SIZE, FRAMES = 64, 5


@pytest.mark.slow
def test_demo_leaves_its_three_results_and_a_server_until_it_ends(
    environment, tmp_path, repo_root, capsys, monkeypatch
):
    """With --take, staging is part of it. The sample is a take like any other. State and results
    are in a folder of the test."""
    layout = Layout(tmp_path)
    layout.repo = environment.layout.repo
    ended = []

    def dies(server: Server) -> None:
        assert server.is_running()
        with pytest.raises(SetupError, match="(?s)The server went away.*The end of .*Prompt exec"):
            kill = server.process.kill
            monkeypatch.setattr("tools.setup.demo.announce", lambda prompt: lambda event: kill())
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
    widths = {"ego.mp4": SIZE, "prior.mp4": SIZE, "side_by_side.mp4": 112 + 3 * (SIZE + GAP)}
    results = {file.name: probe_video(file) for file in (layout.output / "egox_demo").iterdir()}
    assert {name: info.width for name, info in results.items()} == widths
    assert {(info.height, info.frame_count) for info in results.values()} == {(SIZE, FRAMES)}
    console = capsys.readouterr().out
    assert f"Server: ComfyUI {environment.host.version_text} at http://127.0.0.1:" in console
    assert "STAND-IN" in console and "egox_standin_wan22_i2v.safetensors" in console
    assert all(
        f"\n  {name}\n" in console for name in ("LoadExoVideo", "DecodeEgoHalf", "SaveVideo")
    )
