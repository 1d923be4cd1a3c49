"""Pictures of the nodes' help pages: what goes in, what comes out. Synthetic takes only; ``run.py make help``.

Each table: node -> the function that draws its picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from . import inputs, model_inputs, sampled, scenes
from .room import Room
from .small_model import SmallModel

PICTURES: Mapping[str, Callable[[Room], np.ndarray]] = {
    "EgoXLoadExoVideo": inputs.load_exo_video,
    "EgoXRankExoCameras": inputs.rank_exo_cameras_,
    "EgoXPrompt": inputs.prompt,
    "EgoXCaptionRequest": inputs.caption_request,
    "EgoXText": inputs.text,
    "EgoXDepthAlign": scenes.depth_align,
    "EgoXBuildScene": scenes.build_scene_,
    "EgoXFuseScenes": scenes.fuse_scenes_,
    "EgoXEstimateHeadPose": scenes.estimate_head_pose,
    "EgoXEgoPoseInput": scenes.ego_pose_input,
    "EgoXRenderEgoPrior": model_inputs.render_ego_prior,
    "EgoXConditioning": model_inputs.conditioning,
    "EgoXModelPatch": model_inputs.model_patch,
    "EgoXReleasedSampling": model_inputs.released_sampling,
}
"""Of the shipped sample's room; the same on every machine."""

SAMPLED: Mapping[str, Callable[[SmallModel], np.ndarray]] = {
    "EgoXLoadLora": sampled.load_lora,
    "EgoXWanSampler": sampled.wan_sampler,
    "EgoXDecodeEgoHalf": sampled.decode_ego_half,
    "EgoXEvaluate": sampled.evaluate,
    "EgoXSweep": sampled.sweep,
    "EgoXLabelledGrid": sampled.labelled_grid_,
    "EgoXAttentionView": sampled.attention_view,
    "EgoXAttentionCapture": sampled.attention_capture,
}
"""Sampled with the small model of models/demo."""
