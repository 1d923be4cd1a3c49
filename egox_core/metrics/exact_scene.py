"""Build the scene with a take's true exo lens and scale, against which a generated video is
measured.

The released presets take Ego-Exo4D's K for a pinhole of the raw picture and the depth at its own
scale, so that nothing a wearer really saw lies where their scene has it."""

from dataclasses import replace

from torch import Tensor

from ..depth import frames_of_size
from ..errors import EgoXInputError
from ..progress import Progress, no_progress
from ..scene import build_scene
from ..types import CameraTrajectory, DepthVideo, PointCloud


def exact_scene(
    exo: Tensor,  # [T, H, W, 3] 0...1
    depth: DepthVideo,
    trajectory: CameraTrajectory,
    *,
    progress: Progress = no_progress,
) -> tuple[PointCloud, str] | None:
    """Build the scene with the raw exo lens that follows from a take's K, and the true scale.

    The depth has both (:attr:`.DepthVideo.raw_lens`, ``raw_scale``), and a note says them.
    None where no such lens is known, or the scene has it already.

    Raises:
        EgoXInputError: a raw lens whose scale wasn't measured.
    """
    lens = depth.raw_lens if depth.exo.world == "take" else None
    if lens is None or depth.kind != "metric z" or trajectory.guessed is not None:
        return None
    if depth.raw_scale is None:
        raise EgoXInputError(
            "depth of the exact scene",
            got="a raw lens whose scale nobody measured",
            expected="the output of Take.depth_with_raw_scale",
            fix="measure it by takes.with_takes_raw_scale",
        )
    factor, scale_note, _ = depth.raw_scale
    exact_depth = replace(depth, exo=replace(depth.exo, lens=lens), raw_lens=None)
    exact_depth = exact_depth if factor == 1 else exact_depth.scaled(factor)
    pictures = frames_of_size(exo.cpu(), *exact_depth.depth_m.shape[1:])
    scene = build_scene(pictures, exact_depth, "auto", progress=progress)
    return scene, f"{lens.words}; {scale_note}"
