"""Define the node Run MoGe on Video, which estimates the depth of a whole clip, also on a CPU."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ..egox_core.arrays import as_frames
from ..egox_core.depth import depth_between
from ..egox_core.errors import EgoXInputError
from ..egox_core.frame_store import store_frames
from .host.graph import Graph, check_or_message, inputs_of, linked_node_id
from .host.progress import host_progress
from .own_depth import AUTO, needs_auto_moge
from .search_words import node_schema

if TYPE_CHECKING:
    from comfy.ldm.moge.model import MoGeModel as HostMoGe

CPU_STEP = 4
"""Of how many frames MoGe sees one on a CPU, where a frame takes some seconds."""
MOST_DETAIL = 9
PATCH_PX = 14
FOLDER = "geometry_estimation"
"""ComfyUI's folder of MoGe files, which old versions lack."""
MOGE_2 = re.compile(r"moge.?2", re.IGNORECASE)
"""Part of the name of a file of MoGe 2, whose depth is in metres."""
SMALLEST_FILE = "moge_2_vits_normal.pt"
SMALLEST_URL = "https://huggingface.co/Ruicheng/moge-2-vits-normal/resolve/main/model.pt"
MoGeModel, MoGeGeometry = io.Custom("MOGE_MODEL"), io.Custom("MOGE_GEOMETRY")


