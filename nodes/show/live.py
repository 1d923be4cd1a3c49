"""The clip while it is being sampled: after each step the page is sent all of it in rough colours.

(The host's own preview, where switched on, shows the same latent, but its first frame only.)"""

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
"""px, height of the picture that the form shows of a step."""
NOBODY = "1000000"
"""The id of no node."""
_TO_UNIT = torch.cat((torch.zeros(16, 3), torch.ones(1, 3)))  # adds 1 to the offset alone


def show_in_form(server: Any, picture: Tensor, run: str) -> None:  # picture [h, w, 3] 0...1
    """Show a picture of a run in the middle of the page's form, by the host's own preview message.

    The host also puts such a picture on the node that the message names; here that is none of the
    graph's, whose sampler has a player."""
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

    def __init__(self, node_id: str | None, factors: Tensor | None, fps: float) -> None:
        super().__init__(node_id)
        self.factors = factors  # [17, 3] of raw latents, fitted on this clip; None: the host's, of the real Wan VAE
        self.fps = fps

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
        """Make a preview in the form of :func:`.player.preview_ui`, with the pictures inside the
        message, as they live for one step."""
        sheets = make_sheets(colours)
        files = [
            {"data": "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")}
            for data in sheets.files
        ]
        return {
            "kind": "live",
            "fps": self.fps / FRAMES_PER_LATENT,
            "frames": sheets.count,
            "streams": [describe_stream("ego", sheets.layout(), files)],
            "curve": None,
            "mark": None,
            "text": "",
        }

    def colours(self, x0: Tensor, latent_format: Any) -> Tensor:  # [B, 16, t, h, w] -> [t, h, w, 3]
        """Draw the first clip of the batch."""
        if self.factors is not None:
            return latent_colours(latent_format.process_out(x0[:1].float())[0], self.factors)
        host = torch.tensor(
            [*latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias]
        )
        return latent_colours(x0[0], (host + _TO_UNIT) / 2)  # the host's colours run from -1 to 1
