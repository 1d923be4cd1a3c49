"""The rows of the ablation as data: what each is sampled with, and what disturbs its clips.

A disturbance is what goes wrong before the model sees a clip (depth, poses); prior and geometry are made from what is
left. Everything is drawn from the clip's own name, so that the same clip is disturbed alike in every row and every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from egox_core.depth.trust import with_trust
from egox_core.trajectory.poses import compose
from lab.drawn import DepthErrors, with_errors
from lab.small_model.contract import FULL, SampleSettings
from lab.small_model.held_out import HeldOutClip, with_prior

DEPTH_ERRORS: Mapping[str, DepthErrors] = {
    "depth error 3 %, bleeding, flicker": DepthErrors(low_frequency=0.03, bleed_px=1.0, flicker=0.01),
    "depth error 6 %, bleeding, flicker": DepthErrors(low_frequency=0.06, bleed_px=2.0, flicker=0.02),
}
"""The lower and the upper end of what networks are off by; at 128 px less than a pixel of bleeding would be none."""
PATCH_SHARE, PATCHES = 0.5, 8
"""Missing depth: half the picture, in patches of an eighth of its height."""
POSE_DEG, POSE_M = 5.0, 0.1
Disturb = Callable[[HeldOutClip], HeldOutClip]
WITHOUT = {"no_gga": "without GGA", "no_prior": "without ego prior", "no_clean_latent": "without clean latent"}
GROUPS = ("parts", "attention", "strength", "robustness")
MODES = (("paper", 3.0), ("power", 2.0))
WRONG_LAMBDA = 10.0


def wrong_depth(errors: DepthErrors) -> Disturb:
    """Depth as a network would give it."""

    def disturb(clip: HeldOutClip) -> HeldOutClip:
        return with_prior(replace(clip, depth=with_errors(clip.depth, errors, _seed(clip, "depth errors"))))

    return disturb


def missing_patches(clip: HeldOutClip) -> HeldOutClip:
    """Half of the depth picture unknown, in the same square patches all through the clip."""
    height, width = clip.depth.depth_m.shape[1:]
    draw = torch.rand(PATCHES, round(PATCHES * width / height), generator=_generator(clip, "patches"))
    gone = torch.nn.functional.interpolate((draw < PATCH_SHARE).float()[None, None], size=(height, width))[0, 0] > 0.5
    depth_m = torch.where(gone, torch.nan, clip.depth.depth_m)
    return with_prior(replace(clip, depth=replace(clip.depth, depth_m=depth_m)))


def no_depth(clip: HeldOutClip) -> HeldOutClip:
    """No depth at all: an empty prior, and attention without geometry."""
    depth = replace(clip.depth, depth_m=torch.full_like(clip.depth.depth_m, torch.nan))
    return replace(clip, depth=depth, prior=torch.zeros_like(clip.prior), coverage=torch.zeros_like(clip.coverage))


def pose_error(degrees: float = 0.0, metres: float = 0.0) -> Disturb:
    """The ego path turned about one axis of the ego camera and shifted along one of its directions, both drawn anew for
    each clip and the same in all its frames: an error of calibration."""

    def disturb(clip: HeldOutClip) -> HeldOutClip:
        draw = _generator(clip, "pose")
        axis, way = (v / v.norm() for v in torch.randn(2, 3, generator=draw, dtype=torch.float64))
        wrong_from_ego = torch.cat((turn(axis, degrees), (metres * way)[:, None]), dim=1)
        w2c = torch.stack([compose(wrong_from_ego, pose) for pose in clip.trajectory.w2c])
        return with_prior(replace(clip, trajectory=replace(clip.trajectory, w2c=w2c)))

    return disturb


def turn(axis: Tensor, degrees: float) -> Tensor:
    """Rotation [3, 3] float64 about a unit axis [3]."""
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(cross * float(np.radians(degrees)))


def with_depth_trust(clip: HeldOutClip) -> HeldOutClip:
    """The clip with the trust map of its depth as it is; the prior stays."""
    return replace(clip, depth=with_trust(clip.depth))

DISTURBANCES: Mapping[str, Disturb] = {
    "": lambda clip: clip,
    **{name: wrong_depth(errors) for name, errors in DEPTH_ERRORS.items()},
    "half the depth missing": missing_patches, "no depth": no_depth,
    "pose 5 degrees off": pose_error(degrees=POSE_DEG), "pose 10 cm off": pose_error(metres=POSE_M),
}


def _generator(clip: HeldOutClip, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(clip, purpose))


def _seed(clip: HeldOutClip, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{clip.name}:{purpose}".encode()).digest()[:7], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; its differences are to ``against`` on the same takes."""

    name: str
    group: str
    settings: SampleSettings
    disturbance: str = ""  # of DISTURBANCES
    against: str = FULL


