"""What the thumbnails show: the shipped graphs run on the server, with the demo's weights where theirs are real."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from egox_core.file_names import HEAD_KEYPOINTS
from egox_core.previews.head_path import draw_head_path
from egox_core.previews.maps import depth_preview
from egox_core.safe_files import read_json
from egox_core.takes.take import Take, load_take
from egox_core.trajectory import estimate_head, openpose_points
from tests.browser.thumbnails import Tile, thumbnail, whole, words
from tools.setup.api_client import ApiClient
from tools.setup.base_dir import BaseDir
from tools.setup.demo import save_prior
from tools.setup.side_by_side import read_frames

Prompt = dict[str, Any]
DEMO_KINDS = ("UNETLoader", "VAELoader", "EgoXLoadLora", "EgoXLoadExoVideo")
SIZES = ("width", "height")


def with_demo_weights(prompt: Prompt, demo: Prompt) -> Prompt:
    """A graph of real weights, with the loaders, text conditioning and sizes of the demo."""
    prompt = copy.deepcopy(prompt)
    values = {kind: next(n["inputs"] for n in demo.values() if n["class_type"] == kind)
              for kind in (*DEMO_KINDS, "EgoXWanSampler", "EgoXDepthAlign", "EgoXRenderEgoPrior")}
    text = next(n for n in demo.values() if n["class_type"] == "LotusConditioning")
    gone = {node_id for node_id, node in prompt.items() if node["class_type"] in ("CLIPLoader", "CLIPVisionLoader")}
    texts: set[str] = set()
    for node_id, node in list(prompt.items()):
        kind, inputs = node["class_type"], node["inputs"]
        if node_id in gone:
            del prompt[node_id]
        elif kind in ("CLIPTextEncode", "EgoXText"):
            texts.add(node_id)
            node.update(class_type=text["class_type"], inputs=dict(text["inputs"]))
        elif kind in values:
            own = {name: value for name, value in inputs.items() if isinstance(value, list)}
            kept = {name: inputs[name] for name in ("strength", "lambda_g") if name in inputs}
            inputs.update({k: v for k, v in values[kind].items() if not isinstance(v, list)} | kept | own)
        node["inputs"] = {name: value for name, value in node["inputs"].items()
                          if not (isinstance(value, list) and value[0] in gone)}
    for node in prompt.values():  # EgoX Text has two outputs, what stands in for it one
        node["inputs"] = {name: [value[0], 0] if isinstance(value, list) and value[0] in texts else value
                          for name, value in node["inputs"].items()}
    return prompt


def run(client: ApiClient, base: BaseDir, prompt: Prompt) -> dict[str, np.ndarray]:
    """Name of each saved video -> its frames."""
    outcome = client.run(prompt, timeout=3600)
    if outcome.status != "success":
        raise RuntimeError(outcome.error_text)
    found = {}
    for node_id, output in outcome.outputs.items():
        prefix = prompt[node_id]["inputs"].get("filename_prefix")
        for entry in output.get("images", []) if prefix else []:
            found[Path(prefix).name] = read_frames(base.output / entry["subfolder"] / entry["filename"])
    return found


def with_head(take: Take) -> np.ndarray:  # [T, H, W, 3] uint8
    """The exo frames with the head that the keypoints beside them give."""
    frames = read_json(take.folder / HEAD_KEYPOINTS, "keypoints", 2**24)
    points = openpose_points([frames[index] for index in take.frames.source_indices.tolist()])
    depth = take.depth
    head = estimate_head(points, depth.camera, exo_w2c=depth.exo_w2c, depth_m=depth.depth_m, mask=depth.dynamic,
                         times_s=take.frames.times_s)
    drawn = draw_head_path(take.read_exo().float() / 255, depth.camera, head.world_from_head, head.confidence,
                           depth.exo_w2c)
    return (255 * drawn).byte().numpy()


def make_thumbnails(client: ApiClient, base: BaseDir, prompts: dict[str, Prompt]) -> dict[str, np.ndarray]:
    """Workflow -> its thumbnail."""
    demo = prompts["egox_demo"]
    videos = run(client, base, save_prior(copy.deepcopy(demo)))
    load = next(n["inputs"] for n in demo.values() if n["class_type"] == "EgoXLoadExoVideo")
    folder = Path(__file__).resolve().parent.parent.parent / Path(load["file"]).parent
    take = load_take(folder, start_frame=load["start_frame"], frame_count=load["frame_count"])
    exo = take.read_exo().numpy()
    depth = (depth_preview(take.depth.depth_m[:1]) * 255).byte().numpy()[0]
    middle = len(exo) // 2
    seen: dict[str, Tile] = {
        "exo": ("exo video", exo[middle]), "depth": ("depth", depth), "prior": ("ego prior", videos["prior"][middle]),
        "ego": ("ego video", videos["ego"][middle]), "later": ("ego video", videos["ego"][-1])}
    grid = run(client, base, with_demo_weights(prompts["egox_compare"], demo))["grid"]
    wide_over_two = [1.0, 1.15]
    return {
        "egox_demo": thumbnail([[seen["exo"]], [seen["prior"], seen["ego"]]], "Demo: EgoX without a download",
                               wide_over_two),
        "egox_one_video": thumbnail([[("head, found", with_head(take)[middle])], [seen["prior"], seen["ego"]]],
                                    "one video, nothing by hand", wide_over_two),
        "egox_basic": thumbnail([[seen["exo"]], [seen["prior"], seen["later"]]], "exo video in, ego video out",
                                wide_over_two),
        "egox_fast": thumbnail([[seen["exo"]], [seen["ego"], ("", words("4-8\nsteps"))]], "step-distilled LoRA",
                               wide_over_two),
        "egox_compare": thumbnail([[("", whole(grid[len(grid) // 2]))]], "lambda_g x LoRA strength"),
    }
