"""Previews on the nodes: clips as contact sheets in the host's temp folder, told to the page with the node's result.

``web/js/previews.js`` draws them; a page that isn't there (headless runs) costs the writing of a few JPEGs.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from torch import Tensor

from ..egox_core.previews.sheets import common_step, make_sheets
from ..egox_core.progress import Progress, no_progress

KEY = "egox_preview"
SUBFOLDER = "egox"
DEFAULT_FPS = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One clip (or picture) of a preview."""

    name: str  # for code: exo, prior, ego, truth, coverage, depth, plot, ...
    label: str  # for people
    frames: Tensor  # [T, H, W, 3] 0...1; one frame is a still, shown at all times
    legend: dict[str, Any] | None = None  # colours (low to high) and ticks ({at 0...1, label})
    pick: dict[str, str] | None = None  # widgets that a click sets: x, y (px of the frames), frame
    max_side: int | None = None  # px, of a shown frame
    every: int = 1  # frames of the clip for each of these


def preview_ui(
    kind: str,  # prior | depth | compare | attention: what the page shows first
    streams: Sequence[Stream],
    *,
    text: str = "",
    fps: float | None = None,
    curve: dict[str, Any] | None = None,  # label, unit, values: one a frame, drawn over the timeline
    mark: dict[str, Any] | None = None,  # x, y (px of the picked stream), frame: where the crosshair is
    plots: Sequence[dict[str, Any]] = (),  # label, applied and fit (values a frame, None: none): a view of curves
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """The node's ``ui`` result: the note as text, and what the page needs for the preview."""
    frames = max((len(stream.frames) for stream in streams), default=0)
    step = common_step(frames)
    shown = [_written(stream, step, progress) for stream in streams]
    preview = {"kind": kind, "fps": float(fps or DEFAULT_FPS), "frames": frames, "streams": shown, "curve": curve,
               "mark": mark, "plots": list(plots), "text": text}
    return {"text": (text,), KEY: [preview]}


def clip_fps(times_s: Tensor | None) -> float | None:
    """Frames a second of frames at these times [T]; None where that can't be told."""
    if times_s is None or len(times_s) < 2:
        return None
    span = float(times_s[-1] - times_s[0])
    return (len(times_s) - 1) / span if span > 0 else None


def _written(stream: Stream, step: int, progress: Progress) -> dict[str, Any]:
    size = {} if stream.max_side is None else {"max_side": stream.max_side}
    sheets = make_sheets(stream.frames, step=step, progress=progress, **size)
    folder = Path(folder_paths.get_temp_directory()) / SUBFOLDER
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{stream.name}_{uuid.uuid4().hex}"
    files = []
    for number, data in enumerate(sheets.files):
        path = folder / f"{name}_{number}.jpg"
        path.write_bytes(data)
        files.append({"filename": path.name, "subfolder": SUBFOLDER, "type": "temp"})
    return {"name": stream.name, "label": stream.label, **sheets.layout(), "step": sheets.step * stream.every,
            "files": files, "legend": stream.legend, "pick": stream.pick,
            "source": [int(stream.frames.shape[2]), int(stream.frames.shape[1])]}
