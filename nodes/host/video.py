"""The host's own video of frames that a node, or a player of the page, has, and the wearer's own
video of a take."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.file_names import TRUTH
from ...egox_core.types import UNTIMED_FPS
from ...egox_core.video import read_frames
from .graph import LOADER, Graph, probed, selection_of


def native_video(
    frames: Tensor, fps: float | None, audio: Input.Audio | None = None
) -> InputImpl.VideoFromComponents:
    """The host's VIDEO of ``frames`` [T, H, W, 3], 0...1, as its own Create Video makes it; fps None is not known."""
    rate = Fraction(fps or UNTIMED_FPS).limit_denominator(1001)  # 29.97 is 30000/1001
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, audio=audio, frame_rate=rate)
    )


def temp_video(name: str, frames: Tensor, fps: float, metadata: dict) -> dict[str, str]:
    """A video in the host's temp folder, as its page asks for it; ``metadata`` as its own Save nodes
    write it."""
    folder, file, counter, subfolder, _ = folder_paths.get_save_image_path(
        f"egox/{name}", folder_paths.get_temp_directory()
    )
    place = Path(folder) / f"{file}_{counter:05}_.mp4"
    saved = None if args.disable_metadata else metadata
    native_video(frames, fps).save_to(str(place), metadata=saved)
    return {"filename": place.name, "subfolder": subfolder, "type": "temp"}


def truth_beside(graph: Graph, size: tuple[int, int]) -> Tensor | None:
    """The wearer's own video beside the graph's one exo video, [T, H, W, 3] at the frames in use;
    None without one."""
    loaders = [node for node, entry in (graph or {}).items() if entry["class_type"] == LOADER]
    try:  # what doesn't fit here must not cost a sampled video
        selection = selection_of(graph, loaders[0]) if len(loaders) == 1 else None
        if selection is None or selection.source_path is None:
            return None
        path = selection.source_path.with_name(TRUTH)
        if not path.is_file():
            return None
        info, (height, width) = probed(path), size
        if (
            abs(info.fps / selection.source_fps - 1) > 0.001
            or info.frame_count <= selection.source_indices.max()
        ):
            return None
        chosen = replace(
            selection, source_size=(info.width, info.height), size=(width, height), resize="crop"
        )
        return read_frames(path, info, chosen).float() / 255
    except EgoXInputError:
        return None
