"""Pack the geometry from which a browser draws each exo patch's attention weight.

The weight is what the bias makes of a score: exp(bias) times the attention that the key would have
got. The page's own twin of the formula (``web/js/previews/weights.mjs``) is held to
:func:`..gga.bias.bias_from_cosine` by a test.
"""

from typing import Any

import torch

from ..types import GgaGeometry
from .maps import colour_stops

TICKS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 11.0)
"""Weights that the legend names: 1 is that of no geometry, 4 and 11 the largest at λ_g 3 and 10."""


def geometry_file(geometry: GgaGeometry) -> tuple[bytes, dict[str, Any]]:
    """Pack the geometry as little-endian float32 in three parts, with the legend of weights.

    The parts: ego rays [t, h, w_ego, 3]; ways from the ego camera to the exo patches of the
    same latent frame [t, h, w_exo, 3]; the patches' trust [t, h, w_exo], 0 where there is no
    depth.
    """
    t, h, w_exo, w_ego = geometry.grid
    exo_directions = geometry.key_dirs.view(t, t, h, w_exo + w_ego, 3)[
        torch.arange(t), torch.arange(t), :, :w_exo
    ]
    trust = geometry.key_trust.view(t, h, w_exo + w_ego)[..., :w_exo]
    packed_tensors = (geometry.query_dirs, exo_directions, trust)
    content = b"".join(
        part.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes()
        for part in packed_tensors
    )
    return content, weight_legend()


def weight_legend() -> dict[str, Any]:
    """List colours and labels of the scale for geometric weights from 0 to infinity.

    Weight w is at w / (1 + w)."""
    ticks = [{"at": weight / (1 + weight), "label": f"{weight:g}"} for weight in TICKS]
    return {"colours": colour_stops(), "ticks": ticks}
