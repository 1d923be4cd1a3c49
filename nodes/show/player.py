"""Write clips as contact sheets, and describe them for the page's players.

``web/js/previews.js`` draws them.
"""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from comfy_execution.utils import get_executing_context
from torch import Tensor

from ...egox_core.page import Drawn, common_step, make_sheets
from ...egox_core.progress import Progress, no_progress
from ...egox_core.remarks import FactRow, facts_text
from ...egox_core.types import (
    CameraTrajectory,
    DepthVideo,
    seen_shares,
    seen_text,
)
from ..host.film import LABELS
from ..host.video import clip_fps
from .temp_files import write_temp_file

KEY = "egox_preview"
SEEN_SIDE = 224
"""Largest side of a class map in px, which the page only draws as veil, dots and hatches."""
Ui = dict[str, Any]


def preview_ui(
    # View that the page shows first: prior, depth, compare or attention.
    kind: str,
    # Frames [T, H, W, 3] 0...1 by name: exo, prior, ego, truth, coverage, depth, plot, ...;
    # None: there are none. A single frame is a still, which is always shown.
    streams: Mapping[str, Tensor | Drawn | None],
    # Its times are those of the streams.
    timed: CameraTrajectory | DepthVideo | None = None,
    *,
    text: str = "",
    # Rows of what was settled, shown folded beneath the text.
    facts: Sequence[FactRow] = (),
    # Of some streams: colours (low to high) and ticks ({at 0...1, label}).
    legends: Mapping[str, Ui | None] | None = None,
    # Streams whose frames are never reduced.
    full_size_names: Collection[str] = (),
    # Widgets that a click on the stream ego sets: x, y (px), frame.
    pick: Ui | None = None,
    # Place of the crosshair: x, y (px of that stream), frame.
    mark: Ui | None = None,
    # Label, unit and values, one per frame, drawn over the timeline.
    curve: Ui | None = None,
    # The key of a text of the page, for a warning that must not be overlooked.
    badge: str | None = None,
    # Values of the run (see upstream_values), to distinguish runs.
    values: Ui | None = None,
    # A view of weights over the stream exo, from collect_geometry.
    geometry: Ui | None = None,
    # Distance to the truth, for a list of runs: "17.3 dB".
    measure: str | None = None,
    seen: Tensor | None = None,  # [T, H, W] uint8 classes of the pixels of the stream ego
    # What became of those that exo sees.
    seen_parts: str = "",
    # Marks of a video's frame [H, W]: the same where it shows them, and the redrawn or kept
    # parts.
    video_classes: Callable[[int], Tensor] | None = None,
    # Share of each frame.
    redrawn: Sequence[float | None] | None = None,
    progress: Progress = no_progress,
) -> Ui:
    """Make a node's ``ui`` result: a text and the data of its preview."""
    if seen is not None:
        text += f"\n{seen_text(seen_shares(seen), seen_parts)}"
    clips = {name: clip for name, clip in streams.items() if clip is not None}
    frame_count = max(map(len, clips.values()), default=0)
    step = common_step(frame_count)
    stream_list = []
    for name, clip in clips.items():
        size: Ui = {"max_side": max(clip.shape[1:3])} if name in full_size_names else {}
        contact_sheets = make_sheets(clip, step=step, progress=progress, **size)
        stream_data = describe_stream(
            name, contact_sheets.layout(), write_sheets(name, contact_sheets.files, "jpg")
        )
        stream_data["source"] = [clip.shape[2], clip.shape[1]]
        stream_data["legend"] = (legends or {}).get(name)
        stream_data["pick"] = pick if name == "ego" else None
        if (kind, name) == ("preview", "ego"):
            stream_data["label"] = kind  # no model made it
        stream_list.append(stream_data)
    preview = {
        "kind": kind,
        "fps": clip_fps(timed),
        "frames": frame_count,
        "streams": stream_list,
        "curve": curve,
        "mark": mark,
        "text": text,
        "facts": describe_facts(facts),
        "badge": badge or None,
        "values": values or {},
        "measure": measure,
        "geometry": geometry,
        "seen": None
        if seen is None
        else describe_classes(seen, video_classes, redrawn, step, progress),
        "run": getattr(get_executing_context(), "prompt_id", None),
    }
    whole_text = "\n".join(filter(None, (text, facts_text(facts))))
    return {"text": (whole_text,), KEY: [preview]}


def describe_facts(rows: Sequence[FactRow]) -> Ui | None:
    """Describe settled facts for the page: the rows' text, and how many have another opinion."""
    if not rows:
        return None
    lines = facts_text(rows).splitlines()
    disputed_lines = {row.text for row in rows if row.others}
    return {"text": "\n".join(lines), "count": len(lines), "disputed": len(disputed_lines)}


def describe_classes(
    seen: Tensor,  # [T, H, W] uint8 classes
    # Returns the classes of one frame.
    video_classes: Callable[[int], Tensor] | None,
    # Share of each frame.
    redrawn: Sequence[float | None] | None,
    step: int,
    progress: Progress,
) -> Ui:
    """Describe the classes of pixels for the page.

    The result is a stream of grey PNG sheets that contain class values only, the share of each
    class per frame, and the redrawn share where it is known.
    """

    def draw_grey(frame: int) -> Tensor:
        frame_classes = seen[frame] if video_classes is None else video_classes(frame)
        return (frame_classes.float() / 255)[..., None].expand(-1, -1, 3)

    frames, height, width = seen.shape
    class_map = Drawn(shape=(frames, height, width, 3), draw=draw_grey)
    contact_sheets = make_sheets(
        class_map, step=step, max_side=SEEN_SIDE, lossless=True, progress=progress
    )
    stream_data = describe_stream(
        "seen", contact_sheets.layout(), write_sheets("seen", contact_sheets.files, "png")
    )
    class_shares = {name: share.tolist() for name, share in seen_shares(seen).items()}
    return {**stream_data, "shares": class_shares, "redrawn": redrawn}


def write_sheets(name: str, sheets: Sequence[bytes], suffix: str) -> list[dict[str, str]]:
    """Write a clip's contact sheets to files with unique names."""
    file_stem = f"{name}_{uuid.uuid4().hex}"
    return [write_temp_file(f"{file_stem}_{n}.{suffix}", data) for n, data in enumerate(sheets)]


def describe_stream(name: str, layout: dict[str, int], files: Sequence[dict[str, str]]) -> Ui:
    """Describe a clip of contact sheets for the page."""
    return {
        "name": name,
        "label": LABELS.get(name, name),
        **layout,
        "files": files,
        "legend": None,
        "pick": None,
        "source": [layout["width"], layout["height"]],
    }
