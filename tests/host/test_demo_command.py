"""``run.py demo`` as a whole, small: a server of its own, all stages, the four results."""

from dataclasses import replace

import av
import pytest

from egox_core.video.grid import GAP
from tools.setup.demo import DemoOptions, run_demo, run_prompt
from tools.setup.layout import Layout, SetupError
from tools.setup.server import Server

from .test_server import image, shown

SIZE, FRAMES = 64, 5


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
