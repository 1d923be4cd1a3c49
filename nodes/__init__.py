"""The EgoX nodes: thin translations from host types to ``egox_core`` and back."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from .attention import EgoXAttentionCapture, EgoXAttentionView
from .conditioning import EgoXConditioning, EgoXPrompt
from .decode_ego_half import EgoXDecodeEgoHalf
from .depth_align import EgoXDepthAlign
from .ego_pose import EgoXEgoPoseInput, EgoXSaveTrajectory
from .exo_cameras import EgoXRankExoCameras, EgoXUndistortExo
from .load_exo_video import EgoXLoadExoVideo
from .lora import EgoXLoadLora
from .model_patch import EgoXModelPatch
from .page.routes import register as register_scene_routes
from .page.routes import register_sample_route
from .render_ego_prior import EgoXRenderEgoPrior
from .sampling import EgoXReleasedSampling, EgoXWanSampler
from .scene import EgoXBuildScene, EgoXFuseScenes, EgoXScenePointCloud
from .study import EgoXEvaluate, EgoXLabelledGrid, EgoXSweep

NODES: tuple[type[io.ComfyNode], ...] = (
    EgoXLoadExoVideo,
    EgoXUndistortExo,
    EgoXRankExoCameras,
    EgoXEgoPoseInput,
    EgoXSaveTrajectory,
    EgoXDepthAlign,
    EgoXBuildScene,
    EgoXFuseScenes,
    EgoXScenePointCloud,
    EgoXRenderEgoPrior,
    EgoXLoadLora,
    EgoXPrompt,
    EgoXConditioning,
    EgoXModelPatch,
    EgoXReleasedSampling,
    EgoXWanSampler,
    EgoXDecodeEgoHalf,
    EgoXAttentionCapture,
    EgoXAttentionView,
    EgoXSweep,
    EgoXLabelledGrid,
    EgoXEvaluate,
)


class EgoXExtension(ComfyExtension):
    """What the host asks for the pack's nodes."""

    async def on_load(self) -> None:
        if getattr(PromptServer, "instance", None) is not None:  # none where only the nodes are wanted, as in tests
            register_scene_routes(PromptServer.instance.routes)
            register_sample_route(PromptServer.instance.routes)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
