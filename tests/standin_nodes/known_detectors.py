"""Replace ComfyUI's detectors in tests by nodes that read their answers from the drawn take.

Their models' weights can't be downloaded here. Each answer has ComfyUI's own form and, where
possible, is packed by ComfyUI's code, which ``tests/nodes/test_estimate_head_pose.py`` and
``test_host_depth_models.py`` test."""

import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import folder_paths
import numpy as np
import torch
from comfy.ldm.sam3.tracker import pack_masks
from comfy_api.latest import io
from comfy_extras.nodes_depth_anything_3 import DA3Inference, LoadDA3Model
from comfy_extras.nodes_moge import LoadMoGeModel, MoGeInference
from comfy_extras.nodes_sam3 import SAM3_Detect, SAM3_VideoTrack
from comfy_extras.nodes_sdpose import SDPoseKeypointExtractor, _to_openpose_frames
from comfy_extras.nodes_textgen import TextGenerate

REPO_ROOT = Path(__file__).resolve().parent.parent.parent
if str(REPO_ROOT) not in sys.path:
    sys.path.append(str(REPO_ROOT))  # after the host's own folders

from egox_core.file_names import TRUTH  # noqa: E402
from egox_core.take import Take, load_take  # noqa: E402
from egox_core.trajectory.head_template import POINTS  # noqa: E402
from lab.drawn.detected import ProjectedPerson, project_person  # noqa: E402
from lab.drawn.layout import draw_layout  # noqa: E402
from lab.sample import samples  # noqa: E402

CATEGORY = "EgoX/tests"
PREFIX = "EgoXTests"
SDPOSE_POINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
)
"""First names of the 133 points in SDPose's heatmaps."""
DA3_UNIT = 0.4  # metres times this: Depth Anything 3 gives depth without a scale
CUT_OFF_TEXT = " The hands go on and"


@lru_cache(maxsize=4)
def _load_sample_take(
    name: str, start: int, count: int, fps: float, width: int, height: int
) -> Take:
    return load_take(
        REPO_ROOT / "sample" / name,
        start_frame=start,
        frame_count=count,
        target_fps=fps,
        size=(width, height),
    )


@lru_cache(maxsize=2)
def _load_person(name: str) -> ProjectedPerson:
    return project_person(draw_layout(samples()[name].spec))


def find_exo_inputs(prompt: dict) -> dict:
    """Find the inputs of the graph's Load Exo Video, and skip one that loads the true ego video."""
    (exo_inputs,) = (
        node["inputs"]
        for node in prompt.values()
        if node["class_type"] == "EgoXLoadExoVideo" and Path(node["inputs"]["file"]).name != TRUTH
    )
    return exo_inputs


def load_take_in_use(prompt: dict) -> Take:
    """Load the sample's take in the frames that the graph's Load Exo Video selects."""
    exo_inputs = find_exo_inputs(prompt)
    return _load_sample_take(
        Path(exo_inputs["file"]).parent.name,
        exo_inputs["start_frame"],
        exo_inputs["frame_count"],
        exo_inputs["target_fps"],
        exo_inputs["width"],
        exo_inputs["height"],
    )


