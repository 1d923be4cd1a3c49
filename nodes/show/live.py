"""Send the page a rough preview of the clip after each sampling step, or a clip's first frame.

ComfyUI's own preview shows the same latent, but only its first frame."""

import base64
from typing import Any

import torch
from comfy_api import feature_flags
from comfy_execution.utils import get_executing_context
from PIL import Image
from protocol import BinaryEventTypes
from torch import Tensor

from ...egox_core.page import make_sheets
from ...egox_core.sizes import FRAMES_PER_LATENT
from ...egox_core.wan import latent_colours
from ..host.steps import StepListener, running_server
from .player import describe_stream

EVENT = "egox.live"
FORM_SIDE = 448
"""Height in px of a step's picture in the form."""
NOBODY = "1000000"
"""Id that no node has."""
_TO_UNIT = torch.cat((torch.zeros(16, 3), torch.ones(1, 3)))  # adds 1 to the offset only


def show_in_form(server: Any, picture: Tensor, run: str) -> None:  # picture [h, w, 3] 0...1
    """Show a picture in the page's form by ComfyUI's preview message.

    ComfyUI also puts the picture on the node that the message names. Here that is no node of the
    graph, whose sampler has a player."""
    if not feature_flags.supports_feature(
        server.sockets_metadata, server.client_id, "supports_preview_metadata"
    ):
        return
    form_picture = Image.fromarray((picture.clamp(0, 1) * 255).round().byte().cpu().numpy())
    form_picture = form_picture.resize(
        (FORM_SIDE * form_picture.width // form_picture.height, FORM_SIDE), Image.Resampling.BICUBIC
    )
    server.send_sync(
        BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA,
        (
            ("JPEG", form_picture, None),
            {"prompt_id": run, "node_id": NOBODY, "display_node_id": NOBODY},
        ),
        server.client_id,
    )


def show_frame(node_id: str, picture: Tensor) -> None:  # [H, W, 3] 0...1
    """Show one frame on its node and in the form while the others are drawn."""
    _show(node_id, 0, 0, picture[None].cpu(), 1.0)


def _show(node_id: str | None, step: int, total: int, colours: Tensor, fps: float) -> None:
    """Send the page pictures [t, h, w, 3] 0...1 of a clip that isn't complete."""
    server = running_server()
    if server is None or server.client_id is None:
        return
    preview = _make_preview(colours, fps)
    content = {"node": node_id, "step": step, "total": total, "preview": preview}
    server.send_sync(EVENT, content, server.client_id)
    context = get_executing_context()
    if context is not None:
        show_in_form(server, colours[len(colours) // 2], context.prompt_id)


def _make_preview(colours: Tensor, fps: float) -> dict[str, Any]:  # [t, h, w, 3] 0...1
    """Make a preview message that contains its pictures."""
    contact_sheets = make_sheets(colours)
    files = [
        {"data": "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")}
        for data in contact_sheets.files
    ]
    return {
        "kind": "live",
        "fps": fps,
        "frames": contact_sheets.count,
        "streams": [describe_stream("ego", contact_sheets.layout(), files)],
        "curve": None,
        "mark": None,
        "text": "",
    }


class LivePreview(StepListener):
    """Send the page the model's current estimate of the clip after each step."""

    def __init__(self, node_id: str | None, factors: Tensor | None, fps: float) -> None:
        super().__init__(node_id)
        # [17, 3] of raw latents, fitted on this clip; None: the host's, of the real Wan VAE
        self.factors = factors
        self.fps = fps

    def after_step(
        self, step: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any
    ) -> None:
        if running_server() is None:
            return
        colours = self.draw_colours(x0, latent_format)
        _show(self.node_id, step, total, colours, self.fps / FRAMES_PER_LATENT)

    def draw_colours(
        self, x0: Tensor, latent_format: Any
    ) -> Tensor:  # [B, 16, t, h, w] -> [t, h, w, 3]
        """Draw the first clip of the batch in rough colours."""
        if self.factors is not None:
            return latent_colours(latent_format.process_out(x0[:1].float())[0], self.factors)
        host_factors = torch.tensor(
            [*latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias]
        )
        return latent_colours(
            x0[0], (host_factors + _TO_UNIT) / 2
        )  # the host's colours run from -1 to 1
