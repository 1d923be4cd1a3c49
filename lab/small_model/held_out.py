"""Held-out drawn takes as the benches use them: pictures, prior, coverage, geometry, objects."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.stages import prior, scene
from egox_core.types import CameraTrajectory, DepthVideo
from lab.drawn import SyntheticTake, make_take
from lab.drawn.ground_truth import take_objects

from .clips import clip_spec
from .colours import MIN_OBJECT, SEEN_SHARE
from .settings import FIRST_SEED, ClipSettings


@frozen
class HeldOutClip:
    """One take that no training saw. Pictures in stored (upright) orientation."""

    name: str
    exo: Tensor  # [T, h, w, 3] uint8
    prior: Tensor  # [T, S, S, 3] uint8, holes black
    coverage: Tensor  # [T, S, S] bool
    seen: Tensor  # [T, S, S] uint8, classes of the prior's pixels
    truth: Tensor  # [T, S, S, 3] uint8
    depth: DepthVideo  # of exo, as the pipeline takes it
    trajectory: CameraTrajectory
    objects: np.ndarray  # [N, T, S, S] bool: true masks, empty where exo doesn't see it


def clip_of_take(take: SyntheticTake) -> HeldOutClip:
    """The clip of a take as it was rendered, without video compression; the prior is the pack's
    own."""
    objects = take_objects(take, least_share=MIN_OBJECT)
    depth, trajectory = take.depth_video(), take.trajectory()
    points, _ = scene(take.exo_frames(), depth)
    drawn, _ = prior(points, trajectory, ClipSettings().preset, classes=True)
    assert drawn.seen is not None  # as it was asked for
    return HeldOutClip(
        name=f"seed {take.spec.seed}",
        exo=take.exo_rgb,
        prior=(drawn.rgb * 255).round().clamp(0, 255).to(torch.uint8),
        coverage=drawn.coverage,
        seen=drawn.seen,
        truth=take.ego_rgb,
        depth=depth,
        trajectory=trajectory,
        objects=(objects.masks & (objects.seen_share >= SEEN_SHARE)[..., None, None]).numpy(),
    )


def held_out_clips(count: int) -> list[HeldOutClip]:
    """The clips of the first test scenes of the small model; no training saw their seeds."""
    return [
        clip_of_take(make_take(clip_spec(FIRST_SEED["test"] + number, ClipSettings())))
        for number in range(count)
    ]


def with_exo_of(clips: Sequence[HeldOutClip]) -> list[HeldOutClip]:
    """Each clip with the next one's exo pictures; depth, path and prior stay its own."""
    return [replace(clip, exo=other.exo) for clip, other in zip(clips, _next(clips), strict=True)]


def with_prior_of(clips: Sequence[HeldOutClip]) -> list[HeldOutClip]:
    """Each clip with the next one's prior; exo, depth and path stay its own."""
    return [
        replace(clip, prior=other.prior, coverage=other.coverage, seen=other.seen)
        for clip, other in zip(clips, _next(clips), strict=True)
    ]


def _next(clips: Sequence[HeldOutClip]) -> Sequence[HeldOutClip]:
    if len(clips) < 2:
        raise EgoXInputError(
            "held-out takes",
            got="one",
            expected="at least two",
            fix="a clip needs another's to swap",
        )
    return [*clips[1:], clips[0]]
