"""Define nodes for tests: loaders of tiny stand-in encoders, and detectors whose answers are known
(:mod:`.known_detectors`).

``run.py`` links this folder into the custom_nodes of the ComfyUI that tests run in, and nowhere
else. A stand-in file contains its configuration in its metadata.
"""

import json
from functools import wraps

import comfy.clip_vision
import comfy.sd
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, io
from safetensors import safe_open

from .known_detectors import KNOWN_DETECTORS

CATEGORY = "EgoX/tests"


def _read_config(path: str) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["config"])


def make_loader_base(node_id: str, folder: str, output) -> type[io.ComfyNode]:
    """Build the base class of a loader node, with its menu of files and its output."""

    class Loader(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            names = folder_paths.get_filename_list(folder)
            return io.Schema(
                node_id=node_id,
                category=CATEGORY,
                inputs=[io.Combo.Input("clip_name", options=names)],
                outputs=[output],
            )

    return Loader


class StandinTextEncoderLoader(
    make_loader_base("EgoXTestsLoadTextEncoder", "text_encoders", io.Clip.Output())
):
    """Load a small umT5, as CLIPLoader does with the large one."""

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise("text_encoders", clip_name)
        return io.NodeOutput(
            comfy.sd.load_clip(
                [path],
                clip_type=comfy.sd.CLIPType.WAN,
                model_options={"umt5xxl_model_config": _read_config(path)},
            )
        )


class StandinClipVisionLoader(
    make_loader_base("EgoXTestsLoadClipVision", "clip_vision", io.ClipVision.Output())
):
    """Load a small picture encoder, as CLIPVisionLoader does with the large one."""

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise("clip_vision", clip_name)
        vision = comfy.clip_vision.ClipVisionModel(_read_config(path))
        missing, unexpected = vision.load_sd(comfy.utils.load_torch_file(path))
        if missing or unexpected:
            raise ValueError(
                f"{clip_name} is no stand-in: missing {missing}, unexpected {unexpected}"
            )
        return io.NodeOutput(vision)


class HalvedModel(io.ComfyNode):
    """Halve a model's output by a wrapper, as another pack's node may."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXTestsHalveModel",
            category=CATEGORY,
            inputs=[io.Model.Input("model")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model) -> io.NodeOutput:
        halved_model = model.clone()
        halved_model.add_wrapper_with_key("diffusion_model", "halve", halve_output)
        return io.NodeOutput(halved_model)


@wraps(comfy.sd.load_clip)  # which makes it no code of ComfyUI
def halve_output(executor, *args, **kwargs):
    return 0.5 * executor(*args, **kwargs)


class StandinExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            StandinTextEncoderLoader,
            StandinClipVisionLoader,
            HalvedModel,
            *KNOWN_DETECTORS,
        ]


async def comfy_entrypoint() -> ComfyExtension:
    return StandinExtension()
