"""Convert ComfyUI's DA3_GEOMETRY payload (Depth Anything 3) to a depth source.

What the payload holds (ComfyUI 0.30, nodes_depth_anything_3.py and ldm/depth_anything_3): ``depth``
[B, H, W] is z depth, resized to the picture; ``sky`` (Mono, Metric) is a probability;
``confidence`` (Small, Base) is at least 1. In multiview mode ``intrinsics`` [1, S, 3, 3] are in
pixels of the smaller picture that the model saw, while depth is at the full size, and identities
where none were estimated. Its poses (``extrinsics``) aren't taken: :mod:`..scene.exo_motion`
estimates those of an exo camera that moves. No key names the variant, nor the scale:

- Small and Base (``confidence``): unknown scale; in multiview mode one for all frames, in mono
  mode one per frame;
- Mono-Large (``sky``): unknown scale, one per frame;
- Metric-Large (``sky``, too) looks like Mono and counts as it.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..cameras import CameraPath
from ..errors import EgoXInputError
from ..facts import StatedLens
from ..frame_store import store_frames
from ..remarks import Remark
from ..types import DepthVideo
from .sources import DepthSource, clean_depth, guessed_camera, median_camera

SKY_PROBABILITY = 0.3
"""From here on a pixel is sky; the model's own non-sky test. Doubtful pixels must not pull the
fit."""


def da3_depth(
    payload: Mapping[str, object],  # DA3_GEOMETRY
) -> DepthSource:
    """Convert a Depth Anything 3 payload to z depth of unknown scale.

    Raises:
        EgoXInputError: no depth, a frame without valid pixels.
    """
    depth = payload.get("depth")
    if not isinstance(depth, Tensor):
        raise EgoXInputError(
            "Depth Anything 3 geometry",
            got=f"keys {sorted(payload)}",
            expected="'depth' [B, H, W]",
            fix="give the output of Depth Anything 3",
        )
    confidence = payload.get("confidence")
    sky_probability = payload.get("sky")
    sky = None
    cleaned, notes = clean_depth(depth, "Depth Anything 3")
    height, width = cleaned.shape[1:]
    is_multiview = payload.get("mode") == "multiview"
    stated_lens = _stated_lens(payload, width, height)
    if isinstance(sky_probability, Tensor):
        frames = (frame.detach().cpu() >= SKY_PROBABILITY for frame in sky_probability)
        sky = store_frames(frames, len(sky_probability))
        note = (
            "Depth Anything 3: the geometry has a sky map, so the model is Mono or Metric; it is "
            "taken for Mono, of unknown scale"
        )
        notes += (Remark(note),)
    if not is_multiview and len(cleaned) > 1:
        note = (
            "Depth Anything 3 ran in mono mode, so every frame has a scale of its own: use "
            "multiview mode"
        )
        notes += (Remark(note),)
    depth_video = DepthVideo(
        depth_m=cleaned,
        exo=CameraPath.of_exo(stated_lens.lens, lens_guessed=stated_lens.guessed),
        kind="relative z",
        sky=sky,
        trust=confidence_trust(confidence) if isinstance(confidence, Tensor) else None,
    )
    return DepthSource(
        depth=depth_video,
        name="Depth Anything 3",
        notes=(*notes, *map(Remark, filter(None, [stated_lens.note]))),
        estimates_lens=True,
    )


def confidence_trust(confidence: Tensor) -> Tensor:  # [T, H, W] >= 1 -> [T, H, W] float32 0...1
    """Convert the model's confidence to trust: 1 from the clip's median on, proportional below."""

    def excess(values: Tensor) -> Tensor:
        return (values.detach().float().cpu() - 1).clamp_min(0)

    median = float(excess(confidence[:, ::4, ::4]).median())
    trust = (
        (excess(frame) / median).clamp_max(1) if median > 0 else torch.ones(frame.shape)
        for frame in confidence
    )
    return store_frames(trust, len(confidence))


def _stated_lens(payload: Mapping[str, object], width: int, height: int) -> StatedLens:
    """State the lens that Depth Anything 3 estimated, scaled to the depth's size, or a guess."""
    guess = StatedLens.guess(guessed_camera(width, height))
    k = payload.get("intrinsics")
    if payload.get("mode") != "multiview" or not isinstance(k, Tensor):
        return guess
    k = k.detach().cpu().double().reshape(-1, 3, 3)
    if bool((k[:, 0, 2].abs() < 1e-6).all()):
        return replace(guess, note="Depth Anything 3 gave no intrinsics")
    # The size of the model's picture is not in the payload. Its centre is: (cx, cy) is half that
    # size (exactly so for cam_dec), counted from the outline. So the scale is the depth's half size
    # over the centre, an axis each.
    scale_x, scale_y = width / (2 * k[:, 0, 2]), height / (2 * k[:, 1, 2])
    scaled_k = torch.zeros_like(k)
    scaled_k[:, 0, 0] = k[:, 0, 0] * scale_x
    scaled_k[:, 1, 1] = k[:, 1, 1] * scale_y
    scaled_k[:, 2, 2] = 1.0
    scaled_k[:, 0, 2], scaled_k[:, 1, 2] = (width - 1) / 2, (height - 1) / 2
    lens, notes = median_camera(scaled_k, width, height, "Depth Anything 3")
    note = "; ".join(map(str, notes))
    return StatedLens(lens=lens, by="Depth Anything 3", source="model", note=note)
