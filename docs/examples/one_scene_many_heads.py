"""Draw one moment from many places, and write its points as a PLY file: python
one_scene_many_heads.py TAKE OUT."""

import sys
from pathlib import Path

import torch

from egox_core import stages
from egox_core.scene import viewer_ply
from egox_core.take import load_take

folder, out = map(Path, sys.argv[1:])
take = load_take(folder, frame_count=1)
scene, _ = stages.scene(take.read_exo(), take.depth)
head = take.trajectory.ego.at(0)  # world to ego camera [3, 4]
priors = []
for step_m in torch.linspace(-0.3, 0.3, 5):  # along the camera's own x axis
    w2c = head.clone()
    w2c[0, 3] -= step_m
    path, _ = stages.path(w2c[None], camera=take.trajectory.ego.camera, scene=scene)
    prior, _ = stages.prior(scene, path, preset="clean")
    priors.append(prior.rgb[0])
print(torch.stack(priors).shape)  # [5, H, W, 3]
out.mkdir(exist_ok=True)
(out / "scene.ply").write_bytes(viewer_ply(scene).getvalue())
