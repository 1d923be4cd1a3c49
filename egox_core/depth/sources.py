"""Make depth sources, the inputs of the alignment, from arrays and pictures."""

import math

import torch
from torch import Tensor

from ..arrays import Array, as_tensor
from ..cameras import CameraModel, CameraPath
from ..errors import EgoXInputError
from ..facts import NOTHING_DECLARED, Declared, StatedLens, ceiling_of, settle_depth
from ..frame_store import store_frames
from ..frozen import frozen
from ..remarks import Remark
from ..types import DepthKind, DepthVideo
from .valid import check_valid_shares, mark_invalid

GUESSED_FOV_DEG = 60.0
"""Horizontal field of view where nothing says better: MoGe's own fallback, and a usual phone or
camcorder."""
MAX_FOV_DEG = (5.0, 150.0)
"""Bounds of a pinhole: a long tele lens, and the angle beyond which a picture is mostly its
stretched rim."""


@frozen
class DepthSource:
    """Depth video as an input of the alignment, with its name and notes."""

    depth: DepthVideo
    name: str  # "MoGe", "Depth Anything 3", a file's name: used in notes and error messages
    notes: tuple[Remark, ...] = ()  # what was assumed or changed
    estimates_lens: bool = False  # a depth model's lens, which one that is known replaces
    along_rays: bool = False  # its maps are distances from the camera until its lens is settled

    @property
    def stated_lens(self) -> StatedLens:
        """Lens of the maps, with the source that it is from."""
        exo = self.depth.exo
        if exo.lens_guessed:
            return StatedLens.guess(exo.camera)
        own_row = next((row for row in self.depth.facts if row.fact == "exo.lens"), None)
        return StatedLens(
            lens=exo.camera,
            by=self.name if own_row is None else own_row.by,
            source="model" if self.estimates_lens else "depth",
            others=() if own_row is None else own_row.others,
        )


def camera_of_view(width: int, height: int, fov_deg: float) -> CameraModel:
    """Make a centred pinhole camera with a horizontal field of view of ``fov_deg``.

    Raises:
        EgoXInputError: no angle that a pinhole can see.
    """
    if not MAX_FOV_DEG[0] <= fov_deg <= MAX_FOV_DEG[1]:
        raise EgoXInputError(
            "exo field of view",
            got=f"{fov_deg:g} degrees",
            expected=f"{MAX_FOV_DEG[0]:g} to {MAX_FOV_DEG[1]:g} degrees across, or 0: unknown",
            fix="a phone has some 65 degrees, an action camera some 90",
        )
    focal = 0.5 * width / math.tan(math.radians(fov_deg / 2))
    return CameraModel.pinhole(width, height, focal)


def guessed_camera(width: int, height: int) -> CameraModel:
    """Make the camera that is assumed if the field of view isn't known."""
    return camera_of_view(width, height, GUESSED_FOV_DEG)


def _guessed_exo(width: int, height: int) -> CameraPath:
    """Make the exo camera at the origin whose lens nobody knows."""
    return CameraPath.of_exo(guessed_camera(width, height), lens_guessed=True)


def clean_depth(
    values: Tensor,  # [T, H, W] depth or disparity, any float or integer type
    # Names the source in notes and errors.
    name: str,
    *,
    # True for disparity, in which 0 is infinitely far.
    zero_is_valid: bool = False,
    hidden: Tensor | None = None,  # [T, H, W] bool on the CPU, invalid as well
) -> tuple[Tensor, tuple[Remark, ...]]:  # [T, H, W] float32 on the CPU, notes
    """Set invalid depth (NaN, infinite, not positive) to NaN, and note the share of such pixels.

    Raises:
        EgoXInputError: not [T, H, W], a frame with under 5 % valid pixels.
    """
    values = as_tensor(values, f"depth of {name}", "frames", "height", "width")

    def cleaned_frame(t: int) -> Tensor:
        frame = mark_invalid(values[t].detach().cpu(), zero_is_valid=zero_is_valid)
        return frame if hidden is None else frame.masked_fill_(hidden[t], math.nan)

    depth = store_frames(map(cleaned_frame, range(len(values))), len(values))
    shares = torch.stack([torch.isfinite(frame).float().mean() for frame in depth])
    invalid_share = check_valid_shares(shares, f"of {name}")
    note = f"{name}: {100 * invalid_share:.2f} % of the pixels are invalid"
    return depth, (Remark(note),) if invalid_share > 0 else ()


