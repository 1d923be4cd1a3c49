"""Compute the viewing direction of each ego latent in the ego camera's frame, in one of three
modes.

``released``: the rays of the authors' inference, oddities included (quirks 7 to 9): K of
``meta.json`` divided to latent size, integer latent coordinates, the 12 Aria numbers read in
OpenCV's order through a rational pinhole model, exactly five fixed-point iterations (not converged
at the rim), the image then turned 90 degrees clockwise. They are about 15 degrees off the true
lens, and the released LoRA is used through them. ``exact``: the camera that drew the prior, through
:mod:`..cameras.model`, at the middle of each latent's 8x8 px. ``pinhole``: the same camera's focal
length and centre without its lens. The released trainer's rays, which are not its inference's
(quirks 36), are :func:`trainer_rays`."""

from dataclasses import replace

import torch
from torch import Tensor

from ..cameras import CAMERA_PRESETS, CameraModel, CameraPath
from ..errors import EgoXInputError
from ..sizes import REFERENCE_SIZE
from ..types import RayMode

RELEASED_CAMERA = CAMERA_PRESETS["aria_meta"].camera
RELEASED_K = RELEASED_CAMERA.intrinsics
"""K in the file of every released take, [3, 3] float64."""
RELEASED_UNDISTORT_ITERATIONS = 5
RELEASED_QUARTER_TURNS = 1
SAME_K_PX = 0.5
"""Largest difference of a K from that of the released takes: files round it."""
OFF_CENTRE = 0.05
"""Largest offset of an ego camera's own principal point from the middle, as a share of the width (2
cx + 1 is then about the width) for a K that is not the released takes' to be taken as that
camera's."""


def ego_rays(
    mode: RayMode,
    # The ego camera.
    camera: CameraModel,
    h: int,  # latents
    # In latents; in mode ``released`` it equals h.
    w: int,
    meta_intrinsics: Tensor | None = None,  # [3, 3], of the take's file; read in mode released
) -> Tensor:  # [h, w, 3] float64, unit length, frame of the unturned ego camera
    """Compute viewing directions of the ego latents in the stored (upright) layout.

    Zero where the lens sees nothing.

    Raises:
        EgoXInputError: ego not square (``released``).
    """
    if mode == "released":
        return _released_rays(camera, meta_intrinsics, h, w)
    if mode == "pinhole":
        camera = replace(camera, lens="pinhole", distortion=(), max_angle_deg=89.0)
    return _camera_rays(camera, h, w)


def world_rays(
    rays_cam: Tensor,  # [h, w, 3] frame of the ego camera
    # The ego camera in the frames of the t latents.
    ego: CameraPath,
) -> Tensor:  # [t, h, w, 3]
    """Rotate camera rays into world axes, for each frame's pose."""
    return torch.einsum("hwi,tij->thwj", rays_cam, ego.w2c[:, :3, :3].to(rays_cam))


