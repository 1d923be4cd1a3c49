"""Convert ComfyUI's MOGE_GEOMETRY payload to a depth source.

What the payload holds (ComfyUI 0.30, nodes_moge.py and ldm/moge): ``depth`` [B, H, W] is z depth
(the z of the point map, not the ray's length); ``intrinsics`` [B, 3, 3] are normalised, u in 0...1
over the picture's outline; sky and other undefined pixels are infinite unless ``apply_mask`` was
off, and False in ``mask``. Depth is in metres for MoGe v2, whose metric scale is applied already,
and of unknown scale for v1; the payload has no flag for it, but only v2 gives ``normal``. A
panorama's payload has no intrinsics and holds ray lengths on a sphere."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..cameras import CameraPath
from ..errors import EgoXInputError
from ..frame_store import store_frames
from ..remarks import Remark
from ..types import DepthVideo
from .sources import DepthSource, clean_depth, median_camera


def moge_depth(
    payload: Mapping[str, object],  # MOGE_GEOMETRY
) -> DepthSource:
    """Convert a MoGe payload to z depth with one camera for the clip.

    It is metric where the payload has normals, which only MoGe v2 predicts, or says
    ``is_metric``, as that of our own node does.

    Raises:
        EgoXInputError: a panorama, no depth, a frame without valid pixels.
    """
    depth = payload.get("depth")
    if not isinstance(depth, Tensor):
        raise EgoXInputError(
            "MoGe geometry",
            got=f"keys {sorted(payload)}",
            expected="'depth' [B, H, W]",
            fix="give the output of MoGe",
        )
    intrinsics = payload.get("intrinsics")
    if not isinstance(intrinsics, Tensor):
        raise EgoXInputError(
            "MoGe geometry",
            got="a panorama (ray lengths on a sphere, no intrinsics)",
            expected="the geometry of a perspective video",
            fix="give the output of MoGe for the video itself, not for a panorama",
        )
    mask = payload.get("mask")
    sky = None
    if isinstance(mask, Tensor):
        # Where the mask is False MoGe has no geometry: mostly sky. Raw depth there (apply_mask off)
        # means nothing.
        sky = store_frames((~frame.detach().cpu().bool() for frame in mask), len(mask))
    cleaned, notes = clean_depth(depth, "MoGe", hidden=sky)
    height, width = cleaned.shape[1:]
    k = intrinsics.detach().cpu().double() * torch.tensor([width, height, 1.0]).reshape(3, 1)
    # normalised coordinates count from the outline, pixels from the first pixel's centre
    k[:, :2, 2] -= 0.5
    camera, camera_notes = median_camera(k, width, height, "MoGe")
    is_metric = "normal" in payload or payload.get("is_metric") is True
    if not is_metric:
        note = (
            "MoGe: no normals in the geometry, so it is taken for MoGe v1, whose scale is unknown; "
            "take a MoGe v2 with normals (moge_2_vitl_normal)"
        )
        notes += (Remark(note),)
    depth_video = DepthVideo(
        depth_m=cleaned,
        exo=CameraPath.of_exo(camera),
        kind="metric z" if is_metric else "relative z",
        sky=sky,
    )
    return DepthSource(
        depth=depth_video, name="MoGe", notes=notes + camera_notes, estimates_lens=True
    )
