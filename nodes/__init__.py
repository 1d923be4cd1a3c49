"""The EgoX nodes: thin translations from host types to ``egox_core`` and back."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from .attention_capture import EgoXAttentionCapture
from .attention_view import EgoXAttentionView
from .build_scene import EgoXBuildScene
from .conditioning import EgoXConditioning
from .decode_ego_half import EgoXDecodeEgoHalf
from .depth_align import EgoXDepthAlign
from .ego_pose_input import EgoXEgoPoseInput
from .evaluate import EgoXEvaluate
from .fuse_scenes import EgoXFuseScenes
from .labelled_grid import EgoXLabelledGrid
from .load_exo_video import EgoXLoadExoVideo
from .lora import EgoXLoadLora
from .model_patch import EgoXModelPatch
from .prompt import EgoXPrompt
from .rank_exo_cameras import EgoXRankExoCameras
from .released_sampling import EgoXReleasedSampling
from .render_ego_prior import EgoXRenderEgoPrior
from .sample_route import register as register_sample_route
from .save_trajectory import EgoXSaveTrajectory
from .scene_point_cloud import EgoXScenePointCloud
from .scene_routes import register as register_scene_routes
from .sweep import EgoXSweep
from .undistort_exo import EgoXUndistortExo
from .wan_sampler import EgoXWanSampler

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
