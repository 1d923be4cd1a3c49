"""The players on the nodes: clips as contact sheets in the host's temp folder, sent to the page with
a node's result; ``web/js/previews.js`` draws them."""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from comfy_execution.utils import get_executing_context
from torch import Tensor

from ...egox_core.cameras import UNTIMED_FPS
from ...egox_core.page import Drawn, common_step, make_sheets
from ...egox_core.progress import Progress, no_progress
from ...egox_core.types import (
    CameraTrajectory,
    DepthVideo,
    seen_shares,
    seen_text,
)
from ..host.video import clip_fps
from .temp_files import temp_file

KEY = "egox_preview"
LABELS = {"truth": "ground truth"}
"""What people read in place of a stream's name."""
SEEN_SIDE = 224
"""px, of a map of classes: the page only veils, dots and hatches by it."""
Ui = dict[str, Any]


def preview_ui(
    kind: str,  # prior | depth | compare | attention: what the page shows first
    # [T, H, W, 3] 0...1 by name: exo, prior, ego, truth, coverage, depth, plot, ...; None: there is
    # none; one frame is a still, shown at all times
    streams: Mapping[str, Tensor | Drawn | None],
    timed: CameraTrajectory | DepthVideo | None = None,  # its times are those of the streams
    *,
    text: str = "",
    # of some streams: colours (low to high) and ticks ({at 0...1, label})
    legends: Mapping[str, Ui | None] | None = None,
    whole: Collection[str] = (),  # streams whose frames are never made smaller
    pick: Ui | None = None,  # widgets that a click on the stream ego sets: x, y (px), frame
    mark: Ui | None = None,  # x, y (px of that stream), frame: where the crosshair is
    curve: Ui | None = None,  # label, unit, values: one per frame, drawn over the timeline
    badge: str | None = None,  # the key of a text of the page: what must not be overlooked
    values: Ui | None = None,  # what it was made with (see upstream_values), to tell runs apart
    geometry: Ui | None = None,  # of geometry_data: a view of weights over the stream exo
    measure: str | None = None,  # how near it came, for a list of runs: "17.3 dB"
    seen: Tensor | None = None,  # [T, H, W] uint8 classes of the pixels of the stream ego
    # marks of a frame of a video [H, W]: the same where it shows them, and what is redrawn or kept
    video_classes: Callable[[int], Tensor] | None = None,
    redrawn: Sequence[float] | None = None,  # share of each frame
    progress: Progress = no_progress,
) -> Ui:
    """The node's ``ui`` result: the note as text, and what the page needs for the preview."""
    if seen is not None:
        text += f"\n{seen_text(seen_shares(seen))}"
    clips = {name: clip for name, clip in streams.items() if clip is not None}
    frames = max(map(len, clips.values()), default=0)
    step, sent = common_step(frames), []
    for name, clip in clips.items():
        size: Ui = {"max_side": max(clip.shape[1:3])} if name in whole else {}
        sheets = make_sheets(clip, step=step, progress=progress, **size)
        data = stream_data(name, sheets.layout(), sheet_files(name, sheets.files, "jpg"))
        data["source"] = [clip.shape[2], clip.shape[1]]
        data["legend"] = (legends or {}).get(name)
        data["pick"] = pick if name == "ego" else None
        sent.append(data)
    preview = {
        "kind": kind,
        "fps": float(clip_fps(timed) or UNTIMED_FPS),
        "frames": frames,
        "streams": sent,
        "curve": curve,
        "mark": mark,
        "text": text,
        "badge": badge or None,
        "values": values or {},
        "measure": measure,
        "geometry": geometry,
        "seen": None if seen is None else seen_data(seen, video_classes, redrawn, step, progress),
        "run": getattr(get_executing_context(), "prompt_id", None),
    }
    return {"text": (text,), KEY: [preview]}


def seen_data(
    seen: Tensor,  # [T, H, W] uint8 classes
    video_classes: Callable[[int], Tensor] | None,  # of one frame
    redrawn: Sequence[float] | None,  # share of each frame
    step: int,
    progress: Progress,
) -> Ui:
    """Classes of pixels as the page reads them: a stream of grey PNG sheets without any other value,
    the share of each class per frame of the clip, whether redrawn, kept or neither, and the share that
    is redrawn, where that is known."""

    def grey(frame: int) -> Tensor:
        kinds = seen[frame] if video_classes is None else video_classes(frame)
        return (kinds.float() / 255)[..., None].expand(-1, -1, 3)

    frames, height, width = seen.shape
    map_ = Drawn(shape=(frames, height, width, 3), draw=grey)
    sheets = make_sheets(map_, step=step, max_side=SEEN_SIDE, lossless=True, progress=progress)
    data = stream_data("seen", sheets.layout(), sheet_files("seen", sheets.files, "png"))
    shares = {name: share.tolist() for name, share in seen_shares(seen).items()}
    return {**data, "shares": shares, "redrawn": redrawn}


def sheet_files(name: str, sheets: Sequence[bytes], suffix: str) -> list[dict[str, str]]:
    """Write a stream's sheets under a name that no other run has."""
    stem = f"{name}_{uuid.uuid4().hex}"
    return [temp_file(f"{stem}_{n}.{suffix}", data) for n, data in enumerate(sheets)]


def stream_data(name: str, layout: dict[str, int], files: Sequence[dict[str, str]]) -> Ui:
    """A plain stream as the page reads it; ``files`` hold the sheets of that layout."""
    return {
        "name": name,
        "label": LABELS.get(name, name),
        **layout,
        "files": files,
        "legend": None,
        "pick": None,
        "source": [layout["width"], layout["height"]],
    }
