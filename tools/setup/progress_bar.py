"""A one-line progress bar for a prompt that runs on the server, and a line for every node that has run."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from .api_client import Event

STAGES: tuple[tuple[str, frozenset[str]], ...] = (
    ("Load Exo Video", frozenset({"EgoXLoadExoVideo"})),
    ("Depth Align", frozenset({"EgoXDepthAlign"})),
    ("Ego Pose Input", frozenset({"EgoXEgoPoseInput", "EgoXEstimateHeadPose"})),
    ("Build Scene and Render Ego Prior", frozenset({"EgoXBuildScene", "EgoXRenderEgoPrior"})),
    ("EgoX Conditioning, Model Patch and Sampler",
     frozenset({"EgoXConditioning", "EgoXModelPatch", "EgoXWanSampler", "EgoXReleasedSampling", "EgoXLoadLora"})),
    ("Decode Ego Half", frozenset({"EgoXDecodeEgoHalf"})),
)
"""The six stages and the node types that make each."""

HEARTBEAT_S = 30.0


def stage_of(node_type: str) -> int | None:
    """Number of the stage, from 1, that a node type belongs to; None for the host's own nodes."""
    return next((number for number, (_, types) in enumerate(STAGES, 1) if node_type in types), None)


class ProgressBar:
    """Give its :meth:`on_event` to ``ApiClient.run``."""

    def __init__(self, prompt: dict[str, Any], out=None) -> None:
        self.prompt, self.out = prompt, out or sys.stdout
        self.live = self.out.isatty()
        self.nodes_run: set[str] = set()
        self.current: str | None = None
        self.began = 0.0
        self.width = 0
        self.last_line = 0.0

    def on_event(self, event: Event) -> None:
        kind, data = event
        if kind == "execution_cached":
            self.nodes_run.update(data.get("nodes", []))
        elif kind == "executing":
            self._end_node()
            if data.get("node"):
                self.current, self.began = data["node"], time.monotonic()
                self._draw(0, 0)
        elif kind == "progress_state" and self.current in data.get("nodes", {}):
            state = data["nodes"][self.current]
            if state.get("state") == "running":
                self._draw(state.get("value", 0), state.get("max", 0))
        elif kind in ("execution_success", "execution_error", "execution_interrupted"):
            if kind == "execution_success":
                self._end_node()
            self.current = None
            self._clear()

    def _type(self, node_id: str) -> str:
        # Nodes that a node made itself while running are not in the prompt.
        return self.prompt.get(node_id, {}).get("class_type", "?")

    def _end_node(self) -> None:
        if self.current is None:
            return
        self.nodes_run.add(self.current)
        kind, seconds = self._type(self.current), time.monotonic() - self.began
        self._clear()
        stage = stage_of(kind)
        label = f"stage {stage} of {len(STAGES)}" if stage else ""
        print(f"  {label:<13} {kind:<24} {seconds:7.1f} s", file=self.out, flush=True)
        self.current = None

    def _draw(self, value: float, most: float) -> None:
        if self.current is None:
            return
        if not self.live:
            self._heartbeat(value, most)
            return
        fraction = min(value / most, 1.0) if most else 0.0
        total = max(len(self.prompt), 1)
        overall = min((len(self.nodes_run) + fraction) / total, 1.0)
        bar = "#" * round(overall * 24)
        inner = f" {value:g}/{most:g}" if most else ""
        text = f"  [{bar:<24}] {overall:4.0%} {self._type(self.current)}{inner} {time.monotonic() - self.began:.0f} s"
        text = text[: shutil.get_terminal_size().columns - 1]
        self.out.write("\r" + text.ljust(self.width))
        self.out.flush()
        self.width = len(text)

    def _heartbeat(self, value: float, most: float) -> None:
        """In a log, where no bar can move: a line now and then, so that a long node is seen to live."""
        now = time.monotonic()
        if now - max(self.last_line, self.began) >= HEARTBEAT_S:
            self.last_line = now
            print(f"    ... {self._type(self.current)} {value:g}/{most:g}, {now - self.began:.0f} s", file=self.out,
                  flush=True)

    def _clear(self) -> None:
        if self.live and self.width:
            self.out.write("\r" + " " * self.width + "\r")
            self.width = 0
