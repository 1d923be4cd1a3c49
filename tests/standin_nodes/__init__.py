"""Loaders of the tiny stand-in text and picture encoders, which no stock loader reads, and detectors that know the
answer (:mod:`.known_detectors`). For tests only.

``run.py`` links this folder into the custom_nodes of the host that tests run in, and nowhere else; the pack never
registers these nodes. A stand-in file carries its configuration in its metadata.
"""

from __future__ import annotations

import json

import comfy.clip_vision
import comfy.sd
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, io
from safetensors import safe_open

from .known_detectors import KNOWN_DETECTORS

CATEGORY = "EgoX/tests"


def _config(path: str) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["config"])


class StandinTextEncoderLoader(io.ComfyNode):
    """CLIPLoader for a small umT5."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXTestsLoadTextEncoder",
            display_name="Load Stand-in Text Encoder (tests)",
            category=CATEGORY,
            inputs=[
                io.Combo.Input(
                    "clip_name",
                    options=folder_paths.get_filename_list("text_encoders"),
                    tooltip="A stand-in made by run.py make standins --all.",
                )
            ],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise("text_encoders", clip_name)
        return io.NodeOutput(
            comfy.sd.load_clip(
                [path],
                clip_type=comfy.sd.CLIPType.WAN,
                model_options={"umt5xxl_model_config": _config(path)},
            )
        )


class StandinClipVisionLoader(io.ComfyNode):
    """CLIPVisionLoader for a small picture encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXTestsLoadClipVision",
            display_name="Load Stand-in CLIP Vision (tests)",
            category=CATEGORY,
            inputs=[
                io.Combo.Input(
                    "clip_name",
                    options=folder_paths.get_filename_list("clip_vision"),
                    tooltip="A stand-in made by run.py make standins --all.",
                )
            ],
            outputs=[io.ClipVision.Output()],
        )

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise("clip_vision", clip_name)
        vision = comfy.clip_vision.ClipVisionModel(_config(path))
        missing, unexpected = vision.load_sd(comfy.utils.load_torch_file(path))
        if missing or unexpected:
            raise ValueError(
                f"{clip_name} is no stand-in: missing {missing}, unexpected {unexpected}"
            )
        return io.NodeOutput(vision)


class StandinExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [StandinTextEncoderLoader, StandinClipVisionLoader, *KNOWN_DETECTORS]


async def comfy_entrypoint() -> ComfyExtension:
    return StandinExtension()
