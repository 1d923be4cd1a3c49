"""Pictures of the thumbnails: the demo run on the server, the other cards' exo video, depth and prior."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from egox_core.file_names import HEAD_KEYPOINTS
from egox_core.previews.head_path import draw_head_path
from egox_core.previews.maps import depth_preview
from egox_core.prior.options import prior_preset
from egox_core.prior.render import iter_ego_prior
from egox_core.safe_files import read_json
from egox_core.scene.build import build_scene
from egox_core.takes.take import Take, load_take
from egox_core.trajectory import estimate_head, openpose_points
from tests.browser.thumbnails import Tile, thumbnail, words
from tools.setup.api_client import ApiClient
from tools.setup.base_dir import BaseDir
from tools.setup.demo import save_prior
from tools.setup.side_by_side import read_frames

Prompt = dict[str, Any]


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


def sample(name: str, count: int) -> Take:
    """A take that ships, at its own size."""
    return load_take(Path(__file__).resolve().parent.parent.parent / "sample" / name, frame_count=count)


def inputs_of(take: Take) -> list[Tile]:
    """Exo video, depth and prior of the first frame."""
    path = take.trajectory
    prior = next(iter_ego_prior(build_scene(take.read_exo(), take.depth), path, prior_preset("released")))
    maps = (depth_preview(take.depth.depth_m[:1])[0], prior.rgb)
    depth, drawn = ((picture * 255).byte().numpy() for picture in maps)
    return [("exo video", take.read_exo()[0].numpy()), ("depth", depth), ("ego prior", drawn)]


def make_thumbnails(client: ApiClient, base: BaseDir, demo: Prompt) -> dict[str, np.ndarray]:
    """Workflow -> its thumbnail.

    Only the demo's own card shows an ego video: what the real weights draw is not known here, while
    exo video, depth and prior are what any weights start from.
    """
    videos = run(client, base, save_prior(copy.deepcopy(demo)))
    calm, take = sample("calm_room", 9), sample("synthetic_room", 1)
    exo, depth, below = inputs_of(take)
    middle, heights = len(videos["ego"]) // 2, [1.0, 1.15]

    def steps(text: str) -> Tile:
        return "", words(text)

    return {
        "egox_demo": thumbnail([[("exo video", calm.read_exo()[middle].numpy())],
                                [("ego prior", videos["prior"][middle]), ("ego video", videos["ego"][middle])]],
                               "Demo: EgoX without a download", heights),
        "egox_one_video": thumbnail([[("head, found", with_head(calm)[middle])], inputs_of(calm)[1:]],
                                    "one video, nothing by hand", heights),
        "egox_basic": thumbnail([[exo], [depth, below]], "exo video in, ego video out", heights),
        "egox_fast": thumbnail([[exo], [below, steps("4-8\nsteps")]], "step-distilled LoRA", heights),
        "egox_compare": thumbnail([[exo], [below, steps("3 x 2\nruns")]], "lambda_g x LoRA strength", heights),
    }