def undistort_as_released(
    points: Tensor,  # [..., 2] pixels
    intrinsics: Tensor,  # [3, 3]
    distortion: tuple[float, ...] = RELEASED_CAMERA.distortion,
) -> Tensor:  # [..., 2] on the plane z = 1
    """Undistort pixels by exactly five iterations of OpenCV's rational model (k1 k2 p1 p2 k3..k6
    s1..s4).

    OpenCV's own call ends earlier or later with its version's criteria; these reproduce the
    golden to 6e-8."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = distortion
    x0 = (points[..., 0] - intrinsics[0, 2]) / intrinsics[0, 0]
    y0 = (points[..., 1] - intrinsics[1, 2]) / intrinsics[1, 1]
    x, y = x0, y0
    for _ in range(RELEASED_UNDISTORT_ITERATIONS):
        r2 = x * x + y * y
        inverse_radial = (1 + ((k6 * r2 + k5) * r2 + k4) * r2) / (
            1 + ((k3 * r2 + k2) * r2 + k1) * r2
        )
        dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + s1 * r2 + s2 * r2 * r2
        dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + s3 * r2 + s4 * r2 * r2
        # Where the rational factor turns negative OpenCV falls back to the distorted point and
        # stays there.
        lost_mask = inverse_radial < 0
        x = torch.where(lost_mask, x0, (x0 - dx) * inverse_radial)
        y = torch.where(lost_mask, y0, (y0 - dy) * inverse_radial)
    return torch.stack((x, y), dim=-1)


def _released_rays(camera: CameraModel, meta_intrinsics: Tensor | None, h: int, w: int) -> Tensor:
    if h != w:
        raise EgoXInputError(
            "ego size for released rays",
            got=f"{w}x{h} latents",
            expected="a square ego image",
            fix="use a square ego image, or the ray geometry 'exact'",
        )
    # float32 constants in the released code; its distortion numbers are stored at full precision
    # and rounded here.
    k = released_intrinsics(meta_intrinsics) * (w / released_k_picture_px(camera, meta_intrinsics))
    distortion = tuple(
        torch.tensor(RELEASED_CAMERA.distortion, dtype=torch.float32).double().tolist()
    )
    xy = undistort_as_released(_latent_pixels(h, w), k, distortion)
    rays = torch.cat((xy, torch.ones_like(xy[..., :1])), dim=-1)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    return torch.rot90(rays, -RELEASED_QUARTER_TURNS, dims=(0, 1))


def trainer_rays(
    # The ego camera in the frames of the t latents.
    ego: CameraPath,
    meta_intrinsics: Tensor | None,  # [3, 3] of the take's file
    h: int,  # latents
    w: int,  # latents
) -> Tensor:  # [t, h, w, 3] float64, unit length
    """Compute ego rays in world axes as the released trainer does, for LoRAs trained with them
    (quirks 36).

    Plain pinhole rays of K at latent size, integer latent pixels, turned by R instead of its
    inverse; then (x, y) of the result turned to (-y, x). No lens, no turn of the picture.

    Raises:
        EgoXInputError: no K.
    """
    if meta_intrinsics is None:
        raise EgoXInputError(
            "ego intrinsics for the trainer's rays",
            got="a take without ego_intrinsics",
            expected="K of meta.json",
            fix="use the ray geometry exact",
        )
    picture_px = released_k_picture_px(ego.camera, meta_intrinsics)
    k = released_intrinsics(meta_intrinsics) * (w / picture_px)
    col, row = _latent_pixels(h, w).unbind(-1)
    rays = torch.stack(
        ((col - k[0, 2]) / k[0, 0], (row - k[1, 2]) / k[1, 1], torch.ones_like(row)), dim=-1
    )
    rays = rays / rays.norm(dim=-1, keepdim=True)
    x, y, z = torch.einsum("tij,hwj->thwi", ego.w2c[:, :, :3], rays).unbind(-1)
    return torch.stack((-y, x, z), dim=-1)


def _latent_pixels(h: int, w: int) -> Tensor:  # [h, w, 2] float64 (column, row), integer
    row, col = torch.meshgrid(
        torch.arange(h, dtype=torch.float64), torch.arange(w, dtype=torch.float64), indexing="ij"
    )
    return torch.stack((col, row), dim=-1)


def released_intrinsics(meta_intrinsics: Tensor | None) -> Tensor:  # [3, 3] float64
    """Return the K of ``meta.json``, or the K that all released takes share if a take has none."""
    return RELEASED_K if meta_intrinsics is None else meta_intrinsics.to("cpu", torch.float64)


def has_released_k(meta_intrinsics: Tensor | None) -> bool:
    """Check whether K is the one that all released takes share, made for a 512 px picture."""
    return bool((released_intrinsics(meta_intrinsics) - RELEASED_K).abs().max() <= SAME_K_PX)


def released_k_picture_px(camera: CameraModel, meta_intrinsics: Tensor | None) -> int:
    """Find the picture width in px at which the released code applies K.

    The released code applies its takes' K, of a 512 px picture, at 448 px; that is kept at every
    ego size and scaled with it, at 512 px too. Another K that fits the ego camera is taken at
    that camera's width, and one that fits neither at 448 px."""
    width = camera.width
    off_centre_px = abs(2 * float(released_intrinsics(meta_intrinsics)[0, 2]) + 1 - width)
    is_released_size = off_centre_px <= OFF_CENTRE * width and not has_released_k(meta_intrinsics)
    return width if is_released_size else REFERENCE_SIZE


def released_k_note(camera: CameraModel, meta_intrinsics: Tensor | None) -> str:
    """Describe the K of the released rays in a note, or return "" if it is as released."""
    width = camera.width
    picture_px = released_k_picture_px(camera, meta_intrinsics)
    if has_released_k(meta_intrinsics):
        return (
            ""
            if width == picture_px
            else (
                f"K of the released takes, applied at {picture_px} px as released and scaled to "
                f"{width}"
            )
        )
    return f"K of this take, not the released ones', taken as that of a {picture_px} px image"


def _camera_rays(camera: CameraModel, h: int, w: int) -> Tensor:
    width, height = camera.stored_size
    v, u = (
        (torch.arange(count, dtype=torch.float64) + 0.5) * (pixels / count) - 0.5
        for count, pixels in ((h, height), (w, width))
    )
    grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
    rays, valid = camera.unproject(torch.stack((grid_u, grid_v), dim=-1))
    return torch.where(valid[..., None], rays, torch.zeros_like(rays))