def rows_of(loras: Sequence[str], settings: SampleSettings, groups: Sequence[str] = GROUPS) -> list[Row]:
    """All rows that these LoRAs allow, the full model first."""
    rows = [Row(name=FULL, group="parts", settings=settings)]
    makers = {"parts": lambda: _parts(loras, settings), "attention": lambda: _attention(settings),
              "strength": lambda: _strength(settings), "robustness": lambda: _robustness(settings)}
    for group in groups:
        rows += makers[group]()
    return rows


def _parts(loras: Sequence[str], settings: SampleSettings) -> list[Row]:
    """The LoRAs that were trained without a part; one with "@2" is of a second seed, compared with the full one's."""
    rows = []
    for lora in loras:
        part, _, seed = lora.partition("@")
        if lora == FULL:
            continue
        name = WITHOUT.get(part, "full" if part == FULL else part) + (f", seed {seed}" if seed else "")
        against = f"full, seed {seed}" if seed and f"{FULL}@{seed}" in loras and part != FULL else FULL
        rows.append(Row(name=name, group="parts", settings=replace(settings, lora=lora), against=against))
    return sorted(rows, key=lambda row: row.against != FULL)  # what is compared with another row comes after it


def _attention(settings: SampleSettings) -> list[Row]:
    """What the LoRA was trained with (mode ``released``, λ_g 3, exact rays) is the full row itself; λ_g 0 is ``off``,
    and λ_g 1 the same in every mode."""
    return [
        *(Row(name=f"λ_g {value:g}", group="attention", settings=replace(settings, lambda_g=value))
          for value in (0.0, 0.5, 1.0, 2.0, 5.0)),
        *(Row(name=f"mode {mode}, λ_g {value:g}", group="attention",
              settings=replace(settings, gga_mode=mode, lambda_g=value)) for mode, value in MODES),
        *(Row(name=f"rays {rays}", group="attention", settings=replace(settings, rays=rays))
          for rays in ("released", "pinhole")),
    ]


def _strength(settings: SampleSettings) -> list[Row]:
    return [Row(name=f"LoRA strength {value:g}", group="strength", settings=replace(settings, strength=value))
            for value in (0.0, 0.25, 0.5, 0.75, 1.25, 1.5)]


def _robustness(settings: SampleSettings) -> list[Row]:
    trusting = replace(settings, soft_trust=True)
    rows = [Row(name="trust mask", group="robustness", settings=trusting)]
    for name in DISTURBANCES:
        if not name:
            continue
        rows.append(Row(name=name, group="robustness", settings=settings, disturbance=name))
        if not name.startswith("pose"):  # trust follows from depth; a wrong pose leaves it as it is
            rows.append(Row(name=f"{name}, trust mask", group="robustness", settings=trusting, disturbance=name,
                            against=name))
    wrong = replace(settings, lambda_g=WRONG_LAMBDA)
    return [*rows, Row(name=f"λ_g {WRONG_LAMBDA:g}", group="robustness", settings=wrong),
            Row(name=f"λ_g {WRONG_LAMBDA:g}, trust mask", group="robustness", settings=replace(wrong, soft_trust=True),
                against=f"λ_g {WRONG_LAMBDA:g}")]
