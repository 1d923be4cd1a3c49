"""The golden files' transformer, and their directions as the trainer's cache would hold them."""

import torch
from safetensors.torch import load_file

from egox_core.gga.geometry import pool_tokens
from egox_core.safe_files import read_json
from egox_core.types import GgaGeometry
from tests.paths import GOLDEN


def golden_geometry(vectors: torch.Tensor, rays: torch.Tensor) -> GgaGeometry:
    """Pooled token directions of the golden's per-latent vectors ([q, k, h, w, 3]) and rays ([t, h, w, 3])."""
    t, _, h, w_exo, _ = vectors.shape
    w_ego = rays.shape[2]
    keys = torch.zeros(t, t, h // 2, (w_exo + w_ego) // 2, 3)
    trust = torch.zeros(t, h // 2, (w_exo + w_ego) // 2)
    for q in range(t):
        keys[q, :, :, : w_exo // 2], trust[..., : w_exo // 2] = pool_tokens(
            vectors[q], torch.ones(t, h, w_exo)
        )
    queries, _ = pool_tokens(rays, torch.ones(rays.shape[:3]))
    return GgaGeometry(
        query_dirs=queries.flatten(1, 2),
        key_dirs=keys.flatten(1, 3),
        key_trust=trust.flatten(),
        grid=(t, h // 2, w_exo // 2, w_ego // 2),
    )


def golden_transformer():
    """Of two layers, with an image embedding."""
    from diffusers import WanTransformer3DModel

    config = read_json(GOLDEN / "tiny_config.json")
    model = WanTransformer3DModel(**{k: v for k, v in config.items() if not k.startswith("note")})
    weights = load_file(GOLDEN / "tiny_transformer.safetensors")
    model.load_state_dict(
        {k.removeprefix("weights."): v for k, v in weights.items() if k.startswith("weights.")}
    )
    return model
