"""Detectors that know the answer: the host's own nodes, whose models' weights can't be had in
tests, with their sockets and what they give, but told by the drawn take instead of seen in the
picture. For tests only.

This is the one place where more than weights stands in. Each answer has the host's exact form, by
its own packing where it has one; how the host's code fills it in life is tested in
``tests/nodes/test_estimate_head_pose.py`` and ``test_host_depth_models.py``."""

import sys
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
from lab.drawn.detected import SeenPerson, seen_person  # noqa: E402
from lab.drawn.layout import draw_layout  # noqa: E402
from lab.sample import samples  # noqa: E402

CATEGORY = "EgoX/tests"
PREFIX = "EgoXTests"
MMPOSE = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
)
"""First of the 133 points that SDPose's heatmaps are of."""
DA3_UNIT = 0.4  # what Depth Anything 3 has no scale for: metres times this
CUT = " The hands go on and"


@lru_cache(maxsize=4)
def _take(name: str, start: int, count: int, fps: float, width: int, height: int) -> Take:
    return load_take(
        REPO_ROOT / "sample" / name,
        start_frame=start,
        frame_count=count,
        target_fps=fps,
        size=(width, height),
    )


@lru_cache(maxsize=2)
def _person(name: str) -> SeenPerson:
    return seen_person(draw_layout(samples()[name].spec))


def exo_in_use(prompt: dict) -> dict:
    """Find the values of the graph's Load Exo Video. Another one may load the ego truth."""
    (load,) = (
        node["inputs"]
        for node in prompt.values()
        if node["class_type"] == "EgoXLoadExoVideo" and Path(node["inputs"]["file"]).name != TRUTH
    )
    return load


def take_in_use(prompt: dict) -> Take:
    """Load the sample's take in the frames that the graph's Load Exo Video selects."""
    load = exo_in_use(prompt)
    return _take(
        Path(load["file"]).parent.name,
        load["start_frame"],
        load["frame_count"],
        load["target_fps"],
        load["width"],
        load["height"],
    )


