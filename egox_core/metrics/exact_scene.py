"""A released scene as it really was, for whoever judges a video by it: the exo camera's raw lens and
the wearer's scale.

The released presets take Ego-Exo4D's K for a pinhole of the raw picture and the depth at its own
scale, so that nothing a wearer really saw lies where their scene has it."""

from dataclasses import replace

import torch
from torch import Tensor

from ..cameras import GOPRO_SIZE, CameraModel, raw_gopro_of
from ..depth import frames_of_size
from ..progress import Progress, no_progress
from ..scene import build_scene
from ..takes import with_scale
from ..types import CameraTrajectory, DepthVideo, PointCloud

OFF_CENTRE_PX = 0.75
"""Distance of the lens' centre from the picture's, up to which it is Ego-Exo4D's."""


def exact_scene(
    exo: Tensor,  # [T, H, W, 3] 0...1
    depth: DepthVideo,
    trajectory: CameraTrajectory,
    *,
    progress: Progress = no_progress,
) -> tuple[PointCloud, str] | None:
    """Build the scene with the raw lens that a take's K reveals, at the wearer's scale where seen.

    A note says both. None where no such lens is known, or the scene has it already.
    """
    lens = raw_lens(depth)
    if lens is None or depth.kind != "metric z" or trajectory.guessed is not None:
        return None
    exact_depth = replace(depth, exo=replace(depth.exo, lens=lens))
    ego = trajectory.ego if trajectory.ego.world == depth.exo.world else None
    exact_depth, scale = with_scale(exact_depth, "wearer where seen", ego, progress=progress)
    pictures = frames_of_size(exo.cpu(), *exact_depth.depth_m.shape[1:])
    scene = build_scene(pictures, exact_depth, "auto", progress=progress)
    return scene, f"{lens.words}; {scale.text()}"


def raw_lens(depth: DepthVideo) -> CameraModel | None:
    """Look up the raw lens of a depth's pictures, if their pinhole is Ego-Exo4D's K as it stands."""
    camera, exo = depth.exo.lens, depth.exo
    if camera is None or camera.lens != "pinhole" or exo.lens_guessed or exo.world != "take":
        return None
    width, height = camera.stored_size
    full_width = round(height * GOPRO_SIZE[0] / GOPRO_SIZE[1])
    middle = (width - 1) / 2, (height - 1) / 2
    off_centre_px = max(abs(c - m) for c, m in zip((camera.cx, camera.cy), middle, strict=True))
    if width > full_width or off_centre_px > OFF_CENTRE_PX:
        return None
    focal, (side, top) = camera.fy * GOPRO_SIZE[1] / height, GOPRO_SIZE
    k = torch.tensor([[focal, 0, side / 2], [0, focal, top / 2], [0, 0, 1]], dtype=torch.float64)
    raw_camera = raw_gopro_of(k)
    if raw_camera is None:
        return None
    return raw_camera.rescale(full_width, height).crop((full_width - width) // 2, 0, width, height)
