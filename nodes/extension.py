"""Entry point for the host: the nodes, each file imported by itself, so that a name that moved
costs one file's nodes."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping

from comfy_api.latest import ComfyExtension, io

NODE_FILES = {
    "load_exo_video": ("EgoXLoadExoVideo",),
    "exo_cameras": ("EgoXRankExoCameras",),
    "ego_pose": ("EgoXEgoPoseInput",),
    "depth_align": ("EgoXDepthAlign",),
    "estimate_head_pose": ("EgoXEstimateHeadPose",),
    "scene": ("EgoXBuildScene", "EgoXFuseScenes"),
    "render_ego_prior": ("EgoXRenderEgoPrior",),
    "lora": ("EgoXLoadLora",),
    "text": ("EgoXText", "EgoXCaptionRequest"),
    "conditioning": ("EgoXPrompt", "EgoXConditioning"),
    "model_patch": ("EgoXModelPatch",),
    "released_sampling": ("EgoXReleasedSampling",),
    "sampling": ("EgoXWanSampler",),
    "decode_ego_half": ("EgoXDecodeEgoHalf",),
    "sample_long": ("EgoXSampleLong",),
    "attention": ("EgoXAttentionCapture", "EgoXAttentionView"),
    "study": ("EgoXSweep", "EgoXLabelledGrid"),
}
"""Files of this folder and the nodes in them, in the order in which the host lists them."""


def load_nodes(files: Mapping[str, tuple[str, ...]] = NODE_FILES) -> tuple[type[io.ComfyNode], ...]:
    """The nodes that this host can have; of the others the log says which and why."""
    nodes: list[type[io.ComfyNode]] = []
    for file, names in files.items():
        try:
            module = importlib.import_module(f".{file}", __package__)
        except Exception as error:  # a host that moved something answers in any way
            _say_lost(names, error)
            continue
        for name in names:
            node = getattr(module, name)
            try:
                node.define_schema()  # the host asks for it when it lists the nodes, and drops all for one that fails
            except Exception as error:
                _say_lost((name,), error)
            else:
                nodes.append(node)
    return tuple(nodes)


def _say_lost(names: tuple[str, ...], error: Exception) -> None:
    cause = f"{type(error).__name__}: {error}"
    logging.error(
        "[EgoX] Not in the list of nodes: %s (%s). The others are not affected.",
        " and ".join(names),
        cause,
        exc_info=None if isinstance(error, (ImportError, AttributeError)) else error,
    )


def _serve_page() -> None:
    from server import PromptServer

    from .page import clips, exo_clip, routes, uploads

    server = getattr(PromptServer, "instance", None)
    if server is not None:  # none where only the nodes are wanted, as in tests
        for part in (routes, uploads, clips, exo_clip):
            part.register(server.routes)


def _note_graphs() -> None:
    from .host.graph import note_graphs

    note_graphs()


def _list_small_models() -> None:
    from .host.paths import add_model_folders

    add_model_folders()


NODES = load_nodes()
SERVICES = {
    "the pose editor, sample videos and uploads on the page": _serve_page,
    "telling before a run that files are missing": _note_graphs,
    "the pack's small models in the loaders' lists": _list_small_models,
}


class EgoXExtension(ComfyExtension):
    """Entry point that the host asks for the pack's nodes."""

    async def on_load(self) -> None:
        for what, start in SERVICES.items():
            try:
                start()
            except (ImportError, AttributeError) as error:
                logging.error("[EgoX] Will not work on this ComfyUI: %s (%s).", what, error)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
