"""Show how geometry guides attention: the share of an ego token's attention that goes to the tokens
of the exo half, without and with λ_g."""

import numpy as np
import torch

from egox_core import stages
from egox_core.gga import GgaOptions, gga_attention, gga_geometry

FRAMES, HEIGHT, WIDTH, HEADS = 5, 128, 224, 4
depth, _ = stages.align(np.full((FRAMES, HEIGHT, WIDTH), 3.0), fov_deg=60)
path, _ = stages.path(np.tile(np.eye(3, 4), (FRAMES, 1, 1)), ego_size=HEIGHT)
exo, ego = (WIDTH, HEIGHT), (HEIGHT, HEIGHT)
geometry = gga_geometry(depth, path, "exact", frames=FRAMES, exo_size=exo, ego_size=ego)
_, _, w_exo, w_ego = geometry.grid  # tokens: frames, rows, exo and ego columns

# In a transformer: in place of its self-attention, with its own q, k and v.
q, k = torch.randn(2, 1, geometry.tokens, HEADS * 64).unbind()
is_exo = torch.arange(geometry.tokens) % (w_exo + w_ego) < w_exo
v = is_exo.float()[None, :, None].expand_as(q).contiguous()
for lambda_g in (0.0, 1.0, 3.0, 10.0):
    out = gga_attention(q, k, v, HEADS, geometry, GgaOptions(lambda_g=lambda_g))
    print(f"λ_g {lambda_g:4}: {100 * out[0, ~is_exo].mean():.1f} % of ego's attention is on exo")
