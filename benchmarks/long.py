"""Joins and drift of long videos, and places that the wearer looks away from: the small model.

    python3 run.py bench long [--rooms 0 1] [--frames 97] [--known 5] [--save]

For whoever changes *EgoX Sample Long Video*. The rooms are the small model's test rooms, drawn for
longer; its clip of 9 frames is a chunk. Ways to sample all frames with the same models: chunks
that go on from N known ego frames; the same chunks, each as a first one; ComfyUI's Wan context
windows of a clip's length, with the same overlap; one forward over the whole latent. Then the
wearer turns by 55 degrees and back in 33 frames, with look-away memory and without: pixels without
a prior in both visits of a pose and equal in the truth. The record is ``results/long.md``.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.metrics.image import psnr
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from egox_core.trajectory.poses import camera_centre
from egox_core.wan.chunks import plan_chunks, take_frames
from lab.drawn import SyntheticTake, make_take
from lab.drawn.rig import UP
from lab.drawn.shading import crease_neighbours
from lab.drawn.views import Renderer
from lab.small_model.held_out import HeldOutClip, clip_of_take, held_out_rooms
from lab.small_model.outlines import outline_share
from lab.small_model.scores import as_float
from lab.small_model.settings import SHIPPED, DemoTraining
from tools.rigs.model_rig import load_transformer, load_vae
from tools.rigs.pack_in_process import pack_on_host
from tools.setup.layout import REPO_ROOT

LENGTH, DEMO = SHIPPED.frames, REPO_ROOT / "models" / "demo"
AWAY_FRAMES, AWAY_DEG, VISIT = 33, 55.0, 6


class LongSampler:
    """The small model in the host, as the node uses it."""

    def __init__(self, pack: Any) -> None:
        from comfy_extras.nodes_lotus import LotusConditioning

        base = load_transformer(DEMO / "diffusion_models" / "egox_demo_wan22_i2v.safetensors")
        lora = DEMO / "loras" / "egox_demo_lora.safetensors"
        text = LotusConditioning.execute()[0]
        training = DemoTraining()
        self.node = pack.nodes.sample_long.EgoXSampleLong
        inputs = {entry.id: entry for entry in self.node.define_schema().inputs}
        self.inputs = {
            **{name: getattr(entry, "default", None) for name, entry in inputs.items()},
            **{"vae": load_vae(DEMO / "vae" / "egox_demo_vae.safetensors"), "seed": 1234},
            **{"model": pack.nodes.lora.load_lora(base, lora, 1.0)[0], "length": LENGTH},
            **{"positive": text, "negative": text, "cfg": 1.0, "rays": "auto"},
            **{"steps": training.sample_steps, "shift": training.shift},
        }

    def __call__(self, clip: HeldOutClip, known: int, **changes: Any) -> Tensor:  # [T, S, S, 3]
        """The ego video of a clip by *EgoX Sample Long Video*."""
        pictures = {"exo_images": as_float(clip.exo), "prior": as_float(clip.prior)}
        geometry = {"depth": clip.depth, "trajectory": clip.trajectory}
        changes = {"continue_motion_max_frames": known, **changes}
        with torch.inference_mode():
            return self.node.execute(**{**self.inputs, **pictures, **geometry, **changes})[0]


def ways(sampler: LongSampler, clip: HeldOutClip, known: int) -> dict[str, tuple[Tensor, float]]:
    """Name -> (video, seconds) of each way to sample all frames."""
    from comfy_extras.nodes_context_windows import WanContextWindowsManualNode as Windows

    values = (LENGTH, known, "standard_uniform", 1, False, "pyramid", True)
    windows = Windows.execute(sampler.inputs["model"], *values)[0]
    calls = {
        f"chunks, {known} known": lambda: sampler(clip, known),
        "the same as first chunks": lambda: firsts(sampler, clip, known),
        "host's windows": lambda: sampler(clip, 1, model=windows, length=len(clip.exo)),
        "one forward": lambda: sampler(clip, 1, length=len(clip.exo)),
    }
    made = {}
    for name, call in calls.items():
        started = time.perf_counter()
        made[name] = (call(), time.perf_counter() - started)
    return made


def firsts(sampler: LongSampler, clip: HeldOutClip, known: int) -> Tensor:
    """Each chunk sampled as a first one; their own frames joined."""
    parts = []
    for chunk in plan_chunks(len(clip.exo), LENGTH, known):
        own = {name: getattr(clip, name)[chunk.frames] for name in ("exo", "prior")}
        own |= {name: take_frames(getattr(clip, name), chunk) for name in ("depth", "trajectory")}
        parts.append(sampler(replace(clip, **own), known, seed=1234 + chunk.number)[chunk.known :])
    return torch.cat(parts)


def scores(video: Tensor, first: Tensor, clip: HeldOutClip, known: int) -> dict[str, float]:
    """Figures of one way in one room; joins are where a chunk's own frames begin."""
    truth = as_float(clip.truth)
    joins = [chunk.start + chunk.known for chunk in plan_chunks(len(truth), LENGTH, known)[1:]]
    near = np.isin(np.arange(len(truth)), [j + k for j in joins for k in (-1, 0)])
    quarter, values = len(truth) // 4, psnr(video, truth).numpy()
    return {
        "psnr": values.mean(),
        "jump at joins": jump(video, joins) / jump(truth, joins),
        "psnr at joins": values[near].mean() - values[~near].mean(),
        "drift": values[-quarter:].mean() - values[:quarter].mean(),
        "against first chunks": (values - psnr(first, truth).numpy())[LENGTH:].mean(),
    }


