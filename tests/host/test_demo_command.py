"""Test that ``run.py demo`` runs all stages and writes its videos."""

from dataclasses import replace

import pytest

from egox_core.video import probe_video
from egox_core.video.grid import GAP, label_height
from tools.setup.demo import DemoOptions, run_demo, run_prompt
from tools.setup.layout import Layout, SetupError
from tools.setup.server import Server

from .test_server import image_node, preview_node

SIZE, FRAMES = 64, 5


@pytest.mark.slow
def test_the_demo_command_writes_three_videos_and_reports_a_dead_server(
    environment, tmp_path, repo_root, capsys, monkeypatch
):
    """Check the command's videos, and its error message when the server dies during a run."""
    layout = Layout(tmp_path)
    layout.repo = environment.layout.repo
    alive_after_kill = []

    def kill_during_prompt(server: Server) -> None:
        assert server.is_running()
        with pytest.raises(SetupError, match="(?s)The server went away.*The end of .*Prompt exec"):
            kill = server.process.kill
            monkeypatch.setattr(
                "tools.setup.demo.print_node_names", lambda prompt: lambda event: kill()
            )
            run_prompt(server, {"1": image_node(64, 7), "2": preview_node("1")})
        server.process.wait(30)  # killed, it may take a moment to be gone
        alive_after_kill.append(server.is_running())

    monkeypatch.setattr(Server, "wait_for_ctrl_c", kill_during_prompt)
    options = DemoOptions(
        take=repo_root / "sample" / "synthetic_room", frames=FRAMES, size=SIZE, keep_server=True
    )
    assert run_demo(replace(environment, layout=layout), options) == 0 and alive_after_kill == [
        False
    ]
    film_size = 112 + 3 * (SIZE + GAP), SIZE + label_height(SIZE)
    expected_sizes = {
        "preview.mp4": (SIZE, SIZE),
        "prior.mp4": (SIZE, SIZE),
        "side_by_side.mp4": film_size,  # exo, prior, preview, truth
    }
    video_infos = {file.name: probe_video(file) for file in (layout.output / "egox_demo").iterdir()}
    sizes = {name: (info.width, info.height) for name, info in video_infos.items()}
    assert sizes == expected_sizes
    assert {info.frame_count for info in video_infos.values()} == {FRAMES}
    console_text = capsys.readouterr().out
    assert f"Server: ComfyUI {environment.host.version_text} at http://127.0.0.1:" in console_text
    assert "(no model)" in console_text
    assert all(
        f"\n  {name}\n" in console_text for name in ("LoadExoVideo", "PreviewEgoView", "SaveVideo")
    )
