"""A progress bar for a prompt that runs on the server, and a line for every node that has run."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from .api_client import Event

STAGES: tuple[tuple[str, frozenset[str]], ...] = (
    ("Load Exo Video", frozenset({"EgoXLoadExoVideo"})),
    ("Depth Align", frozenset({"EgoXDepthAlign"})),
    ("Ego Pose Input", frozenset({"EgoXEgoPoseInput", "EgoXEstimateHeadPose"})),
    ("Build Scene and Render Ego Prior", frozenset({"EgoXBuildScene", "EgoXRenderEgoPrior"})),
    (
        "EgoX Conditioning, Model Patch and Sampler",
        frozenset(
            {
                "EgoXConditioning",
                "EgoXModelPatch",
                "EgoXWanSampler",
                "EgoXSampleLong",
                "EgoXReleasedSampling",
                "EgoXLoadLora",
            }
        ),
    ),
    ("Decode Ego Half", frozenset({"EgoXDecodeEgoHalf"})),
)
"""The six stages and the node types that make each."""


def stage_of(node_type: str) -> int | None:
    """Number of the stage, from 1, that a node type belongs to; None for the host's own nodes."""
    return next((number for number, (_, types) in enumerate(STAGES, 1) if node_type in types), None)


class ProgressBar:
    """Give its :meth:`on_event` to ``ApiClient.run``. In a log there are lines only."""

    def __init__(self, prompt: dict[str, Any], out=None) -> None:
        self.prompt, self.out = prompt, out or sys.stdout
        self.current: str | None = None
        self.began = 0.0
        self.bar = tqdm(
            total=len(prompt),
            file=self.out,
            disable=not self.out.isatty(),
            leave=False,
            unit="node",
        )

    def on_event(self, event: Event) -> None:
        kind, data = event
        if kind == "execution_cached":
            self.bar.update(len(data.get("nodes", [])))
        elif kind == "progress_state":
            state = data["nodes"].get(self.current, {})
            if state.get("state") == "running":
                self.bar.set_postfix_str(f"{self._type()} {state['value']:g}/{state['max']:g}")
        elif kind in ("executing", "execution_success", "execution_error", "execution_interrupted"):
            if self.current is not None and kind in ("executing", "execution_success"):
                stage = stage_of(self._type())
                label = f"stage {stage} of {len(STAGES)}" if stage else ""
                seconds = time.monotonic() - self.began
                tqdm.write(f"  {label:<13} {self._type():<24} {seconds:7.1f} s", self.out)
                self.bar.update()
            self.current = data.get("node") if kind == "executing" else None
            self.began = time.monotonic()
            if self.current is not None:
                self.bar.set_postfix_str(self._type())
            elif kind != "executing":
                self.bar.close()

    def _type(self) -> str:
        # Nodes that a node made itself while running are not in the prompt.
        return self.prompt.get(self.current, {}).get("class_type", "?")
