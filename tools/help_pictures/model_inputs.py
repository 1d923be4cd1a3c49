"""Pictures of what the model is given: prior, canvas, geometry, schedule."""

from __future__ import annotations

import numpy as np
import torch

from egox_core.gga.geometry import gga_geometry
from egox_core.gga.options import GgaOptions
from egox_core.gga.record import exo_part
from egox_core.gga.rows import BiasRows
from egox_core.previews.attention import Heat, heat_picture
from egox_core.previews.maps import coverage_preview
from egox_core.wan.canvas import build_mask
from egox_core.wan.schedule import released_schedule

from .room import FRAMES, NOW, Room
from .scenes import prior_at
from .sheet import as_bytes, curves, marked, resized, sheet

LAMBDAS = (0.0, 1.0, 3.0, 6.0)
PIXEL = (338, 300)  # (x, y) of the 448 px ego picture: the dark mug
GUIDED = 8  # the frame of it; geometry knows frames 0, 4, 8, ...


def render_ego_prior(room: Room) -> np.ndarray:
    """The presets beside what the wearer really saw."""
    clean, released = room.prior("clean"), room.prior("released")
    covered = coverage_preview(clean.rgb, clean.coverage)[0]
    return sheet([("preset released", released.rgb[0]), ("preset clean", clean.rgb[0])],
                 [("coverage (clean)", covered), ("the true view", room.truth[NOW])])


def conditioning(room: Room) -> np.ndarray:
    """The canvas: what is known in it, what the mask says of it, and where sampling starts."""
    exo, prior = as_bytes(room.exo[NOW]), as_bytes(room.prior("clean").rgb[0])
    height, side = exo.shape[0], prior.shape[1]
    noise = torch.randn(height // 8, side // 8, 3, generator=torch.Generator().manual_seed(3)) * 0.25 + 0.5
    line = np.full((height, 6, 3), 255, np.uint8)
    masks = build_mask("released", 2, 2, 7, 4)[0, 0]  # in units of a quarter of the ego half
    first, later = (_mask_picture(m.numpy()) for m in masks)
    noise = resized(as_bytes(noise.clamp(0, 1)), side, height)
    return sheet([("the canvas: exo video | ego prior", np.concatenate((exo, line, prior), 1))],
                 [("mask, first frame", first), ("later frames", later)],
                 [("sampled: exo stays clean | ego from noise", np.concatenate((exo, line, noise), 1))])


def _mask_picture(mask: np.ndarray) -> np.ndarray:
    """White: known; grey: not. A line parts exo and ego half, as on the canvas."""
    picture = np.repeat(np.repeat(0.25 + 0.75 * mask, 56, 0), 56, 1)
    edge = 7 * 56
    picture[:, edge:edge + 4] = 0.0
    return picture


def model_patch(room: Room) -> np.ndarray:
    """By what an ego pixel's attention to each exo token is multiplied, at several strengths."""
    geometry = gga_geometry(room.take.depth, room.trajectory, "exact", frames=FRAMES)
    _, h, _, w_ego = geometry.grid
    query = (GUIDED // 4 * h + PIXEL[1] // 16) * w_ego + PIXEL[0] // 16
    heats = []
    for strength in LAMBDAS:
        options = GgaOptions(mode="released", lambda_g=strength)
        factor = torch.ones(geometry.tokens)
        if options.biases:
            rows = BiasRows(geometry, options, torch.float32, reuse=False, fused=False)
            factor = rows(slice(query, query + 1))[0].exp()
        values = exo_part(factor, geometry.grid)[GUIDED // 4]
        heat = Heat(name="factor", title="", values=values.numpy(), low=0.0, high=1 + max(LAMBDAS), unit="x")
        heats.append((f"lambda_g {strength:g}: up to {float(values.max()):.1f}x", heat_picture(room.exo[GUIDED], heat)))
    return sheet([("the ego pixel", marked(room.truth[GUIDED], PIXEL)),
                  ("in the prior", marked(prior_at(room, GUIDED), PIXEL))], heats[:2], heats[2:])


def released_sampling(room: Room) -> np.ndarray:
    """The schedule: how much noise is left before each step."""
    values = {f"shift {shift:g}": released_schedule(50, shift)[0].tolist() for shift in (1.0, 3.0, 5.0)}
    return sheet([("", curves(values, "sigma (share of noise) over 50 steps", (0, 0.5, 1), height=300))])
