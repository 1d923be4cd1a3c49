"""Model a camera by lens, intrinsics, size and quarter turns of its sensor.

Pixel convention: integer coordinates are pixel centres (no +0.5), u is the column, v the row. A
picture of width W therefore spans -0.5 ... W-0.5. ``K`` and size belong to the unturned sensor;
pixels that go in and out of :meth:`CameraModel.project` and :meth:`CameraModel.unproject` are those
of the stored picture, which is the sensor's turned clockwise by ``quarter_turns`` steps of 90
degrees (Aria: one step; the stored picture is the upright one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..arrays import as_matrix
from ..errors import NO_NUMBERS, EgoXInputError, check_choice
from ..frozen import frozen
from ..sizes import MAX_SIDE
from .lenses import LENSES, PINHOLE

FOV_RANGE_DEG = (20.0, 150.0)
SAME_PX = 0.5
"""Difference of two lenses of one picture, in any number, up to which they are the same."""


@frozen
class CameraModel:
    """Intrinsics of one camera, with distances in px of the unturned sensor and angles in degrees.

    Raises:
        EgoXInputError: unknown lens, wrong count of distortion numbers, non-finite or non-positive
            focal length.
    """

    lens: str  # a key of :data:`LENSES`
    width: int  # sensor columns
    height: int  # sensor rows
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()  # in the lens' own order; none: all zero
    max_angle_deg: float = 89.0  # incidence angle up to which the model is valid
    quarter_turns: int = 0  # stored = sensor turned clockwise this many times by 90 degrees

    def __post_init__(self) -> None:
        check_choice("camera lens", self.lens, LENSES, "use one of the named lenses")
        expected_count = LENSES[self.lens].distortion_count
        if len(self.distortion) not in (0, expected_count):
            raise EgoXInputError(
                f"distortion of a {self.lens} camera",
                got=f"{len(self.distortion)} numbers",
                expected=f"{expected_count} numbers, or none",
                fix="check the calibration's lens model",
            )
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not all(math.isfinite(number) for number in numbers) or self.fx <= 0 or self.fy <= 0:
            raise EgoXInputError(
                "camera intrinsics",
                got=f"fx {self.fx}, fy {self.fy}, cx {self.cx}, cy {self.cy}",
                expected="finite numbers and positive focal lengths",
                fix="correct the intrinsics",
            )
        if not 0 < self.max_angle_deg <= 180:
            raise EgoXInputError(
                "camera max_angle_deg",
                got=self.max_angle_deg,
                expected="over 0 and at most 180",
                fix="correct the camera",
            )
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise EgoXInputError(
                "camera size",
                got=f"{self.width}x{self.height}",
                expected=f"at least 1x1 px, at most {MAX_SIDE} a side",
                fix="give the size of the image that the intrinsics belong to",
            )

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the stored picture."""
        return (self.height, self.width) if self.quarter_turns % 2 else (self.width, self.height)

    def check_size(self, what: str, width: int, height: int) -> None:
        """Refuse an image or map, named ``what``, whose size differs from the camera's.

        Raises:
            EgoXInputError: another size.
        """
        if self.stored_size != (width, height):
            own_width, own_height = self.stored_size
            raise EgoXInputError(
                what,
                got=f"intrinsics of {own_width}x{own_height} px",
                expected=f"{width}x{height} px, as the image or depth",
                fix="rescale or crop the intrinsics together with the image",
            )

    @property
    def words(self) -> str:
        """Description of the lens in words."""
        return (
            f"{self.lens.replace('_', ' ')}, focal length {self.fx:.0f} px at {self.width} px width"
        )

    @classmethod
    def from_intrinsics(
        cls,
        intrinsics,
        width: int,
        height: int,
        *,
        name: str = "camera intrinsics",
    ) -> CameraModel:
        """Make a pinhole camera from K and the size of its image.

        K is a 3x3 list, array or tensor; ``name`` is used in error messages.

        Raises:
            EgoXInputError: not 3x3, not numbers, last row not (0, 0, 1), skew, singular (a focal
                length of 0), negative.
        """
        k = as_matrix(intrinsics, name, "a 3x3 matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
        if k.shape != (3, 3):
            raise EgoXInputError(
                name,
                got=f"shape {tuple(k.shape)}",
                expected="shape (3, 3)",
                fix="give K as three rows of three numbers",
            )
        if not torch.isfinite(k).all():
            raise EgoXInputError(
                name,
                got="NaN or infinite numbers",
                expected="finite numbers",
                fix="correct the file",
            )
        if (k[2] - k.new_tensor((0, 0, 1))).abs().max() > 1e-6:
            raise EgoXInputError(
                name,
                got=f"last row {k[2].tolist()}",
                expected="(0, 0, 1)",
                fix="give K row by row; a transposed K has its centre in the last row",
            )
        fx, fy = float(k[0, 0]), float(k[1, 1])
        if fx == 0 or fy == 0:
            raise EgoXInputError(
                name,
                got=f"a singular matrix (fx {fx}, fy {fy})",
                expected="positive focal lengths",
                fix="correct the focal lengths; they are in pixels",
            )
        if abs(float(k[0, 1])) > 1e-6 * abs(fx) or abs(float(k[1, 0])) > 1e-6 * abs(fx):
            raise EgoXInputError(
                name,
                got=f"skew {float(k[0, 1])}, {float(k[1, 0])}",
                expected="no skew",
                fix="undistort the video to square axes, or drop the skew if it is negligible",
            )
        cx, cy = k[:2, 2].tolist()
        return cls(lens=PINHOLE, width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy)

    @classmethod
    def pinhole(cls, width: int, height: int, focal: float) -> CameraModel:
        """Make a pinhole camera with a focal length in px, centred in the picture."""
        return cls(
            lens=PINHOLE,
            width=width,
            height=height,
            fx=focal,
            fy=focal,
            cx=(width - 1) / 2,
            cy=(height - 1) / 2,
        )

    @classmethod
    def from_json(cls, content: object, name: str = "camera") -> CameraModel:
        """Read a camera from JSON as :meth:`to_json` writes it, with defaults for missing fields.

        Raises:
            EgoXInputError: not an object, unknown or missing keys, values of the wrong type.
        """
        field_names = {each_field.name for each_field in fields(cls)}
        required_names = {
            each_field.name for each_field in fields(cls) if each_field.default is MISSING
        }
        if not isinstance(content, dict) or not required_names <= content.keys() <= field_names:
            content_text = sorted(content) if isinstance(content, dict) else type(content).__name__
            raise EgoXInputError(
                name,
                got=content_text,
                expected=(
                    f"an object with {sorted(required_names)}, optionally "
                    f"{sorted(field_names - required_names)}"
                ),
                fix="correct the keys",
            )
        try:
            values: dict[str, Any] = {
                key: str(value)
                if key == "lens"
                else tuple(float(number) for number in value)
                if key == "distortion"
                else int(value)
                if key in ("width", "height", "quarter_turns")
                else float(value)
                for key, value in content.items()
            }
        except NO_NUMBERS as error:
            raise EgoXInputError(
                name,
                got=f"values of the wrong type ({error})",
                expected="numbers",
                fix="correct the values",
            ) from error
        return cls(**values)

    def to_json(self) -> dict[str, object]:
        """Convert the camera to JSON, with one key per field."""
        return {
            each_field.name: list(value)
            if isinstance(value := getattr(self, each_field.name), tuple)
            else value
            for each_field in fields(self)
        }

    def circle(self) -> Tensor:  # [H, W] bool, stored pixels
        """Mark the pixels within the image circle of the lens.

        Its centre is the optical axis, its diameter the image's shorter side.

        A fisheye's image is round; its lens has never seen the corners outside.
        """
        return self.axis_distance_px() <= min(self.stored_size) / 2

    def axis_distance_px(self) -> Tensor:  # [H, W] float64, stored pixels
        """Compute each pixel's distance from the optical axis."""
        axis_pixel, _ = self.project(torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))
        return (self.pixel_grid(torch.float64) - axis_pixel[0]).norm(dim=-1)

    def as_pinhole(self, fov_deg: float) -> CameraModel:
        """Make a pinhole camera of the same size with a given horizontal field of view.

        Raises:
            EgoXInputError: a field of view outside 20 to 150 degrees.
        """
        low, high = FOV_RANGE_DEG
        if not low <= fov_deg <= high:
            raise EgoXInputError(
                "field of view",
                got=f"{fov_deg} degrees",
                expected=f"{low:g} to {high:g} degrees",
                fix=(
                    "a pinhole view can't show more; use a smaller angle, or keep the fisheye image"
                ),
            )
        focal = self.stored_size[0] / 2 / math.tan(math.radians(fov_deg) / 2)
        pinhole = CameraModel.pinhole(self.width, self.height, focal)
        return replace(pinhole, quarter_turns=self.quarter_turns)

    @property
    def intrinsics(self) -> Tensor:
        """Matrix K [3, 3] float64 of the unturned sensor."""
        return torch.tensor(
            [[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=torch.float64
        )

    def project(
        self,
        # [..., 3] metres, camera frame of the unturned sensor (x right, y down, z forward)
        points_cam: Tensor,
    ) -> tuple[Tensor, Tensor]:  # uv [..., 2] stored pixels, valid [...] bool
        """Project points of the camera frame to stored pixels, differentiably.

        Works in float32 and float64.

        Valid: inside the lens' angle, in front of a pinhole. A valid point may be outside the
        picture (see :meth:`inside`); invalid ones hold finite, meaningless pixels.
        """
        plane, valid = LENSES[self.lens].project(
            points_cam, self.distortion, math.radians(self.max_angle_deg)
        )
        sensor_pixels = plane * plane.new_tensor((self.fx, self.fy)) + plane.new_tensor(
            (self.cx, self.cy)
        )
        return _turn_pixels(sensor_pixels, self.width, self.height, self.quarter_turns), valid

    def unproject(
        self,
        uv: Tensor,  # [..., 2] stored pixels, integer = pixel centre
    ) -> tuple[
        Tensor, Tensor
    ]:  # rays [..., 3] of unit length, camera frame of the unturned sensor; valid [...] bool
        """Convert stored pixels to unit rays in the camera frame.

        Differentiable, float32 or float64; inverse of :meth:`project`.
        """
        sensor_pixels = _turn_pixels(uv, *self.stored_size, -self.quarter_turns)
        plane = (
            sensor_pixels - sensor_pixels.new_tensor((self.cx, self.cy))
        ) / sensor_pixels.new_tensor((self.fx, self.fy))
        return LENSES[self.lens].unproject(plane, self.distortion, math.radians(self.max_angle_deg))

    def pixel_grid(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Make the stored pixel coordinates of the whole picture: [H, W, 2] (u, v)."""
        width, height = self.stored_size
        v, u = torch.meshgrid(
            torch.arange(height, dtype=dtype),
            torch.arange(width, dtype=dtype),
            indexing="ij",
        )
        return torch.stack((u, v), dim=-1)

    def pixel_rays(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Compute the unit rays of every stored pixel.

        Returns:
            rays [H, W, 3] in the unturned sensor's frame; valid [H, W].
        """
        return self.unproject(self.pixel_grid(dtype))

    def upright_poses(self, w2c: Tensor) -> Tensor:  # [..., 3, 4] -> the same, float64
        """Rotate poses of the sensor into the axes of the stored (upright) picture."""
        return sensor_from_upright(self.quarter_turns).T @ w2c.double()

    def depth_rays(self) -> Tensor:  # [H, W, 3] float32, camera frame
        """Compute each pixel's ray [x, y, 1], whose product with z depth is the 3-D point.

        NaN outside the lens' valid angle and at 90 degrees or more, where z depth says nothing.
        """
        rays, valid = self.pixel_rays(torch.float64)
        ray_z = rays[..., 2:]
        rays = rays / ray_z.clamp_min(1e-6)
        return torch.where(
            valid[..., None] & (ray_z > 1e-3), rays, torch.full_like(rays, float("nan"))
        ).float()

    def inside(
        self,
        uv: Tensor,  # [..., 2] stored pixels
        margin: float = 0.0,  # px by which the outline is grown
    ) -> Tensor:  # [...] bool
        """Check which pixel positions lie inside the picture's outline, -0.5 to W - 0.5."""
        width, height = self.stored_size
        u, v = uv[..., 0], uv[..., 1]
        lowest = -0.5 - margin
        return (
            (u >= lowest) & (u < width - 0.5 + margin) & (v >= lowest) & (v < height - 0.5 + margin)
        )

    def look_up(
        self,
        points_cam: Tensor,  # [..., 3] metres, as in :meth:`project`
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Find the pixel of the stored picture at which each 3-D point appears.

        Returns:
            places in the stored image [..., 2]; their pixels [...], int64, counted row by row;
            whether they are inside it [...].
        """
        width, height = self.stored_size
        uv, valid = self.project(points_cam)
        valid = valid & self.inside(uv) & (points_cam[..., 2] > 1e-3)
        uv = uv.nan_to_num(0.0)
        column, row = uv.round().long().unbind(-1)
        return uv, row.clamp(0, height - 1) * width + column.clamp(0, width - 1), valid

    def agrees(self, other: CameraModel) -> bool:
        """Check whether a lens of the same picture agrees to half a pixel, also at the corners."""
        is_same_kind = self.lens == other.lens and self.stored_size == other.stored_size
        difference_px = (self.intrinsics - other.intrinsics).abs()
        if not is_same_kind or bool((difference_px > SAME_PX).any()):
            return False
        if self.distortion == other.distortion:
            return True
        columns, rows = (torch.linspace(0, side - 1, 9).double() for side in self.stored_size)
        pixels = torch.cartesian_prod(columns, rows)
        rays, seen_mask = self.unproject(pixels)
        reprojected, is_seen = other.project(rays[seen_mask])
        return bool(is_seen.all()) and bool(
            ((reprojected - pixels[seen_mask]).abs() <= SAME_PX).all()
        )

    def ray_lengths(self) -> Tensor:  # [H, W] float32
        """Compute the length of each pixel's ray whose z is 1, NaN where the lens sees nothing."""
        rays, valid_mask = self.unproject(self.pixel_grid(torch.float64))
        depth_share = torch.where(valid_mask & (rays[..., 2] > 0), rays[..., 2], torch.nan)
        return depth_share.reciprocal().float()

    def rescale(self, width: int, height: int) -> CameraModel:
        """Scale the camera to a picture of ``width`` x ``height`` stored pixels.

        As resizing a picture does (cv2.resize, torch interpolate): the outline -0.5 ... W-0.5 maps
        onto the new outline, c' = (c + 0.5) s - 0.5.

        Raises:
            EgoXInputError: size under 1 px.
        """
        if self.quarter_turns % 2:
            width, height = height, width
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def crop(self, left: int, top: int, width: int, height: int) -> CameraModel:
        """Make the camera of a cropped picture whose first stored pixel is (left, top).

        A rectangle that reaches outside pads the image. Exact.
        """
        stored_width, stored_height = self.stored_size
        right, bottom = stored_width - left - width, stored_height - top - height
        # A clockwise turn takes the sensor's bottom edge to the stored left edge, its left edge to
        # the stored top.
        sensor_left, sensor_top = ((left, top), (top, right), (right, bottom), (bottom, left))[
            self.quarter_turns % 4
        ]
        if self.quarter_turns % 2:
            width, height = height, width
        return replace(
            self, width=width, height=height, cx=self.cx - sensor_left, cy=self.cy - sensor_top
        )

    def mirrored(self) -> CameraModel:
        """Make the camera of the stored picture as a mirror shows it, left for right. Exact."""
        turn_count = self.quarter_turns % 2
        lens = LENSES[self.lens]
        distortion = self.distortion
        if distortion and lens.mirror_signs:
            # A quarter turn swaps the sensor's axes, and three more turn them back.
            for _ in range(turn_count):
                distortion = lens.turn_distortion(distortion)
            distortion = tuple(
                sign * value for sign, value in zip(lens.mirror_signs, distortion, strict=True)
            )
            for _ in range(3 * turn_count):
                distortion = lens.turn_distortion(distortion)
        if turn_count:
            return replace(self, cy=self.height - 1 - self.cy, distortion=distortion)
        return replace(self, cx=self.width - 1 - self.cx, distortion=distortion)

    def upright(self) -> CameraModel:
        """Convert the camera to one without quarter turns that has the same pixels.

        ``camera.project(sensor_from_upright(turns) @ x) == camera.upright().project(x)``; for
        file formats that know no turned sensors. Exact for every lens
        (:attr:`Lens.turn_distortion`).
        """
        turn_count = self.quarter_turns % 4
        width, height = self.stored_size
        principal_point = torch.tensor([self.cx, self.cy], dtype=torch.float64)
        principal_point = _turn_pixels(
            principal_point, self.width, self.height, self.quarter_turns
        ).tolist()
        distortion = self.distortion
        for _ in range(turn_count if distortion else 0):
            distortion = LENSES[self.lens].turn_distortion(distortion)
        fx, fy = (self.fy, self.fx) if turn_count % 2 else (self.fx, self.fy)
        return replace(
            self,
            width=width,
            height=height,
            fx=fx,
            fy=fy,
            cx=principal_point[0],
            cy=principal_point[1],
            distortion=distortion,
            quarter_turns=0,
        )


def one_camera(cameras: Sequence[CameraModel], what: str) -> CameraModel:
    """Return the first of several cameras after checking that their focal lengths agree within 1 %.

    Raises:
        EgoXInputError: none, other lenses or sizes, a lens that zooms.
    """
    lens_kinds = {(camera.lens, camera.stored_size) for camera in cameras}
    focal_lengths = [camera.fx for camera in cameras]
    if len(lens_kinds) != 1 or max(focal_lengths) > 1.01 * min(focal_lengths):
        raise EgoXInputError(
            what,
            got=f"{len(set(cameras))} cameras",
            expected="images of one camera with a constant lens",
            fix="export the ego camera alone, with one lens for all, or give stages.path a camera",
        )
    return cameras[0]


def sensor_from_upright(quarter_turns: int) -> Tensor:
    """Compute the rotation [3, 3] from the stored (upright) picture's axes to the sensor's.

    Stored = sensor turned clockwise, so after one turn the sensor's x runs down the stored picture
    and its y leftwards.
    """
    one_turn = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    return torch.linalg.matrix_power(one_turn, quarter_turns % 4)


def _turn_pixels(uv: Tensor, width: int, height: int, quarter_turns: int) -> Tensor:
    """Rotate pixel coordinates [..., 2] by clockwise quarter turns of the picture.

    One turn is turned[i, j] = picture[height-1-j, i]."""
    turn_count = quarter_turns % 4
    if turn_count == 0:
        return uv  # a copy of all pixels would be a third of project's time
    u, v = uv.unbind(-1)
    right, bottom = width - 1, height - 1
    rotated_coordinates = ((bottom - v, u), (right - u, bottom - v), (v, right - u))
    return torch.stack(rotated_coordinates[turn_count - 1], dim=-1)
