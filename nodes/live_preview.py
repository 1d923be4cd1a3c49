"""The whole ego clip in rough colours on the sampling node, after each step.

The host's own preview (where switched on) shows the same latent, the ego half alone, but its first frame only.
"""

from __future__ import annotations

import base64
from typing import Any

import torch
from torch import Tensor

from ..egox_core.previews.sheets import make_sheets
from ..egox_core.sizes import FRAMES_PER_LATENT
from ..egox_core.wan.latents import latent_colours
from .clip_preview import DEFAULT_FPS
from .host.steps import StepListener, running_server

EVENT = "egox.live"


class LivePreview(StepListener):
    """Sends the page what the model now thinks the clip is."""

    def __init__(self, node_id: str | None, factors: Tensor | None, fps: float | None) -> None:
        super().__init__(node_id)
        self.factors = factors  # [17, 3] of raw latents, fitted on this clip; None: the host's, of the real Wan VAE
        self.fps = fps or DEFAULT_FPS

    def after_step(self, done: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any) -> None:
        server = running_server()
        if server is None or server.client_id is None:
            return
        server.send_sync(EVENT, {"node": self.node_id, "preview": self.preview(x0, latent_format)},
                         server.client_id)

    def preview(self, x0: Tensor, latent_format: Any) -> dict[str, Any]:
        """As :func:`clip_preview.preview_ui` puts it, the pictures inside the message: they live for one step."""
        sheets = make_sheets(self.colours(x0, latent_format))
        files = [{"data": "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")} for data in sheets.files]
        stream = {"name": "ego", "label": "ego", **sheets.layout(), "files": files, "legend": None, "pick": None,
                  "source": [sheets.width, sheets.height]}
        return {"kind": "live", "fps": self.fps / FRAMES_PER_LATENT, "frames": sheets.count, "streams": [stream],
                "curve": None, "mark": None, "plots": [], "text": ""}

    def colours(self, x0: Tensor, latent_format: Any) -> Tensor:  # [B, 16, t, h, w] -> [t, h, w, 3]
        """The first clip of the batch."""
        if self.factors is not None:
            return latent_colours(latent_format.process_out(x0[:1].float())[0], self.factors)
        host = torch.tensor([*latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias])
        return latent_colours(x0[0], (host + _TO_UNIT) / 2)  # the host's colours run from -1 to 1


_TO_UNIT = torch.cat((torch.zeros(16, 3), torch.ones(1, 3)))  # adds 1 to the offset alone