def known(host_node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Copy the host's node under a test's name, with the graph as a hidden input."""

    class Known(host_node):
        @classmethod
        def define_schema(cls) -> io.Schema:
            schema = super().define_schema()
            schema.node_id, schema.category = f"{PREFIX}{schema.node_id}", CATEGORY
            schema.hidden = [*schema.hidden, io.Hidden.prompt]
            return schema

    return Known


class KnownTrack(known(SAM3_VideoTrack)):
    """One object: the person and what moves with it."""

    @classmethod
    def execute(cls, images, **settings) -> io.NodeOutput:
        moves = take_in_use(cls.hidden.prompt).depth.dynamic
        return io.NodeOutput(
            {
                "packed_masks": pack_masks(moves[:, None].float()),
                "n_frames": len(images),
                "scores": [1.0],
                "orig_size": tuple(images.shape[1:3]),
            }
        )


class KnownBoxes(known(SAM3_Detect)):
    """The same as masks and boxes."""

    @classmethod
    def execute(cls, image, **settings) -> io.NodeOutput:
        moves = take_in_use(cls.hidden.prompt).depth.dynamic
        return io.NodeOutput(
            moves.float(), [[_box(mask)] if bool(mask.any()) else [] for mask in moves]
        )


def _box(mask: torch.Tensor) -> dict[str, float]:
    rows, columns = mask.nonzero(as_tuple=True)
    x, y = float(columns.min()), float(rows.min())
    return {
        "x": x,
        "y": y,
        "width": float(columns.max()) + 1 - x,
        "height": float(rows.max()) + 1 - y,
        "score": 1.0,
    }


class KnownKeypoints(known(SDPoseKeypointExtractor)):
    """The points of the wearer that the exo camera sees, and no hands, feet or faces in detail."""

    @classmethod
    def execute(cls, image, **settings) -> io.NodeOutput:
        take = take_in_use(cls.hidden.prompt)
        person = _person(Path(exo_in_use(cls.hidden.prompt)["file"]).parent.name)
        frames = take.frames.indices.numpy()
        uv, _ = take.depth.exo.camera.project(torch.from_numpy(person.metres[frames]))
        raw, scores = np.zeros((len(frames), 1, 133, 2)), np.zeros((len(frames), 1, 133))
        for row, name in enumerate(MMPOSE):
            raw[:, 0, row] = uv[:, POINTS.index(name)].numpy()
            scores[:, 0, row] = 0.9 * person.seen[frames][:, POINTS.index(name)]
        return io.NodeOutput(_to_openpose_frames(raw, scores, *image.shape[1:3]))


class KnownMoGe(known(MoGeInference)):
    """Metric depth, as v2 gives it: with points, normals and the lens."""

    @classmethod
    def execute(cls, image, **settings) -> io.NodeOutput:
        depth = take_in_use(cls.hidden.prompt).depth
        camera, z = depth.exo.camera, depth.depth_m.float()
        width, height = camera.stored_size
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        x, y = (columns - camera.cx) / camera.fx * z, (rows - camera.cy) / camera.fy * z
        lens = torch.tensor(
            [
                [camera.fx / width, 0, (camera.cx + 0.5) / width],
                [0, camera.fy / height, (camera.cy + 0.5) / height],
                [0, 0, 1],
            ]
        )
        finite_mask = torch.isfinite(z)
        z = z.masked_fill(~finite_mask, torch.inf)
        return io.NodeOutput(
            {
                "image": image.cpu(),
                "points": torch.stack((x, y, z), dim=-1),
                "depth": z,
                "mask": finite_mask,
                "intrinsics": lens.expand(len(z), 3, 3),
                "normal": torch.zeros(*z.shape, 3),
            }
        )


class KnownDA3(known(DA3Inference)):
    """Depth of no known scale, and the lens in pixels of the smaller picture that the model
    sees."""

    @classmethod
    def execute(cls, image, resolution, mode, **settings) -> io.NodeOutput:
        depth = take_in_use(cls.hidden.prompt).depth
        camera, count = depth.exo.camera, len(depth.depth_m)
        scale = resolution / max(camera.stored_size)
        lens = torch.tensor(
            [
                [camera.fx * scale, 0, camera.width * scale / 2],
                [0, camera.fy * scale, camera.height * scale / 2],
                [0, 0, 1],
            ]
        )
        z = DA3_UNIT * depth.depth_m.float().nan_to_num(100.0)
        return io.NodeOutput(
            {
                "depth": z,
                "image": image[..., :3].cpu(),
                "mode": mode["mode"],
                "confidence": torch.full_like(z, 2.0),
                "extrinsics": torch.eye(4).expand(1, count, 4, 4),
                "intrinsics": lens.expand(1, count, 3, 3),
            }
        )


class KnownText(known(TextGenerate)):
    """The take's own prompt as a model would write it: with its thinking, headings of its own, and
    cut off."""

    @classmethod
    def execute(cls, prompt, image=None, **settings) -> io.NodeOutput:
        if image is None or "[Exo view]" not in prompt:
            raise ValueError("no pictures or no instruction came to the language model")
        caption = take_in_use(cls.hidden.prompt).notes.prompt.replace(
            "[Ego view]", "\n\n## Ego view\n"
        )
        return io.NodeOutput(f"<think>\n{len(image)} pictures.\n</think>\n\n{caption}{CUT}")


def nothing_loaded(host_node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    class Nothing(known(host_node)):
        @classmethod
        def execute(cls, **settings) -> io.NodeOutput:
            return io.NodeOutput(None)

    return Nothing


def nothing(kind: str, inputs: list, outputs: list, result: tuple = ()) -> type[io.ComfyNode]:
    """Copy a node of the host's, by its sockets, that reads no file and computes nothing."""

    class Nothing(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema(
                node_id=f"{PREFIX}{kind}", category=CATEGORY, inputs=inputs, outputs=outputs
            )

        @classmethod
        def execute(cls, **settings) -> io.NodeOutput:
            return io.NodeOutput(*result or [None] * len(outputs))

    return Nothing


def menu(name: str, folder: str) -> io.Combo.Input:
    return io.Combo.Input(name, options=folder_paths.get_filename_list(folder))


KNOWN_DETECTORS: tuple[type[io.ComfyNode], ...] = (
    KnownTrack,
    KnownBoxes,
    KnownKeypoints,
    KnownMoGe,
    KnownDA3,
    KnownText,
    nothing(
        "CheckpointLoaderSimple",
        [menu("ckpt_name", "checkpoints")],
        [io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
    ),
    nothing(
        "CLIPLoader",
        [
            menu("clip_name", "text_encoders"),
            io.Combo.Input("type", options=["stable_diffusion", "wan", "qwen_image"]),
            io.Combo.Input("device", options=["default", "cpu"], optional=True),
        ],
        [io.Clip.Output()],
    ),
    nothing(
        "CLIPTextEncode",
        [io.String.Input("text", multiline=True), io.Clip.Input("clip")],
        [io.Conditioning.Output()],
        ([],),
    ),
    nothing_loaded(LoadMoGeModel),
    nothing_loaded(LoadDA3Model),
)
