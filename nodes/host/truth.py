"""Read the wearer's true ego video, if it is beside the exo video of a graph."""

from dataclasses import replace

from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.file_names import TRUTH
from ...egox_core.video import probe_video, read_frames
from .graph import LOADER, Graph, selection_of


def read_truth_beside(graph: Graph, size: tuple[int, int]) -> Tensor | None:
    """Read the true ego video beside the exo video, or return None."""
    loader_ids = [node for node, entry in (graph or {}).items() if entry["class_type"] == LOADER]
    try:  # what doesn't fit here must not cost a sampled video
        selection = selection_of(graph, loader_ids[0]) if len(loader_ids) == 1 else None
        if selection is None or selection.source is None:
            return None
        truth_file = selection.source.with_name(TRUTH)
        if not truth_file.is_file():
            return None
        truth_info = probe_video(truth_file)
        (height, width) = size
        if (
            abs(truth_info.fps / selection.rate - 1) > 0.001
            or truth_info.frame_count <= selection.last
        ):
            return None
        resized = replace(
            selection,
            source_size=(truth_info.width, truth_info.height),
            part=truth_info.part,
            size=(width, height),
            resize="crop",
        )
        return read_frames(truth_file, truth_info, resized).float() / 255
    except EgoXInputError:
        return None
