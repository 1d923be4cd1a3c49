"""``run.py demo`` as a whole, small: a server of its own, all stages, the four results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest

from tools.setup.demo import DemoOptions, run_demo
from tools.setup.environment import Environment
from tools.setup.layout import Layout

SIZE, FRAMES = 64, 5


class ElsewhereLayout(Layout):
    """This checkout, but with state and results in a folder of the test."""

    elsewhere: Path

    @property
    def state(self) -> Path:
        return self.elsewhere / "state"

    @property
    def output(self) -> Path:
        return self.elsewhere / "output"


@pytest.fixture
def apart(environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setattr(ElsewhereLayout, "elsewhere", tmp_path, raising=False)
    return replace(environment, layout=ElsewhereLayout(environment.layout.repo))


def test_demo_leaves_its_four_results(apart: Environment, repo_root: Path, capsys) -> None:
    """With --take, so that staging is part of it; the sample is a take like any other."""
    take = repo_root / "sample" / "synthetic_room"
    said: list[str] = []
    assert run_demo(apart, DemoOptions(take=take, frames=FRAMES, size=SIZE, steps=1), said.append) == 0
    results = apart.layout.output / "egox_demo"
    assert sorted(path.name for path in results.iterdir()) == [
        "contact_sheet.png", "ego.mp4", "prior.mp4", "side_by_side.mp4"]
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
    assert "All 6 stages ran" in ran and all(f"stage {number} of 6" in ran for number in range(1, 7))
    staged = apart.layout.base / "input" / "take_synthetic_room"
    assert (staged / "exo.mp4").is_file(), "staged into the demo host's own input folder"
