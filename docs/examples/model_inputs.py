"""Make the 36 channels and the attention's geometry that a Wan model needs of a take.

python docs/examples/model_inputs.py [TAKE]
"""

import sys
from pathlib import Path

import torch

from egox_core import stages
from egox_core.gga import GgaOptions, gga_attention, gga_geometry
from egox_core.takes import read_meta

sample = Path(__file__).parent.parent.parent / "sample" / "calm_room"
take = Path(sys.argv[1]) if len(sys.argv) > 1 else sample
meta = read_meta(take / "meta.json")
clip, _ = stages.load_clip(take / "exo.mp4", frame_count=9)
depth, _ = stages.align(take / "depth.npz", frames=clip.selection, meta=meta)
path, _ = stages.path(meta, frames=clip.selection)
scene, _ = stages.scene(clip.exo, depth)
prior, _ = stages.prior(scene, path)
print("prior", tuple(prior.rgb.shape))  # [T, H, W, 3], 0 to 1


class Vae:  # your own; egox_core.wan.Encoders lists all its methods
    def encode(self, video):  # [T, H, W, 3] to raw latent [1, 16, t, h, w]
        return torch.zeros(1, 16, len(video) // 4 + 1, video.shape[1] // 8, video.shape[2] // 8)


inputs, _ = stages.condition(clip.exo, prior.rgb, Vae(), image_embedding="none")
channels = inputs.model_input(torch.randn_like(inputs.canvas.prior_latent))
print("input of the model", tuple(channels.shape))  # [1, 36, t, h, w_exo + w_ego]

exo, ego = (tuple(pictures.shape[2:0:-1]) for pictures in (clip.exo, prior.rgb))
geometry = gga_geometry(depth, path, "exact", frames=9, exo_size=exo, ego_size=ego)
q = k = v = torch.randn(1, geometry.tokens, 64)  # of a transformer over these tokens
guided = gga_attention(q, k, v, 1, geometry, GgaOptions(lambda_g=3.0))
print("attention", tuple(guided.shape))
