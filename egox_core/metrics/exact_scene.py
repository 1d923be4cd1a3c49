"""Build the scene with a take's true exo lens and scale, against which a generated video is
measured.

The released presets take Ego-Exo4D's K for a pinhole of the raw picture and the depth at its own
scale, so that nothing a wearer really saw lies where their scene has it."""

from dataclasses import replace

from torch import Tensor

from ..depth import frames_of_size
from ..progress import Progress, no_progress
from ..scene import build_scene
from ..takes import with_scale
from ..types import CameraTrajectory, DepthVideo, PointCloud, ScaleSource


def exact_scene(
    exo: Tensor,  # [T, H, W, 3] 0...1
    depth: DepthVideo,
    trajectory: CameraTrajectory,
    *,
    scale_by: ScaleSource = "wearer where seen",
    progress: Progress = no_progress,
) -> tuple[PointCloud, str] | None:
    """Build the scene with the raw exo lens that follows from a take's K, and the true scale.

    A note says both. None where no such lens is known, or the scene has it already.
    """
    lens = depth.raw_lens if depth.exo.world == "take" else None
    if lens is None or depth.kind != "metric z" or trajectory.guessed is not None:
        return None
    exact_depth = replace(depth, exo=replace(depth.exo, lens=lens), raw_lens=None)
    ego = trajectory.ego if trajectory.ego.world == depth.exo.world else None
    exact_depth, scale = with_scale(exact_depth, scale_by, ego, progress=progress)
    pictures = frames_of_size(exo.cpu(), *exact_depth.depth_m.shape[1:])
    scene = build_scene(pictures, exact_depth, "auto", progress=progress)
    return scene, f"{lens.words}; {scale.text()}"
