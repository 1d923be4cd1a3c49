"""Held-out synthetic takes as the proof and the ablation use them: pictures, prior, coverage, geometry, objects.

A sampler gets these clips as they are and returns videos; see :mod:`lab.small_model.contract`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.metrics.objects import MIN_OBJECT, SEEN_SHARE
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from egox_core.types import CameraTrajectory, DepthVideo, ObjectMasks
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.drawn.ground_truth import TakeObjects, take_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutClip:
    """One take that no training saw. Pictures in stored (upright) orientation."""

    name: str
    exo: Tensor  # [T, h, w, 3] uint8
    prior: Tensor  # [T, S, S, 3] uint8, holes black
    coverage: Tensor  # [T, S, S] bool
    truth: Tensor  # [T, S, S, 3] uint8
    depth: DepthVideo  # of exo, as the pipeline takes it
    trajectory: CameraTrajectory
    prompt: str
    objects: ObjectMasks  # true masks of all objects, and what exo sees of each
    preset: str = "clean"  # of the prior

    @property
    def judged(self) -> ObjectMasks:
        """The objects' masks, emptied in frames in which exo doesn't see them."""
        return replace(self.objects, truth=self.objects.truth & (self.objects.seen >= SEEN_SHARE)[..., None, None])


def clip_of_take(take: SyntheticTake, preset: str = "clean") -> HeldOutClip:
    """The clip of a take as it was rendered: no video compression between."""
    objects = take_objects(take, least_share=MIN_OBJECT)
    blank = HeldOutClip(
        name=f"seed {take.spec.seed}", exo=take.exo_rgb, prior=take.ego_rgb, coverage=take.ego_index >= 0,
        truth=take.ego_rgb, depth=take.depth_video(), trajectory=take.trajectory(), prompt=take.prompt,
        objects=masks_of(objects), preset=preset)
    return with_prior(blank)


def masks_of(objects: TakeObjects) -> ObjectMasks:
    """As the evaluator takes them."""
    return ObjectMasks(ids=objects.ids, truth=objects.masks.numpy(), generated=None,
                       seen=objects.seen_share.numpy())


def with_prior(clip: HeldOutClip) -> HeldOutClip:
    """The clip with the prior that its depth and path give, by the pack's own scene and renderer."""
    scene = build_scene(clip.exo.float() / 255, clip.depth)
    prior = render_ego_prior(scene, clip.trajectory, prior_preset(clip.preset))
    return replace(clip, prior=(prior.rgb * 255).round().clamp(0, 255).to(torch.uint8), coverage=prior.coverage)


def clips_of_seeds(spec: SyntheticSpec, seeds: Sequence[int], preset: str = "clean") -> list[HeldOutClip]:
    """A clip a seed, all else as in ``spec``."""
    return [clip_of_take(make_take(replace(spec, seed=seed)), preset) for seed in seeds]


def clips_of_folder(folder: Path, preset: str = "clean") -> list[HeldOutClip]:
    """A clip for every take folder with a ground truth below ``folder``, by name; the prior is rendered here.

    Objects come from objects.npz, which ``write_take`` leaves beside the videos; without it there are none to judge.

    Raises:
        EgoXInputError: no such take, a take that can't be read, videos of other lengths.
    """
    from egox_core.data.object_masks import read_masks
    from egox_core.file_names import OBJECTS, TRUTH
    from egox_core.takes.take import load_take
    from egox_core.video.reader import probe_video, read_frames
    from egox_core.video.selection import select_frames

    clips = []
    for place in sorted(p.parent for p in folder.glob(f"*/{TRUTH}")):
        take = load_take(place, frame_count=None)
        info, size = probe_video(place / TRUTH), take.trajectory.camera.stored_size
        truth = read_frames(place / TRUTH, info, select_frames(info, frame_count=len(take.depth.depth_m),
                                                                    width=size[0], height=size[1]))
        masks = ObjectMasks(ids=(), truth=np.zeros((0, *truth.shape[:3]), bool), generated=None,
                            seen=np.zeros((0, len(truth)), np.float32))
        if (place / OBJECTS).is_file():
            masks = read_masks(place / OBJECTS, None)
        clips.append(with_prior(HeldOutClip(
            name=place.name, exo=take.read_exo(), prior=truth, coverage=torch.ones(truth.shape[:3], dtype=torch.bool),
            truth=truth, depth=take.depth, trajectory=take.trajectory, prompt=take.prompt, objects=masks,
            preset=preset)))
    if not clips:
        raise EgoXInputError("held-out takes", got=f"no take with {TRUTH} in {folder.name!r}",
                             expected="one folder a take", fix="write them with lab.drawn.write_take")
    return clips


def with_path_of(clips: Sequence[HeldOutClip]) -> list[HeldOutClip]:
    """Each clip with the next take's ego path, in its own room."""
    return [replace(clip, trajectory=replace(clip.trajectory, w2c=other.trajectory.w2c))
            for clip, other in zip(clips, _next(clips), strict=True)]


def with_exo_of(clips: Sequence[HeldOutClip]) -> list[HeldOutClip]:
    """Each clip with the next one's exo pictures; depth, path and prior stay its own."""
    return [replace(clip, exo=other.exo) for clip, other in zip(clips, _next(clips), strict=True)]


def with_prior_of(clips: Sequence[HeldOutClip]) -> list[HeldOutClip]:
    """Each clip with the next one's prior; exo, depth and path stay its own."""
    return [replace(clip, prior=other.prior, coverage=other.coverage)
            for clip, other in zip(clips, _next(clips), strict=True)]


def _next(clips: Sequence[HeldOutClip]) -> Sequence[HeldOutClip]:
    if len(clips) < 2:
        raise EgoXInputError("held-out takes", got="one", expected="at least two", fix="a clip needs another's to swap")
    return [*clips[1:], clips[0]]
