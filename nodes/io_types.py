"""The pack's own socket types. Each carries one frozen payload of ``egox_core.types``, documented there."""

from __future__ import annotations

from comfy_api.latest import io

EgoXFrames = io.Custom("EGOX_FRAMES")  # egox_core.types.FrameSelection
EgoXDepth = io.Custom("EGOX_DEPTH")  # egox_core.types.DepthVideo
EgoXTrajectory = io.Custom("EGOX_TRAJECTORY")  # egox_core.types.CameraTrajectory
EgoXScene = io.Custom("EGOX_SCENE")  # egox_core.types.PointCloud
EgoXCanvas = io.Custom("EGOX_CANVAS")  # egox_core.types.Canvas
EgoXAttention = io.Custom("EGOX_ATTENTION")  # nodes.attention.AttentionCapture, filled while sampling
