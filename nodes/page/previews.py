"""Pictures on the nodes: previews of results, and the clip while it is being sampled.

Results are contact sheets in the host's temp folder, sent to the page with the node's result;
``web/js/previews.js`` draws them. A page that isn't there (headless runs) costs the writing of a
few JPEGs. While sampling, the page is sent the whole ego clip in rough colours after each step.
(The host's own preview, where switched on, shows the same latent, but its first frame only.)"""

import base64
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_execution.utils import get_executing_context
from PIL import Image
from protocol import BinaryEventTypes
from torch import Tensor

from ...egox_core.frozen import frozen
from ...egox_core.page import Drawn, common_step, make_sheets
from ...egox_core.progress import Progress, no_progress
from ...egox_core.sizes import FRAMES_PER_LATENT
from ...egox_core.types import UNTIMED_FPS
from ...egox_core.wan import latent_colours
from ..host.steps import StepListener, running_server

KEY = "egox_preview"
SUBFOLDER = "egox"
EVENT = "egox.live"
FORM_SIDE = 448
"""px, height of the picture that the form shows of a step."""
NOBODY = "1000000"
"""The id of no node."""
_TO_UNIT = torch.cat((torch.zeros(16, 3), torch.ones(1, 3)))  # adds 1 to the offset alone


@frozen
class Stream:
    """One clip (or picture) of a preview."""

    name: str  # for code: exo, prior, ego, truth, coverage, depth, plot, ...
    label: str  # for people
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
    curve: dict[str, Any]
    | None = None,  # label, unit, values: one per frame, drawn over the timeline
    mark: dict[str, Any]
    | None = None,  # x, y (px of the picked stream), frame: where the crosshair is
    badge: str | None = None,  # the key of a text of the page: what must not be overlooked
    values: dict[str, dict]
    | None = None,  # what it was made with (see upstream_values), to tell runs apart
    geometry: dict[str, Any]
    | None = None,  # of geometry_data: a view of weights over the stream "exo"
    measure: str | None = None,  # how near it came, for a list of runs: "17.3 dB"
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """The node's ``ui`` result: the note as text, and what the page needs for the preview."""
    frames = max((len(stream.frames) for stream in streams), default=0)
    step = common_step(frames)
    sent = [_written(stream, step, progress) for stream in streams]
    preview = {
        "kind": kind,
        "fps": float(fps or UNTIMED_FPS),
        "frames": frames,
        "streams": sent,
        "curve": curve,
        "mark": mark,
        "text": text,
        "badge": badge,
        "values": values or {},
        "measure": measure,
        "geometry": geometry,
        "run": getattr(get_executing_context(), "prompt_id", None),
    }
    return {"text": (text,), KEY: [preview]}


def temp_file(name: str, data: bytes) -> dict[str, str]:
    """A file of the host's temp folder, as the page asks for it."""
    folder = Path(folder_paths.get_temp_directory()) / SUBFOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return {"filename": name, "subfolder": SUBFOLDER, "type": "temp"}


def clip_fps(times_s: Tensor | None) -> float | None:  # [T] seconds
    """Frames a second of frames at these times; None where they don't say."""
    if times_s is None or len(times_s) < 2:
        return None
    span = float(times_s[-1] - times_s[0])
    return (len(times_s) - 1) / span if span > 0 else None


def _written(stream: Stream, step: int, progress: Progress) -> dict[str, Any]:
    size = {} if stream.max_side is None else {"max_side": stream.max_side}
    sheets = make_sheets(stream.frames, step=step, progress=progress, **size)
    name = f"{stream.name}_{uuid.uuid4().hex}"
    files = [temp_file(f"{name}_{number}.jpg", data) for number, data in enumerate(sheets.files)]
    return {
        "name": stream.name,
        "label": stream.label,
        **sheets.layout(),
        "files": files,
        "legend": stream.legend,
        "pick": stream.pick,
        "source": [int(stream.frames.shape[2]), int(stream.frames.shape[1])],
    }


def show_in_form(server: Any, picture: Tensor, run: str) -> None:  # picture [h, w, 3] 0...1
    """Show a picture of a run in the middle of the page's form, by the host's own preview message.

    The host also puts such a picture on the node that the message names; here that is none of the
    graph's, whose sampler has a player."""
    from comfy_api import feature_flags

    if not feature_flags.supports_feature(
        server.sockets_metadata, server.client_id, "supports_preview_metadata"
    ):
        return
    image = Image.fromarray((picture.clamp(0, 1) * 255).round().byte().cpu().numpy())
    image = image.resize(
        (FORM_SIDE * image.width // image.height, FORM_SIDE), Image.Resampling.BICUBIC
    )
    server.send_sync(
        BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA,
        (("JPEG", image, None), {"prompt_id": run, "node_id": NOBODY, "display_node_id": NOBODY}),
        server.client_id,
    )


class LivePreview(StepListener):
    """Sends the page what the model now thinks the clip is."""

    def __init__(self, node_id: str | None, factors: Tensor | None, fps: float | None) -> None:
        super().__init__(node_id)
        self.factors = factors  # [17, 3] of raw latents, fitted on this clip; None: the host's, of the real Wan VAE
        self.fps = fps or UNTIMED_FPS

    def after_step(
        self, step: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any
    ) -> None:
        server = running_server()
        if server is None or server.client_id is None:
            return
        colours = self.colours(x0, latent_format)
        server.send_sync(
            EVENT,
            {"node": self.node_id, "step": step, "total": total, "preview": self.preview(colours)},
            server.client_id,
        )
        context = get_executing_context()
        if context is not None:
            show_in_form(server, colours[len(colours) // 2], context.prompt_id)

    def preview(self, colours: Tensor) -> dict[str, Any]:  # [t, h, w, 3] 0...1
        """In the form of :func:`preview_ui`, the pictures inside the message: they live for one
        step."""
        sheets = make_sheets(colours)
        files = [
            {"data": "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")}
            for data in sheets.files
        ]
        stream = {
            "name": "ego",
            "label": "ego",
            **sheets.layout(),
            "files": files,
            "legend": None,
            "pick": None,
            "source": [sheets.width, sheets.height],
        }
        return {
            "kind": "live",
            "fps": self.fps / FRAMES_PER_LATENT,
            "frames": sheets.count,
            "streams": [stream],
            "curve": None,
            "mark": None,
            "text": "",
        }

    def colours(self, x0: Tensor, latent_format: Any) -> Tensor:  # [B, 16, t, h, w] -> [t, h, w, 3]
        """The first clip of the batch."""
        if self.factors is not None:
            return latent_colours(latent_format.process_out(x0[:1].float())[0], self.factors)
        host = torch.tensor(
            [*latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias]
        )
        return latent_colours(x0[0], (host + _TO_UNIT) / 2)  # the host's colours run from -1 to 1
