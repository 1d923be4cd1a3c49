"""Combine a camera with its poses, their frames and the world that they are in.

Nothing outside of this file asks whether a camera stands, moves or has no pose."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frames import Frames
from ..frozen import frozen
from .model import CameraModel, sensor_from_upright
from .poses import compose, invert, validate_w2c

World = Literal["exo", "take", "unknown"]
"""The exo camera's own frame (of frame 0, where it moves), since nobody knows a larger one; the
take's; or that of a file of another program, until a scene, a take or a pose ties it."""
COUNTED = Frames.of_count(0)
"""Frames that nobody says, as many as a camera has poses."""
MIN_MOTION = 1e-6
"""Rotation, or metres, by which poses differ by more than rounding."""
SAME_TURN, SAME_M, SAME_SHARE = 2e-3, 2e-3, 1e-6
"""Rotation and place up to which two files have one pose of a camera: of three digits, and far from
the origin those of float32."""


@frozen
class CameraPath:
    """Camera with its poses over the frames of a clip.

    ``w2c`` [T, 3, 4] float64 has a pose per frame, [1, 3, 4] the one pose of a camera that stands
    (given as [3, 4], too): camera_from_world of the unturned sensor, in metres. Two paths can be
    related only if they are in one world.

    Raises:
        EgoXInputError: no camera, poses of another shape.
    """

    lens: CameraModel | None  # in px of the pictures in use; None: only the poses are known
    w2c: Tensor
    frames: Frames = COUNTED  # [T], those of the poses
    world: World
    # size of the source's picture, and what the frames show of it (left, top, width, height), px;
    # None: nobody said
    part: tuple[tuple[int, int], tuple[int, int, int, int]] | None = None
    lens_guessed: bool = False  # nothing told the lens: an assumed field of view, or the default
    # an axis of its world may be up; False: of a form whose worlds nobody levels (ViPE's, COLMAP's)
    gravity: bool = True

    def __post_init__(self) -> None:
        if self.lens is not None and type(self.lens).__name__ != CameraModel.__name__:
            raise EgoXInputError(
                "lens of a camera path",
                got=type(self.lens).__name__,
                expected="a CameraModel",
                fix="make one of K by CameraModel.from_intrinsics",
            )
        w2c = torch.as_tensor(self.w2c).double()
        w2c = w2c[None] if w2c.ndim == 2 else w2c
        if w2c.ndim != 3 or w2c.shape[1:] != (3, 4) or not len(w2c):
            # names the shape, or drops the last row
            w2c = validate_w2c(w2c, "poses of a camera path")
        object.__setattr__(self, "w2c", w2c)
        if not self.frames:
            object.__setattr__(self, "frames", Frames.of_count(len(w2c)))

    @classmethod
    def of_exo(
        cls,
        lens: CameraModel | None,
        w2c: Tensor | None = None,
        frames: Frames = COUNTED,
        *,
        lens_guessed: bool = False,
    ) -> CameraPath:
        """Make the path of an exo camera from its lens and poses.

        They are in the take's world or, without, in the camera's own frame.
        """
        return cls(
            lens=lens,
            w2c=torch.eye(3, 4, dtype=torch.float64) if w2c is None else w2c,
            frames=frames,
            world="exo" if w2c is None else "take",
            lens_guessed=lens_guessed,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CameraPath):
            return NotImplemented
        return self._identity == other._identity and torch.equal(self.w2c, other.w2c)

    def __hash__(self) -> int:
        return hash((self._identity, self.w2c.shape))

    @property
    def _identity(self) -> tuple:
        return self.lens, self.lens_guessed, self.part, self.world, self.frames

    def __len__(self) -> int:
        """Count the frames, which are 1 for a static camera whose frames aren't known."""
        return len(self.frames)

    @property
    def camera(self) -> CameraModel:
        """Lens in px of the pictures in use.

        Raises:
            EgoXInputError: it isn't known.
        """
        if self.lens is None:
            raise EgoXInputError(
                "exo camera",
                got="poses without a lens",
                expected="its K or CameraModel, too",
                fix="give camera=, or a meta.json with camera_intrinsics",
            )
        return self.lens

    @property
    def source_lens(self) -> CameraModel | None:
        """Lens of the source's whole picture, before the frames' crop and resize."""
        if self.lens is None or self.part is None:
            return self.lens
        source_size, (left, top, *shown_size) = self.part
        lens = (
            self.lens if self.lens.stored_size == (*shown_size,) else self.lens.rescale(*shown_size)
        )
        return lens.crop(-left, -top, *source_size)

    @property
    def pose(self) -> Tensor | None:  # [3, 4] of a static camera, else [T, 3, 4]; float64
        """Poses as they are written to files, or None if the camera defines its own world."""
        return None if self.at_origin else self._w2c

    def rows(self) -> list:
        """List the poses as nested lists of numbers for JSON."""
        return self._w2c.tolist()

    @property
    def device(self) -> torch.device:
        """Device of the pose tensor."""
        return self.w2c.device

    def to(self, device: torch.device | str) -> CameraPath:
        """Move the poses to a device."""
        return replace(self, w2c=self.w2c.to(device))

    @property
    def numbered(self) -> CameraPath:
        """Copy of this path whose poses belong to the source video's frames 0, 1, 2, …."""
        if self.stands:
            return self
        return replace(self, frames=replace(self.frames, counted=False))

    @property
    def stands(self) -> bool:
        """True if the camera is static, so that one pose holds for all frames."""
        return len(self.w2c) == 1

    @property
    def _w2c(self) -> Tensor:
        return self.w2c[0] if self.stands else self.w2c

    @property
    def moves(self) -> bool:
        """True if the poses differ by more than rounding."""
        return float((self.w2c - self.w2c[:1]).abs().max()) > MIN_MOTION

    @property
    def upright_w2c(self) -> Tensor:  # [1 or T, 3, 4] float64
        """Poses in the axes of the stored (upright) picture."""
        return self.camera.upright_poses(self.w2c)

    @property
    def upright(self) -> CameraPath:
        """Camera path with the same pictures and a sensor without quarter turns."""
        return replace(self, lens=self.camera.upright(), w2c=self.upright_w2c)

    @property
    def at_origin(self) -> bool:
        """True if the camera is static and its own frame is the world."""
        return self.world == "exo" and not self.moves

    def at(self, frame: int) -> Tensor:  # [3, 4] float64
        """Look up the pose of one frame."""
        return self._w2c if self.stands else self.w2c[frame]

    def resized(self, width: int, height: int) -> CameraPath:
        """Rescale the lens to another size of the pictures, in stored px."""
        return replace(self, lens=self.camera.rescale(width, height))

    def with_lens(self, lens: CameraModel) -> CameraPath:
        """Replace the path's camera model, and rotate the poses so that pictures stay upright."""
        turns_before, turns_after = (
            lens_or_camera.quarter_turns % 4 for lens_or_camera in (self.camera, lens)
        )
        if turns_before == turns_after:
            return replace(self, lens=lens)
        sensor_rotation = sensor_from_upright(turns_after) @ sensor_from_upright(turns_before).T
        return replace(self, lens=lens, w2c=sensor_rotation @ self.w2c)

    def select(self, part: slice | Tensor) -> CameraPath:  # [N] int64
        """Return the camera path of the selected frames only."""
        w2c = self._w2c if self.stands else self.w2c[part]
        return replace(self, w2c=w2c, frames=self.frames.select(part))

    def one(self, frame: int) -> CameraPath:
        """Select the camera of a single frame, as a static camera."""
        return replace(self, w2c=self.at(frame), frames=COUNTED)

    def counted(self, count: int) -> CameraPath:
        """Set the number of frames of a static camera if nobody says which ones they are."""
        frames = self.frames.for_count(count)
        return replace(self, frames=frames) if self.stands and frames is not self.frames else self

    def poses(self, count: int, what: str = "camera poses") -> Tensor:  # [count, 3, 4] float64
        """Return poses for the first ``count`` frames, with ``what`` as their name in errors.

        Raises:
            EgoXInputError: a pose per frame, but fewer.
        """
        if self.stands and len(self.frames.for_count(count)) >= count:
            return self.w2c.expand(count, 3, 4)
        if len(self.w2c) < count:
            raise EgoXInputError(
                what,
                got=f"{len(self.w2c)} poses for {count} frames",
                expected="one pose, or one for every frame in use",
                fix="use fewer frames, or give the poses of all",
            )
        return self.w2c[:count]

    def begins_as(self, other: CameraPath) -> bool:
        """Check whether two camera paths have the same pose in their first frame."""
        own_pose, other_pose = self.at(0), other.at(0)
        turn_change = float((own_pose[:, :3] - other_pose[:, :3]).abs().max())
        # Far from the origin a rounded turn moves the place, of the file's pose or of its inverse.
        camera_centres = [
            torch.linalg.solve(difference[:, :3], difference[:, 3])
            for difference in (own_pose, other_pose)
        ]
        centre_changes = (own_pose - other_pose)[:, 3], camera_centres[0] - camera_centres[1]
        distance = min(float(difference.norm()) for difference in centre_changes)
        origin_distance = float(other_pose[:, 3].norm())
        return turn_change <= SAME_TURN and distance <= SAME_M + SAME_SHARE * origin_distance

    @property
    def first_words(self) -> str:
        """Position and direction of the camera in the first frame, in words."""
        c2w = invert(self.at(0))
        place_text, direction_text = (
            ", ".join(f"{coordinate:.2f}" for coordinate in c2w[:, column].tolist())
            for column in (3, 2)
        )
        return f"at ({place_text}) m, looking along ({direction_text})"

    def seen_from(self, other: CameraPath) -> Tensor:  # [1 or T, 3, 4] float64
        """Compute this camera's poses relative to another one in its world (this_from_other)."""
        return compose(self.w2c, invert(other._w2c))
