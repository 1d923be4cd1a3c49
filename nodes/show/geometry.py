"""Write attention geometry to a file for the page's players."""

import logging
import uuid
from collections.abc import Mapping

import folder_paths
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.page import geometry_file
from ...egox_core.types import CameraTrajectory, DepthVideo
from ...egox_core.wan import resolve_auto
from ..host.graph import Graph, inputs_of, upstream_ids
from ..patch.patch import clip_geometry
from .temp_files import write_temp_file

GUIDED_CLASSES = ("EgoXWanSampler", "EgoXSampleLong", "EgoXModelPatch")


def collect_geometry(
    depth: DepthVideo | None,
    trajectory: CameraTrajectory | None,
    exo_images: Tensor | None,
    ego_size: int,
    graph: Graph,
    node: str,
) -> dict | None:
    """Collect the data of the attention view for ``preview_ui``, or return None.

    If they don't fit a canvas, the result contains a ``reason``. The player follows the first
    guided node before or after ``node``.

    Args:
        exo_images: [T, H, W, 3].
        ego_size: side of the ego picture, px.
        node: the player's own id in ``graph``.
    """
    if depth is None or trajectory is None or exo_images is None:
        return None
    guided_node = find_guided_node(graph, node)
    metadata = {} if guided_node is None else _read_lora_metadata(graph, guided_node)
    rays = resolve_auto("rays", "auto", metadata)
    frame_count, height, width = exo_images.shape[:3]
    try:
        geometry = clip_geometry(
            depth, trajectory, rays, frame_count, (width, height), (ego_size, ego_size)
        )
    except EgoXInputError as error:
        return {"reason": str(error)}
    content, legend = geometry_file(geometry)
    return {
        "file": write_temp_file(f"geometry_{uuid.uuid4().hex}.bin", content),
        "grid": list(geometry.grid),
        "legend": legend,
        "guide": guided_node,
        "soft": depth.trust is not None,
        "auto_mode": resolve_auto("gga_mode", "auto", metadata),
    }


def find_guided_node(graph: Graph, node: str) -> str | None:
    """Find the node whose attention strength λ_g affects this node, or return None."""
    upstream = set(upstream_ids(graph, node))
    for name, node_entry in graph.items():
        if node_entry.get("class_type") in GUIDED_CLASSES and (
            name in upstream or node in upstream_ids(graph, name)
        ):
            return name
    return None


def _read_lora_metadata(graph: Graph, guide: str) -> Mapping[str, str]:
    metadata: dict[str, str] = {}
    for node in reversed(
        upstream_ids(graph, guide)
    ):  # from the first LoRA on: a later one's word counts
        name = inputs_of(graph, node).get("lora_name")
        path = folder_paths.get_full_path("loras", name) if isinstance(name, str) else None
        if path is None:
            continue
        try:
            with safe_open(path, framework="pt") as file:
                metadata |= file.metadata() or {}
        except (SafetensorError, OSError):
            logging.info(
                "[EgoX] %s is no LoRA whose metadata could be read", name
            )  # EgoX LoRA says so itself
    return metadata
