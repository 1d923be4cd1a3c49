"""Build the scene with a take's true exo lens and scale, against which a generated video is
measured.

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
    """Build the scene with the raw exo lens that follows from a take's K, at the wearer's scale.

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
    """Look up the undistorted camera's raw lens if its K is one of Ego-Exo4D's, or return None."""
    pinhole = depth.exo.lens
    exo = depth.exo
    if pinhole is None or pinhole.lens != "pinhole" or exo.lens_guessed or exo.world != "take":
        return None
    width, height = pinhole.stored_size
    full_width = round(height * GOPRO_SIZE[0] / GOPRO_SIZE[1])
    picture_centre = (width - 1) / 2, (height - 1) / 2
    off_centre_px = max(
        abs(centre - middle_px)
        for centre, middle_px in zip((pinhole.cx, pinhole.cy), picture_centre, strict=True)
    )
    if width > full_width or off_centre_px > OFF_CENTRE_PX:
        return None
    full_focal = pinhole.fy * GOPRO_SIZE[1] / height
    (full_side, full_height) = GOPRO_SIZE
    k = torch.tensor(
        [[full_focal, 0, full_side / 2], [0, full_focal, full_height / 2], [0, 0, 1]],
        dtype=torch.float64,
    )
    raw_camera = raw_gopro_of(k)
    if raw_camera is None:
        return None
    return raw_camera.rescale(full_width, height).crop((full_width - width) // 2, 0, width, height)
