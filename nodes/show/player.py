"""The players on the nodes: clips as contact sheets in the host's temp folder, sent to the page with
a node's result; ``web/js/previews.js`` draws them."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_execution.utils import get_executing_context
from torch import Tensor

from ...egox_core.frozen import frozen
from ...egox_core.page import Drawn, common_step, make_sheets
from ...egox_core.progress import Progress, no_progress
from ...egox_core.types import UNTIMED_FPS
from .temp_files import temp_file

KEY = "egox_preview"
LABELS = {"truth": "ground truth"}
"""What people read in place of a stream's name."""


@frozen
class Stream:
    """One clip (or picture) of a player."""

    name: str  # for code: exo, prior, ego, truth, coverage, depth, plot, ...
    frames: Tensor | Drawn  # [T, H, W, 3] 0...1; one frame is a still, shown at all times
    legend: dict[str, Any] | None = None  # colours (low to high) and ticks ({at 0...1, label})
    pick: dict[str, str] | None = None  # widgets that a click sets: x, y (px of the frames), frame
    max_side: int | None = None  # px, of a shown frame


def preview_ui(
    kind: str,  # prior | depth | compare | attention: what the page shows first
    streams: Sequence[Stream],
    *,
    text: str = "",
    fps: float | None = None,
    # label, unit, values: one per frame, drawn over the timeline
    curve: dict[str, Any] | None = None,
    # x, y (px of the picked stream), frame: where the crosshair is
    mark: dict[str, Any] | None = None,
    # the key of a text of the page: what must not be overlooked
    badge: str | bool | None = None,
    # what it was made with (see upstream_values), to tell runs apart
    values: dict[str, dict] | None = None,
    # of geometry_data: a view of weights over the stream "exo"
    geometry: dict[str, Any] | None = None,
    measure: str | None = None,  # how near it came, for a list of runs: "17.3 dB"
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """The node's ``ui`` result: the note as text, and what the page needs for the preview."""
    frames = max((len(stream.frames) for stream in streams), default=0)
    step = common_step(frames)
    preview = {
        "kind": kind,
        "fps": float(fps or UNTIMED_FPS),
        "frames": frames,
        "streams": [_written(stream, step, progress) for stream in streams],
        "curve": curve,
        "mark": mark,
        "text": text,
        "badge": badge or None,
        "values": values or {},
        "measure": measure,
        "geometry": geometry,
        "run": getattr(get_executing_context(), "prompt_id", None),
    }
    return {"text": (text,), KEY: [preview]}


def streams_of(clips: Mapping[str, Tensor | None]) -> list[Stream]:
    """Streams of clips [T, H, W, 3 or 4] by their names, without those that are missing."""
    return [
        Stream(name=name, frames=clip[..., :3]) for name, clip in clips.items() if clip is not None
    ]


def _written(stream: Stream, step: int, progress: Progress) -> dict[str, Any]:
    size = {} if stream.max_side is None else {"max_side": stream.max_side}
    sheets = make_sheets(stream.frames, step=step, progress=progress, **size)
    name = f"{stream.name}_{uuid.uuid4().hex}"
    files = [temp_file(f"{name}_{number}.jpg", data) for number, data in enumerate(sheets.files)]
    return stream_data(stream.name, sheets.layout(), files) | {
        "legend": stream.legend,
        "pick": stream.pick,
        "source": [int(stream.frames.shape[2]), int(stream.frames.shape[1])],
    }


def stream_data(
    name: str, layout: dict[str, int], files: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """A plain stream as the page reads it; ``files`` hold the sheets."""
    return {
        "name": name,
        "label": LABELS.get(name, name),
        **layout,
        "files": files,
        "legend": None,
        "pick": None,
        "source": [layout["width"], layout["height"]],
    }
