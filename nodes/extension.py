"""Load the node files one by one, so that an error in one file only loses its own nodes."""

import logging
from collections.abc import Callable, Mapping
from types import ModuleType

from comfy_api.latest import ComfyExtension, io

from . import advice  # noqa: F401  before any message


def _load_exo_video() -> ModuleType:
    from . import load_exo_video

    return load_exo_video


def _exo_cameras() -> ModuleType:
    from . import exo_cameras

    return exo_cameras


def _ego_pose() -> ModuleType:
    from . import ego_pose

    return ego_pose


def _depth_align() -> ModuleType:
    from . import depth_align

    return depth_align


def _exo_motion() -> ModuleType:
    from . import exo_motion

    return exo_motion


def _estimate_head_pose() -> ModuleType:
    from . import estimate_head_pose

    return estimate_head_pose


def _scene() -> ModuleType:
    from . import scene

    return scene


def _render_ego_prior() -> ModuleType:
    from . import render_ego_prior

    return render_ego_prior


def _moge_video() -> ModuleType:
    from . import moge_video

    return moge_video


def _preview_ego_view() -> ModuleType:
    from . import preview_ego_view

    return preview_ego_view


def _draw_hands() -> ModuleType:
    from . import draw_hands

    return draw_hands


def _lora() -> ModuleType:
    from . import lora

    return lora


def _text() -> ModuleType:
    from . import text

    return text


def _conditioning() -> ModuleType:
    from . import conditioning

    return conditioning


def _model_patch() -> ModuleType:
    from . import model_patch

    return model_patch


def _released_sampling() -> ModuleType:
    from . import released_sampling

    return released_sampling


def _sampling() -> ModuleType:
    from . import sampling

    return sampling


def _decode_ego_half() -> ModuleType:
    from . import decode_ego_half

    return decode_ego_half


def _second_eye() -> ModuleType:
    from . import second_eye

    return second_eye


def _sample_long() -> ModuleType:
    from . import sample_long

    return sample_long


def _attention() -> ModuleType:
    from . import attention

    return attention


def _study() -> ModuleType:
    from . import study

    return study


def _robot_episode() -> ModuleType:
    from . import robot_episode

    return robot_episode


NODE_FILES: Mapping[Callable[[], ModuleType], tuple[str, ...]] = {
    _load_exo_video: ("EgoXLoadExoVideo",),
    _exo_cameras: ("EgoXRankExoCameras",),
    _ego_pose: ("EgoXEgoPoseInput",),
    _depth_align: ("EgoXDepthAlign",),
    _exo_motion: ("EgoXExoMotion",),
    _estimate_head_pose: ("EgoXEstimateHeadPose",),
    _scene: ("EgoXBuildScene", "EgoXFuseScenes"),
    _render_ego_prior: ("EgoXRenderEgoPrior",),
    _preview_ego_view: ("EgoXPreviewEgoView",),
    _moge_video: ("EgoXMoGeVideo",),
    _draw_hands: ("EgoXDrawHands",),
    _lora: ("EgoXLoadLora",),
    _text: ("EgoXText", "EgoXCaptionRequest"),
    _conditioning: ("EgoXPrompt", "EgoXConditioning"),
    _model_patch: ("EgoXModelPatch",),
    _released_sampling: ("EgoXReleasedSampling",),
    _sampling: ("EgoXWanSampler",),
    _decode_ego_half: ("EgoXDecodeEgoHalf",),
    _second_eye: ("EgoXSecondEye",),
    _sample_long: ("EgoXSampleLong",),
    _attention: ("EgoXAttentionCapture", "EgoXAttentionView"),
    _study: ("EgoXSweep", "EgoXLabelledGrid"),
    _robot_episode: ("EgoXSaveRobotEpisode",),
}
"""Loaders of this folder's files, and the nodes in them, in ComfyUI's order. Each import is written
out, because the registry flags a pack that imports by a computed name."""


def load_nodes(
    files: Mapping[Callable[[], ModuleType], tuple[str, ...]] = NODE_FILES,
) -> tuple[type[io.ComfyNode], ...]:
    """Load the nodes that work in this version of ComfyUI, and log the others with a reason."""
    node_classes: list[type[io.ComfyNode]] = []
    for file, names in files.items():
        try:
            module = file()
        except Exception as error:  # a host that moved something answers in any way
            _log_lost_nodes(names, error)
            continue
        for name in names:
            node_class = getattr(module, name)
            try:
                # the host asks for it when it lists nodes, and drops all for one that fails
                node_class.define_schema()
            except Exception as error:
                _log_lost_nodes((name,), error)
            else:
                node_classes.append(node_class)
    return tuple(node_classes)


def _log_lost_nodes(names: tuple[str, ...], error: Exception) -> None:
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
        for page_module in (routes, uploads, clips, exo_clip):
            page_module.register(server.routes)
        server.app.on_response_prepare.append(routes.disable_module_caching)


def _note_graphs() -> None:
    from .host.graph import note_graphs

    note_graphs()


def _list_small_models() -> None:
    from .host.paths import add_model_folders

    add_model_folders()


def _log_refusals() -> None:
    from .host.refusals import log_refusals_in_one_line

    log_refusals_in_one_line()


NODES = load_nodes()
SERVICES = {
    "the pose editor, sample videos and uploads on the page": _serve_page,
    "telling before a run that files are missing": _note_graphs,
    "the pack's small models in the loaders' lists": _list_small_models,
    "refusals in one line of the log": _log_refusals,
}


class EgoXExtension(ComfyExtension):
    """Give ComfyUI the pack's nodes, as its entry point."""

    async def on_load(self) -> None:
        for service, start in SERVICES.items():
            try:
                start()
            except (ImportError, AttributeError) as error:
                logging.error("[EgoX] Will not work on this ComfyUI: %s (%s).", service, error)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