def jump(video: Tensor, joins: list[int]) -> float:
    """The frame difference at the joins over that elsewhere."""
    steps = (video[1:] - video[:-1]).abs().mean((1, 2, 3)).numpy()
    there = np.isin(np.arange(1, len(video)), joins)
    return float(steps[there].mean() / steps[~there].mean())


def away_and_back(take: SyntheticTake) -> tuple[HeldOutClip, Tensor]:
    """The take with a head that turns away and back; frames t and T-1-t share a pose.

    Returns:
        The clip, and the coverage [T, S, S] of its prior.
    """
    clip, x, y, z, poses = clip_of_take(take), *UP, []
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]]).double()
    for t in range(AWAY_FRAMES):
        at = min(max((t - VISIT) / (AWAY_FRAMES - 1 - 2 * VISIT), 0), 1)
        own = take.ego_w2c[min(t, AWAY_FRAMES - 1 - t)]
        angle = np.radians(AWAY_DEG) * np.sin(np.pi * at) ** 2
        turn = own[:, :3] @ torch.linalg.matrix_exp(-angle * cross)
        poses.append(torch.cat((turn, -(turn @ camera_centre(own))[:, None]), 1))
    w2c = torch.stack(poses)
    scene = replace(take.scene, ego_w2c=w2c)
    eyes = (crease_neighbours(scene), take.spec.edge_samples)
    renderer = Renderer(scene, scene.ego_camera, w2c, *eyes)
    rgb = renderer.full(list(range(AWAY_FRAMES)), scene.indices(head=False)).rgb
    truth = (rgb.reshape(clip.truth.shape) * 255).round().clamp(0, 255).to(torch.uint8)
    path = replace(clip.trajectory, w2c=w2c)
    scene = build_scene(as_float(clip.exo), clip.depth)
    prior = render_ego_prior(scene, path, prior_preset(clip.preset))
    return replace(clip, trajectory=path, prior=prior.rgb, truth=truth), prior.coverage


def visits(video: Tensor, clip: HeldOutClip, coverage: Tensor) -> dict[str, float]:
    """The second visit against the first, and against the truth, where no prior is."""
    first, then = range(VISIT), [AWAY_FRAMES - 1 - t for t in range(VISIT)]
    truth = as_float(clip.truth)
    still = (truth[first] - truth[then]).abs().amax(-1) < 0.04
    unseen = still & ~coverage[first] & ~coverage[then]
    same = (video[first] - video[then]).square().mean(-1)[unseen].mean()
    true = (video[then] - truth[then]).square().mean(-1)
    return {
        "second visit against the first": float(-10 * same.log10()),
        "second visit against the truth": float(-10 * true[unseen].mean().log10()),
        "whole picture": float(-10 * true.mean().log10()),
        "outlines": outline_share(video[then], truth[then]),
    }


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--rooms", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--frames", type=int, default=97, help="of each take, 4n+1; 0: looks only")
    parser.add_argument("--known", type=int, default=5, help="ego frames that a chunk goes on from")
    args = parser.parse_args(arguments)
    rows: dict[str, list[dict[str, float]]] = {}
    with pack_on_host("bench long") as (host, pack):
        sampler, specs = LongSampler(pack), held_out_rooms(1 + max(args.rooms))
        for room in args.rooms:
            if args.frames:
                clip = clip_of_take(make_take(replace(specs[room], frames=args.frames)))
                made = ways(sampler, clip, args.known)
                for name, (video, seconds) in made.items():
                    found = scores(video, made["the same as first chunks"][0], clip, args.known)
                    rows.setdefault(name, []).append({**found, "seconds": seconds})
            take = make_take(replace(specs[room], frames=AWAY_FRAMES))
            clip, coverage = away_and_back(take)
            for name, on in (("no memory", False), ("look-away memory", True)):
                video = sampler(clip, args.known, look_away_memory=on)
                rows.setdefault(name, []).append(visits(video, clip, coverage))
            print(json.dumps({name: row[-1] for name, row in rows.items()}), flush=True)
    means = {name: mean(found) for name, found in rows.items()}
    result = {"rooms": args.rooms, "frames": args.frames, "known": args.known, "rows": means}
    return finish("long", {"comfyui": host.version, **result}, args, json.dumps(means, indent=1))


if __name__ == "__main__":
    raise SystemExit(main())