class EgoXMoGeVideo(io.ComfyNode):
    """Estimate metric depth and lens of a clip by ComfyUI's MoGe, frame by frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXMoGeVideo",
            display_name="Run MoGe on Video",
            category="EgoX/geometry",
            description=(
                "Runs MoGe on a video frame by frame, for Depth Align. On a CPU MoGe sees every "
                f"{CPU_STEP}th frame, and the depth of those between is filled in. ComfyUI's own "
                "Run MoGe Inference sees every frame, and needs a GPU."
            ),
            inputs=[
                MoGeModel.Input(
                    "moge_model",
                    optional=True,
                    tooltip="From Load MoGe Model. If unconnected, the file of model_name is used.",
                ),
                io.Image.Input(
                    "exo_images", tooltip="The frames of the exo video, from Load Exo Video."
                ),
                io.Combo.Input(
                    "model_name",
                    options=[AUTO, *_model_files()],
                    optional=True,
                    tooltip=(
                        "A file in ComfyUI's folder geometry_estimation, if moge_model is "
                        "unconnected. auto: the smallest file of MoGe 2 there, and none if the "
                        "video has a depth of its own. MoGe 2 gives depth in metres; its smallest, "
                        "ViT-S, is for a CPU, and Load MoGe Model refuses it."
                    ),
                    # Read by the page after an upload.
                    extra_dict={"egox_auto_file": _smallest_file()},
                ),
            ],
            outputs=[
                MoGeGeometry.Output(
                    display_name="moge_geometry",
                    tooltip="Depth and lens of each frame, for Depth Align.",
                )
            ],
            hidden=[io.Hidden.unique_id],  # for check_or_message
        )

    @classmethod
    def validate_inputs(cls, model_name=None) -> bool | str:
        return check_or_message(cls, check_model_file)

    @classmethod
    def execute(cls, exo_images, moge_model=None, model_name=AUTO) -> io.NodeOutput:
        exo_images = as_frames(exo_images, "exo frames")[..., :3]
        if moge_model is None:
            moge_model = _load_moge(model_name)
        is_on_cpu = moge_model.load_device.type == "cpu"
        step = CPU_STEP if is_on_cpu else 1
        if is_on_cpu:
            # ComfyUI asks for half precision here, too, in which torch can't resize on a CPU.
            moge_model = copy.copy(moge_model)
            moge_model.dtype = torch.float32
        # MoGe's most detail enlarges a small picture, which takes twice as long on a CPU.
        fewest, most = moge_model.num_tokens_range
        patch_count = exo_images[0, ..., 0].numel() // PATCH_PX**2
        token_count = max(fewest, min(patch_count, most))
        key_images = exo_images[::step]
        progress = host_progress(len(key_images))
        intrinsics = []

        def key_maps():
            for number, image in enumerate(key_images):
                progress(number, len(key_images), "depth")
                geometry = moge_model.infer(
                    image.movedim(-1, 0)[None],
                    num_tokens=token_count if is_on_cpu else None,
                    resolution_level=MOST_DETAIL,
                )
                intrinsics.append(geometry["intrinsics"].cpu())
                yield geometry["depth"][0].float().cpu()
            progress(len(key_images), len(key_images), "depth")

        key_depth = store_frames(key_maps(), len(key_images))
        depth = store_frames(depth_between(key_depth, step, len(exo_images)), len(exo_images))
        return io.NodeOutput(
            {
                "image": exo_images.cpu(),
                "depth": depth,
                "mask": store_frames((frame.isfinite() for frame in depth), len(depth)),
                "intrinsics": torch.cat(intrinsics).repeat_interleave(step, 0)[: len(exo_images)],
                "is_metric": moge_model.version == "v2",
            }
        )


def _model_files() -> list[str]:
    """List the files in the folder of MoGe, if ComfyUI has one."""
    has_folder = FOLDER in folder_paths.folder_names_and_paths
    return folder_paths.get_filename_list(FOLDER) if has_folder else []


def _smallest_file() -> str | None:
    """Choose the smallest file of MoGe 2, or None if there is none."""
    sizes = {
        name: Path(path).stat().st_size
        for name in _model_files()
        if MOGE_2.search(name) and (path := folder_paths.get_full_path(FOLDER, name))
    }
    return min(sizes, key=lambda name: sizes[name], default=None)


def check_model_file(graph: Graph, node: str) -> None:
    """Check that the weights are there, if anything needs them, before a run starts.

    Raises:
        EgoXInputError: as :func:`find_model_file`.
    """
    model_name = inputs_of(graph, node).get("model_name", AUTO)
    if linked_node_id(graph, node, "moge_model") is not None or not isinstance(model_name, str):
        return
    if model_name != AUTO or needs_auto_moge(graph, node):
        find_model_file(model_name)


def find_model_file(model_name: str) -> str:
    """Find the weights that a node names, or the smallest of MoGe 2 for *auto*.

    Raises:
        EgoXInputError: they are not there, with the place to download and to save them.
    """
    file_name = _smallest_file() if model_name == AUTO else model_name
    if file_name is not None and file_name in _model_files():
        return file_name
    is_auto = model_name == AUTO
    download = f"download {SMALLEST_URL}" if is_auto else "download it"
    missing_name = SMALLEST_FILE if is_auto else model_name
    raise EgoXInputError(
        "MoGe's weights",
        got=f"no depth of the video's own, and no file of MoGe 2 in models/{FOLDER}"
        if is_auto
        else f"{model_name!r}, which is not in models/{FOLDER}",
        expected=f"{SMALLEST_FILE}, 150 MB" if is_auto else f"a file of that folder, or {AUTO}",
        fix=f"{download} and save it as models/{FOLDER}/{missing_name}; or "
        + ("upload the video's depth with it" if is_auto else f"choose {AUTO}"),
    )


def _load_moge(model_name: str) -> "HostMoGe":
    """Load a file as Load MoGe Model does, and ViT-S of MoGe 2, too."""
    file_name = find_model_file(model_name)
    from comfy.ldm.moge.model import MoGeModel, MoGeModelV2

    path = folder_paths.get_full_path_or_raise(FOLDER, file_name)
    weights = comfy.utils.load_torch_file(path, safe_load=True)
    return MoGeModel(
        _spread_projections(weights.get("model", weights), MoGeModelV2.intermediate_layers)
    )


def _spread_projections(weights: Mapping[str, Tensor], layer_count: int) -> dict[str, Tensor]:
    """Give each layer that ComfyUI reads a projection, of zeros where the file has none.

    ComfyUI expects four, of layers at equal distances. ViT-S has two, of every second of them,
    and the projections are summed, so zeros change nothing.
    """
    projection = re.compile(r"(encoder\.output_projections)\.(\d+)\.(\w+)")
    projection_keys = {key: match for key in weights if (match := projection.fullmatch(key))}
    count = len({match[2] for match in projection_keys.values()})
    if not count or layer_count % count:
        return dict(weights)
    spread_weights = {key: value for key, value in weights.items() if key not in projection_keys}
    step = layer_count // count
    for key, match in projection_keys.items():
        for place in range(int(match[2]) * step, (int(match[2]) + 1) * step):
            is_last = place % step == step - 1
            value = weights[key] if is_last else torch.zeros_like(weights[key])
            spread_weights[f"{match[1]}.{place}.{match[3]}"] = value
    return spread_weights
