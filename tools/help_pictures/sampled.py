"""Pictures of what the small model samples. Made anew when its weights change: ``--sampled``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras.model import rescale
from egox_core.gga.record import attention_rows, ego_query
from egox_core.metrics.frame_metrics import frame_metrics
from egox_core.metrics.sweep import sweep_points
from egox_core.previews.attention import Heat, heat_picture, heats
from egox_core.previews.grid import labelled_grid
from egox_core.previews.maps import coverage_preview
from egox_core.video.reproject import pinhole_camera, reproject

from .sheet import as_bytes, marked, resized, sheet
from .small_model import STEPS, SmallModel

NOW = 4  # of 9 frames; latent frames stand for 0, 4 and 8
PIXEL = (40, 46)  # (x, y) of the 128 px ego picture: the sofa
LARGE = 400  # px, what views are made of the small picture at
SMALL = 96  # px, a cell whose name can still be read when two of them fill the sheet


def load_lora(model: SmallModel) -> np.ndarray:
    """The same seed at several strengths."""
    shown = [(f"strength {strength:g}", model.ego(strength=strength)[NOW]) for strength in (0.0, 0.5, 1.0)]
    return sheet(shown[:2], [shown[2], _truth(model)])


def wan_sampler(model: SmallModel) -> np.ndarray:
    """Exo and prior in, the ego video out, after few and after many steps."""
    return sheet([("in: exo video", model.clip.exo[NOW]), ("in: ego prior", model.clip.prior[NOW])],
                 [(f"out, {steps} steps", model.ego(steps=steps)[NOW]) for steps in (2, 5, 20)],
                 [(f"{STEPS} steps, frame {frame}", model.ego()[frame]) for frame in (0, 4, 8)])


def decode_ego_half(model: SmallModel) -> np.ndarray:
    """The two views that the node offers, of one sampled frame."""
    camera = rescale(model.clip.trajectory.camera, LARGE, LARGE)
    ego = torch.from_numpy(resized(as_bytes(model.ego()[NOW]), LARGE, LARGE)).float()[None] / 255
    narrow = reproject(ego, camera, pinhole_camera(camera, 90.0))
    return sheet([("fisheye", ego[0]), ("pinhole, 90 degrees", narrow[0])])


def evaluate(model: SmallModel) -> np.ndarray:
    """What is compared, where the prior covers, and the scores."""
    generated, truth = (video.float() / 255 for video in (model.ego(), model.clip.truth))
    values = frame_metrics(generated, truth, model.clip.coverage)
    covered = coverage_preview(truth, model.clip.coverage)[NOW]
    error = (generated - truth)[NOW].abs().mean(-1)
    heat = Heat(name="error", title="", values=error.numpy(), low=0.0, high=0.4, unit="")
    return sheet([("generated", generated[NOW]), ("truth", truth[NOW])],
                 [("truth under the coverage", covered), ("where they differ", heat_picture(truth[NOW], heat))],
                 [(f"PSNR {values['psnr']:.1f} dB, SSIM {values['ssim']:.2f} over the clip", _strip(generated, truth))])


def sweep(model: SmallModel) -> np.ndarray:
    """A run for every pair."""
    points = sweep_points((0.0, 1.0, 3.0), (0.5, 1.0))
    tiles = [(f"{p.lambda_g:g} / {p.strength:g}", model.ego(lambda_g=p.lambda_g, strength=p.strength)[NOW])
             for p in points]
    return sheet(tiles[:3], tiles[3:])


def labelled_grid_(model: SmallModel) -> np.ndarray:
    """The node's own output: four videos with their names."""
    clip = model.clip
    videos = {"exo video": clip.exo, "ego prior": clip.prior, "ego video": model.ego(), "the true view": clip.truth}
    grid = labelled_grid([video[NOW:NOW + 1].float() / 255 for video in videos.values()], list(videos), columns=2,
                         cell_height=SMALL)
    return sheet([("", grid[0])])


def attention_view(model: SmallModel) -> np.ndarray:
    """One ego pixel: the geometry's weight, and the model's attention with it and without."""
    record = model.records({(STEPS - 1, 4)})[STEPS - 1, 4]
    query = ego_query(record, *PIXEL, NOW)
    maps = {heat.name: heat for heat in heats(record, attention_rows(record, [query]), 0, NOW // 4)}
    exo = _enlarged(model.clip.exo[NOW:NOW + 1])[0]
    over = {name: heat_picture(exo, heat) for name, heat in maps.items()}
    return sheet([("the ego pixel", marked(model.ego()[NOW], PIXEL)), ("exo frame", exo)],
                 [("g: the geometry's weight", over["weight"])],
                 [("attention with GGA", over["guided"]), ("without", over["plain"])])


def attention_capture(model: SmallModel) -> np.ndarray:
    """The same ego pixel in several blocks and steps: what the two inputs choose."""
    blocks, steps = (0, 4, 7), (0, STEPS - 1)
    records = model.records({(step, block) for step in steps for block in blocks})
    exo = _enlarged(model.clip.exo[NOW:NOW + 1])[0]
    rows = []
    for step in steps:
        row = []
        for block in blocks:
            record = records[step, block]
            maps = heats(record, attention_rows(record, [ego_query(record, *PIXEL, NOW)]), 0, NOW // 4)
            heat = next(heat for heat in maps if heat.name == "guided")
            row.append((f"step {step}, block {block}", heat_picture(exo, replace(heat, high=_warmest(heat)))))
        rows.append(row)
    return sheet([("the ego pixel", marked(model.ego()[NOW], PIXEL)), ("exo frame", exo)], *rows)


def _warmest(heat: Heat) -> float:
    """Blocks differ a hundredfold in how sharply they look: each map has its own scale."""
    return max(float(np.quantile(heat.values, 0.99)), 1e-6)


def _truth(model: SmallModel) -> tuple[str, Tensor]:
    return "the true view", model.clip.truth[NOW]


def _enlarged(video: Tensor) -> Tensor:  # [T, h, w, 3] uint8 -> float 0...1, LARGE px high
    width = round(video.shape[2] * LARGE / video.shape[1])
    return torch.stack([torch.from_numpy(resized(as_bytes(frame), width, LARGE)) for frame in video]).float() / 255


def _strip(generated: Tensor, truth: Tensor, frames: tuple[int, ...] = (0, 2, 4, 6, 8)) -> np.ndarray:
    """Some frames, the generated ones above the true ones."""
    rows = [np.concatenate([as_bytes(video[t]) for t in frames], axis=1) for video in (generated, truth)]
    return np.concatenate(rows, axis=0)
