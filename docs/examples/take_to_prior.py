"""Draw the ego prior of a take (exo.mp4, depth.npz, meta.json) into a folder of pictures.

python take_to_prior.py TAKE OUT
"""

import sys
from pathlib import Path

import cv2

from egox_core import stages
from egox_core.takes import read_meta

take, out = map(Path, sys.argv[1:])
meta = read_meta(take / "meta.json")
clip, _ = stages.load_clip(take / "exo.mp4", frame_count=None)
depth, aligned = stages.align(take / "depth.npz", frames=clip.selection, meta=meta)
path, _ = stages.path(meta, frames=clip.selection)
scene, _ = stages.scene(clip.exo, depth)
prior, report = stages.prior(scene, path, "clean")
print(aligned.text(), report.text(), sep="\n")
out.mkdir(parents=True, exist_ok=True)
for number, frame in enumerate(prior.rgb):  # [H, W, 3] float32 0...1, black where nothing is seen
    picture = (255 * frame).round().byte().numpy()
    cv2.imwrite(str(out / f"{number:03}.png"), picture[..., ::-1])