def array_depth(
    values: Array,  # [T, H, W] of ``kind``, invalid pixels NaN
    # Names the source in notes and errors.
    name: str,
    kind: DepthKind = "metric z",
    declared: Declared = NOTHING_DECLARED,
) -> DepthSource:
    """Make a depth source from an array of depth maps.

    What ``declared`` says of depth is of metric maps.

    Raises:
        EgoXInputError: no floats, another shape.
    """
    maps = as_tensor(values, name, "frames", "height", "width")
    if not maps.is_floating_point():
        raise EgoXInputError(
            name,
            got=str(maps.dtype),
            expected="floats, in metres",
            fix="convert the numbers; millimetres divided by 1000",
        )
    facts = None
    if kind == "metric z":
        found = (ceiling_of(frame.detach().cpu().float().numpy()) for frame in maps)
        ceiling = max((number for number in found if number is not None), default=None)
        facts = settle_depth((), declared, name, ceiling)
    if facts is not None and not facts.is_plain:
        maps = torch.from_numpy(facts.to_metres(maps.detach().cpu().float().numpy()))
    cleaned, notes = clean_depth(maps, name, zero_is_valid=kind == "disparity")
    height, width = cleaned.shape[1:]
    return DepthSource(
        depth=DepthVideo(
            depth_m=cleaned,
            exo=_guessed_exo(width, height),
            kind=kind,
            facts=() if facts is None else facts.rows,
        ),
        name=name,
        notes=notes,
        along_rays=facts is not None and facts.kind == "ray",
    )


def median_camera(
    # [T, 3, 3] K of each frame in px of a width x height picture, integer = pixel centre
    intrinsics: Tensor,
    width: int,
    height: int,
    # Names the source in errors.
    name: str,
) -> tuple[CameraModel, tuple[Remark, ...]]:
    """Make one camera from the median of the frames' intrinsics.

    Returns:
        The camera, and a note where the frames disagree by more than 5 %.

    Raises:
        EgoXInputError: no frame with finite, positive focal lengths.
    """
    k = intrinsics.detach().double().cpu()
    is_usable = torch.isfinite(k).flatten(1).all(1) & (k[:, 0, 0] > 0) & (k[:, 1, 1] > 0)
    if not bool(is_usable.any()):
        raise EgoXInputError(
            f"intrinsics of {name}",
            got="no frame with positive, finite focal lengths",
            expected="3x3 matrices",
            fix="give the exo camera's intrinsics in a camera file",
        )
    k = k[is_usable]
    fx, fy, cx, cy = (
        float(k[:, row, column].median()) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    spread = float((k[:, 0, 0] / fx - 1).abs().median())
    camera = CameraModel(lens="pinhole", width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy)
    if spread <= 0.05:
        return camera, ()
    note = (
        f"{name}: the frames' focal lengths differ by {100 * spread:.0f} %; their median, {fx:.0f} "
        "px, is used for all (give the field of view if you know it)"
    )
    return camera, (Remark(note),)


def image_depth(
    image: Tensor,  # [T, H, W, C] 0...1, grey (all channels alike) or one channel
) -> DepthSource:
    """Make a depth source from pictures that are bright where near, as disparity of unknown scale
    and shift.

    Raises:
        EgoXInputError: not [T, H, W, C], a picture in colour (a colour map can't be undone), a flat
            picture.
    """
    if image.dim() != 4 or image.shape[-1] not in (1, 3, 4) or len(image) == 0:
        raise EgoXInputError(
            "depth picture",
            got=f"shape {tuple(image.shape)}",
            expected="[frames, height, width, 3]",
            fix="give one image per frame",
        )
    picture = image[..., :3].detach()
    sample = picture[:, ::4, ::4].float()
    colour_difference = float((sample.amax(-1) - sample.amin(-1)).mean())
    if colour_difference > 0.02:
        raise EgoXInputError(
            "depth picture",
            got=f"a colour image (channels differ by {colour_difference:.2f} on average)",
            expected="a grey depth map",
            fix="switch the depth pack's colour map off",
        )
    values = store_frames((frame.float().mean(dim=-1).cpu() for frame in picture), len(picture))
    if float(values.amax() - values.amin()) < 1e-3:
        raise EgoXInputError(
            "depth picture",
            got="a flat picture",
            expected="a depth map with near and far",
            fix="check the depth pack's normalisation",
        )
    values, notes = clean_depth(values, "depth picture", zero_is_valid=True)
    height, width = values.shape[1:]
    return DepthSource(
        depth=DepthVideo(depth_m=values, exo=_guessed_exo(width, height), kind="disparity"),
        name="depth picture",
        notes=notes,
    )