def derive_test_node(host_node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Derive a class from ComfyUI's node, with a test's id and the graph as a hidden input."""

    class TestNode(host_node):
        @classmethod
        def define_schema(cls) -> io.Schema:
            schema = super().define_schema()
            schema.node_id, schema.category = f"{PREFIX}{schema.node_id}", CATEGORY
            schema.hidden = [*schema.hidden, io.Hidden.prompt]
            return schema

    return TestNode


class KnownTrack(derive_test_node(SAM3_VideoTrack)):
    """Replace a tracking model by returning the drawn person's track, with all things that move
    with the person."""

    @classmethod
    def execute(cls, images, **settings) -> io.NodeOutput:
        moving_mask = load_take_in_use(cls.hidden.prompt).depth.dynamic
        return io.NodeOutput(
            {
                "packed_masks": pack_masks(moving_mask[:, None].float()),
                "n_frames": len(images),
                "scores": [1.0],
                "orig_size": tuple(images.shape[1:3]),
            }
        )


class KnownBoxes(derive_test_node(SAM3_Detect)):
    """Replace a detector by returning mask and box of the drawn person and of all things that move
    with the person."""

    @classmethod
    def execute(cls, image, **settings) -> io.NodeOutput:
        moving_masks = load_take_in_use(cls.hidden.prompt).depth.dynamic
        return io.NodeOutput(
            moving_masks.float(),
            [[_bounding_box(mask)] if bool(mask.any()) else [] for mask in moving_masks],
        )


def _bounding_box(mask: torch.Tensor) -> dict[str, float]:
    rows, columns = mask.nonzero(as_tuple=True)
    x, y = float(columns.min()), float(rows.min())
    return {
        "x": x,
        "y": y,
        "width": float(columns.max()) + 1 - x,
        "height": float(rows.max()) + 1 - y,
        "score": 1.0,
    }


class KnownKeypoints(derive_test_node(SDPoseKeypointExtractor)):
    """Replace a key point detector by returning the drawn wearer's points that the exo camera
    sees."""

    @classmethod
    def execute(cls, image, **settings) -> io.NodeOutput:
        take = load_take_in_use(cls.hidden.prompt)
        person = _load_person(Path(find_exo_inputs(cls.hidden.prompt)["file"]).parent.name)
        frames = take.frames.indices.numpy()
        uv, _ = take.depth.exo.camera.project(torch.from_numpy(person.metres[frames]))
        points, scores = np.zeros((len(frames), 1, 133, 2)), np.zeros((len(frames), 1, 133))
        for row, name in enumerate(SDPOSE_POINTS):
            points[:, 0, row] = uv[:, POINTS.index(name)].numpy()
            scores[:, 0, row] = 0.9 * person.seen[frames][:, POINTS.index(name)]
        return io.NodeOutput(_to_openpose_frames(points, scores, *image.shape[1:3]))


class KnownMoGe(derive_test_node(MoGeInference)):
    """Replace MoGe v2 by returning the drawn take's metric depth, with points, normals and lens."""

    @classmethod
    def execute(cls, image, **settings) -> io.NodeOutput:
        depth = load_take_in_use(cls.hidden.prompt).depth
        camera, depth_z = depth.exo.camera, depth.depth_m.float()
        width, height = camera.stored_size
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        x, y = (columns - camera.cx) / camera.fx * depth_z, (rows - camera.cy) / camera.fy * depth_z
        intrinsics = torch.tensor(
            [
                [camera.fx / width, 0, (camera.cx + 0.5) / width],
                [0, camera.fy / height, (camera.cy + 0.5) / height],
                [0, 0, 1],
            ]
        )
        finite_mask = torch.isfinite(depth_z)
        depth_z = depth_z.masked_fill(~finite_mask, torch.inf)
        return io.NodeOutput(
            {
                "image": image.cpu(),
                "points": torch.stack((x, y, depth_z), dim=-1),
                "depth": depth_z,
                "mask": finite_mask,
                "intrinsics": intrinsics.expand(len(depth_z), 3, 3),
                "normal": torch.zeros(*depth_z.shape, 3),
            }
        )


class KnownDA3(derive_test_node(DA3Inference)):
    """Replace Depth Anything 3 by returning the drawn take's depth without a scale, and the lens in
    pixels of a smaller picture."""

    @classmethod
    def execute(cls, image, resolution, mode, **settings) -> io.NodeOutput:
        depth = load_take_in_use(cls.hidden.prompt).depth
        camera, frame_count = depth.exo.camera, len(depth.depth_m)
        picture_scale = resolution / max(camera.stored_size)
        intrinsics = torch.tensor(
            [
                [camera.fx * picture_scale, 0, camera.width * picture_scale / 2],
                [0, camera.fy * picture_scale, camera.height * picture_scale / 2],
                [0, 0, 1],
            ]
        )
        depth_z = DA3_UNIT * depth.depth_m.float().nan_to_num(100.0)
        return io.NodeOutput(
            {
                "depth": depth_z,
                "image": image[..., :3].cpu(),
                "mode": mode["mode"],
                "confidence": torch.full_like(depth_z, 2.0),
                "extrinsics": torch.eye(4).expand(1, frame_count, 4, 4),
                "intrinsics": intrinsics.expand(1, frame_count, 3, 3),
            }
        )


class KnownText(derive_test_node(TextGenerate)):
    """Replace a language model by returning the take's prompt after a reasoning text, with other
    headings, and cut off."""

    @classmethod
    def execute(cls, prompt, image=None, **settings) -> io.NodeOutput:
        if image is None or "[Exo view]" not in prompt:
            raise ValueError("no pictures or no instruction came to the language model")
        caption = load_take_in_use(cls.hidden.prompt).notes.prompt.replace(
            "[Ego view]", "\n\n## Ego view\n"
        )
        return io.NodeOutput(
            f"<think>\n{len(image)} pictures.\n</think>\n\n{caption}{CUT_OFF_TEXT}"
        )


def derive_idle_loader(host_node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    class IdleLoader(derive_test_node(host_node)):
        @classmethod
        def execute(cls, **settings) -> io.NodeOutput:
            return io.NodeOutput(None)

    return IdleLoader


def make_idle_node(
    class_type: str, list_inputs: Callable[[], list], outputs: list, result: tuple = ()
) -> type[io.ComfyNode]:
    """Make a node with the sockets of one of ComfyUI's, which reads no file and computes
    nothing.

    Its inputs are listed anew each time, because their menus list files."""

    class IdleNode(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema(
                node_id=f"{PREFIX}{class_type}",
                category=CATEGORY,
                inputs=list_inputs(),
                outputs=outputs,
            )

        @classmethod
        def execute(cls, **settings) -> io.NodeOutput:
            return io.NodeOutput(*result or [None] * len(outputs))

    return IdleNode


def model_menu(name: str, folder: str) -> io.Combo.Input:
    return io.Combo.Input(name, options=folder_paths.get_filename_list(folder))


KNOWN_DETECTORS: tuple[type[io.ComfyNode], ...] = (
    KnownTrack,
    KnownBoxes,
    KnownKeypoints,
    KnownMoGe,
    KnownDA3,
    KnownText,
    make_idle_node(
        "CheckpointLoaderSimple",
        lambda: [model_menu("ckpt_name", "checkpoints")],
        [io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
    ),
    make_idle_node(
        "CLIPLoader",
        lambda: [
            model_menu("clip_name", "text_encoders"),
            io.Combo.Input("type", options=["stable_diffusion", "wan", "qwen_image"]),
            io.Combo.Input("device", options=["default", "cpu"], optional=True),
        ],
        [io.Clip.Output()],
    ),
    make_idle_node(
        "CLIPTextEncode",
        lambda: [io.String.Input("text", multiline=True), io.Clip.Input("clip")],
        [io.Conditioning.Output()],
        ([],),
    ),
    derive_idle_loader(LoadMoGeModel),
    derive_idle_loader(LoadDA3Model),
)
