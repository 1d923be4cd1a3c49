"""Depth maps that arrive as pictures: an IMAGE of any depth pack, as disparity."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .cameras.model import CameraModel
from .depth_source import DepthSource, clean_depth, guessed_camera
from .errors import EgoXInputError
from .types import DepthVideo

Bright = Literal["near", "far"]


def image_depth(
    image: Tensor,  # [T, H, W, C] 0...1, grey (all channels alike) or one channel
    bright: Bright = "near",  # what bright pixels mean
    camera: CameraModel | None = None,
) -> DepthSource:
    """A depth picture as disparity of unknown scale and shift (the alignment's α and β take up both).

    Bright = far is turned around to 1 - value: taken as inverted disparity, as such packs make it.

    Raises:
        EgoXInputError: not [T, H, W, C], a picture in colour (a colour map can't be undone), a flat picture.
    """
    if bright not in ("near", "far"):
        raise EgoXInputError("depth picture", got=f"bright = {bright!r}", expected="near or far",
                             fix="choose what bright pixels mean")
    if image.dim() != 4 or image.shape[-1] not in (1, 3, 4):
        raise EgoXInputError("depth picture", got=f"shape {tuple(image.shape)}", expected="[frames, height, width, 3]",
                             fix="connect an IMAGE")
    picture = image[..., :3].detach().float().cpu()
    sample = picture[:, ::4, ::4]
    colour = float((sample.amax(-1) - sample.amin(-1)).mean())
    if colour > 0.02:
        raise EgoXInputError("depth picture", got=f"a picture in colour (channels differ by {colour:.2f} on average)",
                             expected="a grey depth map", fix="switch the depth pack's colour map off")
    values = picture.mean(dim=-1)
    if float(values.amax() - values.amin()) < 1e-3:
        raise EgoXInputError("depth picture", got="a flat picture", expected="a depth map with near and far",
                             fix="check the depth pack's normalisation")
    values, notes = clean_depth(1 - values if bright == "far" else values, "depth picture", zero_is_valid=True)
    height, width = values.shape[1:]
    return DepthSource(depth=DepthVideo(depth_m=values, camera=camera or guessed_camera(width, height),
                                        kind="disparity"),
                       name="depth picture", camera_known=camera is not None, notes=notes)
