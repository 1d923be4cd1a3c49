"""Define the immutable payloads between the rooms.

Where a camera is, :class:`~egox_core.cameras.CameraPath` knows: lens, poses, moments and world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypeIs

from .arrays import as_tensor
from .cameras import CameraModel, CameraPath, compose, invert
from .errors import EgoXInputError, check_choice
from .frames import Frames
from .frozen import frozen
from .progress import Progress, no_progress
from .remarks import Remark, RemarkKind
from .sizes import CHANNELS, canvas_size, latent_frames

T = TypeVar("T")
DepthKind = Literal["metric z", "relative z", "disparity"]
Resize = Literal["crop", "pad"]
MaskMode = Literal["released", "paper", "trainer"]
MASK_MODES: tuple[MaskMode, ...] = get_args(MaskMode)
ImageEmbeddingMode = Literal["released", "exo+prior", "exo only", "none"]
IMAGE_EMBEDDING_MODES: tuple[ImageEmbeddingMode, ...] = get_args(ImageEmbeddingMode)
RayMode = Literal["released", "exact", "pinhole"]
RAY_MODES: tuple[RayMode, ...] = get_args(RayMode)
HiddenLines = Literal["draw", "leave out"]
HIDDEN_LINES: tuple[HiddenLines, ...] = get_args(HiddenLines)
Dynamic = Literal["keep", "leave out", "without wearer", "without head"]
DYNAMIC_CHOICES: tuple[Dynamic, ...] = get_args(Dynamic)
Moving = Literal["auto", "mask", "none"]
"""Source of what moves: the depth's dynamic mask or, without one, a derived one (auto); the mask
alone (mask); nothing (none: everything is fused as static)."""
Motion = Literal["auto", "stands", "turns", "moves"]
AlignMode = Literal["least squares", "robust"]
ALIGN_MODES: tuple[AlignMode, ...] = get_args(AlignMode)
ExoLens = Literal["as given", "raw", "raw where known"]
ScaleSource = Literal["as is", "wearer", "wearer where seen"]
FROM_EDITOR = "pose editor"
"""Source of poses that a person set in the page's editor."""
FROM_HEAD_KEYPOINTS = "head keypoints"
"""Source of poses that were estimated on this very depth, from the head's alone. What the trunk
says besides isn't the metres, but it brings both together where the model melts the head into what
is behind it."""
RELEASED_RANGE = 0.1
"""The released renderer draws and averages points whose range (:attr:`PointSet.depth_range`) is
below this."""
GgaMode = Literal["released", "paper", "power", "off"]
GGA_MODES: tuple[GgaMode, ...] = get_args(GgaMode)
UNOBSERVED, DOUBTFUL, EARLIER, NOW = 0, 64, 128, 255
"""Classes of an ego pixel, as seen.mkv has them: nothing landed; a point landed, but the way to it
is hidden in part; exo saw it at another time; exo sees it in this frame."""
SEEN_KINDS = {"now": NOW, "earlier": EARLIER, "doubtful": DOUBTFUL, "unobserved": UNOBSERVED}
"""Classes of a prior's pixel by name."""
REDRAWN, KEPT_EARLIER, KEPT_NOW = 192, 160, 224
"""Of a video alone: exo saw it, but the video shows it otherwise; observed pixels that were put
back."""


@frozen
class FrameSelection(Frames):
    """Frames in use of a source video, and the crop and scale of its picture."""

    fps: float  # of the frames in use
    source_size: tuple[int, int]  # (width, height) of the source video, px
    size: tuple[int, int]  # (width, height) of the frames handed on, px
    resize: Resize  # how the aspect difference was taken up
    # (left, top, width, height) px of the source picture: all of it that the container shows
    part: tuple[int, int, int, int] | None = None
    # Not those that a dataclass makes.
    __eq__, __hash__ = Frames.__eq__, Frames.__hash__

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """Part of the source picture that the frames show: (left, top, width, height).

        It reaches outside where they are padded.

        Rounded to whole source pixels, so the two axes may be scaled differently by under one pixel
        in the whole picture; cameras follow that exactly.
        """
        left, top, source_width, source_height = self.part or (0, 0, *self.source_size)
        width, height = self.size
        pick_scale = max if self.resize == "crop" else min
        scale = pick_scale(width / source_width, height / source_height)
        rect_width, rect_height = max(1, round(width / scale)), max(1, round(height / scale))
        return (
            left + (source_width - rect_width) // 2,
            top + (source_height - rect_height) // 2,
            rect_width,
            rect_height,
        )

    def sizes(self, default_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (width, height) of the source picture and of the frames in use, in px."""
        return self.source_size, self.size

    def window(self, whole: Any) -> Any:
        """Crop a window on the whole source picture, in px of a map, to what the frames show."""
        left, top, width, height = self.rectangle
        scale_x, scale_y = whole.width / self.source_size[0], whole.height / self.source_size[1]
        return replace(
            whole,
            left=whole.left + left * scale_x,
            top=top * scale_y,
            width=width * scale_x,
            height=height * scale_y,
            size=self.size,
        )

    def shown(self, exo: CameraPath) -> CameraPath:
        """Give an exo camera the frames in use and the part of the source picture that they show."""
        return replace(exo, frames=self.without_sizes, part=(self.source_size, self.rectangle))

    def camera(self, source: CameraModel) -> CameraModel:
        """Derive the camera of the cropped and scaled frames from that of the source picture.

        Exact, half-pixel convention.

        Raises:
            EgoXInputError: the camera's picture has another size than the source video.
        """
        source.check_size("exo camera", *self.source_size)
        return source.crop(*self.rectangle).rescale(*self.size)


setattr(FrameSelection, "__setstate__", getattr(Frames, "__setstate__"))  # noqa: B009, B010


@frozen
class Sound:
    """Sound of the frames in use: samples of all channels."""

    waveform: Tensor  # [channels, N] float32 -1...1
    sample_rate: int
    notes: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class Kept:
    """Base class of payloads that a host may cache, and pass to another version of this code."""

    @staticmethod
    def version() -> str:
        """Return the version of this copy of the code."""
        from . import __version__  # which imports this module

        return __version__

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {MADE_BY: self.version()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made_by = state.pop(MADE_BY, "1.1 or older")
        vars(self).update(state)
        _check_version(self, type(self), made_by)


MADE_BY = "egox_core"


def _check_version(value: object, kind: type[Kept], made_by: str) -> None:
    cameras = [part for part in vars(value).values() if type(part).__name__ == CameraPath.__name__]
    has_old_camera = any(
        type(getattr(camera, "frames", None)).__name__ != Frames.__name__ for camera in cameras
    )
    if has_old_camera or any(not hasattr(value, field.name) for field in fields(kind)):
        version = Kept.version()
        raise EgoXInputError(
            f"kept {kind.__name__}",
            got=f"one that EgoX {made_by} made",
            expected=f"one of {version}" + (" in its present state" if made_by == version else ""),
            fix="empty the cache that kept it, so that it is made again",
        )


@dataclass(frozen=True, kw_only=True)  # no slots: nodes hold it weakly
class DepthVideo(Kept):
    """Depth of the exo video, one map per frame, with NaN for invalid pixels."""

    depth_m: Tensor  # [T, H, W] float32, z depth along the optical axis, metres (or the unit of ``kind``)
    exo: CameraPath  # the camera of the maps, in their pixels
    kind: DepthKind = "metric z"
    dynamic: Tensor | None = None  # [T, H, W] bool, moving objects
    sky: Tensor | None = None  # [T, H, W] bool
    # [T, H, W] float32 0...1, how reliable a pixel's depth is; None: fully
    trust: Tensor | None = None

    def __post_init__(self) -> None:
        _convert_arrays(self, self.exo, "depth video")
        _set_frame_count(self, len(self.depth_m))

    @property
    def frames(self) -> Frames:
        """Frames of the maps."""
        return self.exo.frames

    def check_metric(self, what: str) -> None:
        """Refuse depth that isn't in metres, with ``what`` as its name in the error.

        Raises:
            EgoXInputError: another kind.
        """
        if self.kind != "metric z":
            raise EgoXInputError(
                what,
                got=f"{self.kind} depth",
                expected="metric z depth in metres",
                fix="align it with a metric depth in stages.align",
            )

    @property
    def valid(self) -> Tensor:  # [T, H, W] bool
        """Mask of pixels with valid depth."""
        return torch.isfinite(self.depth_m)


def _other_video(path_frames: Frames, *others: Frames) -> tuple[Remark, ...]:
    """Warn if a path was made for another video than those of the given frames."""
    if path_frames.source is None or not all(
        path_frames.of_other_video(frames) for frames in others
    ):
        return ()
    names = {"/".join(frames.source.parts[-2:]) for frames in others if frames.source is not None}
    warning = (
        f"warning: the path is of {'/'.join(path_frames.source.parts[-2:])}, all else of "
        f"{', '.join(sorted(names))}. If these are two cameras, give depth and path the exo pose of "
        "each, in one world; if they show the same, all is right"
    )
    return (Remark(warning, RemarkKind.WARNING),)


@dataclass(frozen=True, kw_only=True)  # no slots: nodes hold it weakly
class CameraTrajectory(Kept):
    """Path of the ego camera over time, and the exo camera in the same world.

    Raises:
        EgoXInputError: no camera paths, two worlds.
    """

    ego: CameraPath  # [T] poses, of the camera that the prior is drawn with
    # of the pictures in use; None: of an unknown world, in which nobody knows where exo is
    exo: CameraPath | None
    # [T] bool, frames whose turn was estimated from too little; None: measured or set by hand
    guessed: Tensor | None = None

    def __post_init__(self) -> None:
        _convert_arrays(self, self.ego, "ego trajectory")
        if self.ego.world != ("unknown" if self.exo is None else self.exo.world):
            raise EgoXInputError(
                "ego trajectory",
                got=f"an ego camera in world {self.ego.world!r}, exo "
                + ("unknown" if self.exo is None else f"in {self.exo.world!r}"),
                expected="both cameras in one world",
                fix="make it by stages.path",
            )

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.ego)

    @property
    def frames(self) -> Frames:
        """Frames of the poses."""
        return self.ego.frames

    def check_moments(self, frames: Frames, what: str) -> None:
        """Refuse poses of other moments than ``frames``, which are called ``what`` in the error.

        Raises:
            EgoXInputError: other times, see :meth:`.frames.Frames.check_same`.
        """
        frames.check_same(self.frames, f"{what} and path", still=not self.ego.moves)

    @property
    def required_exo(self) -> CameraPath:
        """Exo camera of the path, which raises an error if the path's world is unknown.

        Raises:
            EgoXInputError: an ego path whose world nobody knows.
        """
        if self.exo is None:
            raise EgoXInputError(
                "ego path",
                got="poses in a world of another program, in which nobody knows where the exo camera is",
                expected="a path that is tied to the scene",
                fix="give stages.path the scene",
            )
        return self.exo

    known_exo = required_exo  # its name until 1.3

    def other_exo(self, *owners: CameraPath) -> tuple[Remark, ...]:
        """Warn if the exo camera in the path's file is none of a scene's or depth's exo cameras.

        Theirs is used. Where only one side says a pose, the videos are compared.
        """
        path_exo = self.exo
        if (
            path_exo is None
            or path_exo.world != "take"
            or any(owner.world != "take" for owner in owners)
        ):
            return _other_video(self.frames, *(owner.frames for owner in owners))
        if any(owner.begins_as(path_exo) for owner in owners):
            return ()
        warning = (
            f"warning: the exo camera of the path's file isn't that of scene and depth: "
            f"{path_exo.first_words}, against {owners[0].first_words}. If it is another camera of the take, "
            "all is right; if it is the same one, these are two worlds: take both from one file, or give "
            "the depth no exo pose, so that the path's ties it"
        )
        return (Remark(warning, RemarkKind.WARNING),)

    def other_hands(self, frames: Frames) -> tuple[Remark, ...]:
        """Warn if the hands were tracked in another video than that of the path's exo camera."""
        return () if self.exo is None else _other_video(self.exo.frames, frames)

    def exo_of(self, exo: CameraPath) -> CameraPath:
        """Bring a depth's exo camera into the path's world, unless its world is known already.

        Raises:
            EgoXInputError: a path whose world nobody knows.
        """
        path_exo = self.required_exo
        if path_exo.world == "exo" or exo.world == "take":
            return exo
        if path_exo.moves or not exo.moves:
            return path_exo
        return replace(exo, w2c=compose(exo.w2c, path_exo.at(0)), world=path_exo.world)

    def with_depth_camera(self, exo: CameraPath) -> CameraTrajectory:
        """Copy the path with a depth's exo camera: its lens and, in a shared world, its poses.

        Raises:
            EgoXInputError: a path whose world nobody knows, or of other moments.
        """
        path_exo = self.required_exo
        self.check_moments(exo.frames, "depth")
        if path_exo.world == "exo" or exo.world == path_exo.world:
            return self.in_world_of(exo)
        return replace(self, exo=replace(path_exo, lens=exo.lens, lens_guessed=exo.lens_guessed))

    beside = with_depth_camera  # its name until 1.3

    def in_world_of(self, exo: CameraPath) -> CameraTrajectory:
        """Move the path into the world of the scene's or depth's exo camera.

        Poses in the take's world stay there or, where that camera's isn't known, go to its own frame;
        others are taken to be in its world, whichever it is. The exo camera of the path's own file
        serves for that alone; :meth:`other_exo` compares both.

        Raises:
            EgoXInputError: the take's exo camera moves, and this one's own frame with it.
        """
        if self.exo is None or self.ego.world == "exo":
            return replace(self, ego=replace(self.ego, world=exo.world), exo=exo)
        if exo.world == "take":
            return replace(self, exo=exo)
        if self.exo.moves and not exo.moves:
            raise EgoXInputError(
                "scene of a moving exo camera",
                got="a scene in the exo camera's frame",
                expected="a scene in the world's frame",
                fix="give the exo poses (of meta.json) to stages.align, so that the scene is built in "
                "the world",
            )
        w2c = compose(self.ego.w2c, invert(self.exo.at(0)))
        return replace(self, ego=replace(self.ego, w2c=w2c, world=exo.world), exo=exo)

    tied = in_world_of  # its name until 1.3


def is_a(value: object, kind: type[T]) -> TypeIs[T]:
    """Check the type of a payload by its name, since two copies of the code may be loaded.

    Raises:
        EgoXInputError: it is of a version that has other fields.
    """
    matching_type = next(
        (base for base in type(value).__mro__ if base.__name__ == kind.__name__), None
    )
    if matching_type is not None and issubclass(kind, Kept):
        made_by = getattr(matching_type, "version", lambda: "1.1 or older")
        _check_version(value, kind, made_by())
    return matching_type is not None


def _set_frame_count(payload: DepthVideo | PointCloud, count: int) -> None:
    """Set the frame count of a static camera whose count isn't known."""
    exo = payload.exo
    if exo.stands and len(exo.frames) != count:
        object.__setattr__(payload, "exo", replace(exo, frames=exo.frames.recounted(count)))


def _convert_arrays(payload: DepthVideo | CameraTrajectory, camera: CameraPath, label: str) -> None:
    """Check the camera of a payload, and turn its numpy arrays into tensors.

    Raises:
        EgoXInputError: a camera that is none.
    """
    if not is_a(camera, CameraPath):
        raise EgoXInputError(
            f"camera of the {label}",
            got=type(camera).__name__,
            expected="a CameraPath",
            fix="make one of lens and poses: CameraPath.of_exo",
        )
    for name, value in vars(payload).items():
        if isinstance(value, np.ndarray):
            tensor = as_tensor(value, f"{name} of the {label}", *[None] * value.ndim)
            object.__setattr__(payload, name, tensor)


PayloadOfFrames = TypeVar("PayloadOfFrames", DepthVideo, CameraTrajectory)
OF_FRAMES = ("depth_m", "dynamic", "sky", "trust", "guessed")
"""Fields of these payloads with an entry per frame, beside their cameras."""


def of_frames(
    payload: PayloadOfFrames,
    frames: slice | Tensor,  # [N] int64
) -> PayloadOfFrames:
    """Select some frames of a depth video or trajectory."""
    selected_fields: dict[str, Any] = {
        name: value[frames]
        for name, value in vars(payload).items()
        if name in OF_FRAMES and value is not None
    }
    cameras = {
        name: value.select(frames)
        for name, value in vars(payload).items()
        if is_a(value, CameraPath)
    }
    return replace(payload, **selected_fields, **cameras)


@frozen
class TakeNotes:
    """Notes on the file of an ego path: prompt, K, source, and the placement of its poses."""

    prompt: str = ""
    # [3, 3] float64, the ego camera's K as meta.json has it (released GGA rays use it)
    meta_intrinsics: Tensor | None = None
    source: str = ""  # origin of the path
    placed: str = ""  # which frames its poses were found to be of, and how many lie between


@frozen
class PointSet:
    """Coloured points of one moment.

    Each is a small patch of surface between its neighbouring exo samples.
    """

    xyz: Tensor  # [N, 3] float32, metres, scene frame
    rgb: Tensor  # [N, 3] uint8
    steps: Tensor  # [N, 3, 2] float32, metres: along the surface to the next sample rightwards and downwards in exo
    edge: Tensor  # [N] float32, largest relative depth step to a 4-neighbour in the exo depth (0: flat)
    stray: Tensor  # [N] float32, relative depth step by which the point hangs between surfaces (0: on one)
    depth_range: Tensor  # [N] float32, (max - min) / mean of the exo depth in the 5 x 5 window around (0: flat)
    # [N] int16: 0 static, else the number of a connected moving object in its frame
    instance: Tensor
    coarse: Tensor  # [N] bool: one of the samples that the released renderer takes, every second each way

    def __len__(self) -> int:
        return self.xyz.shape[0]

    @classmethod
    def empty(cls) -> PointSet:
        """Make a set of no points."""
        return cls(
            xyz=torch.empty(0, 3),
            rgb=torch.empty(0, 3, dtype=torch.uint8),
            steps=torch.empty(0, 3, 2),
            edge=torch.empty(0),
            stray=torch.empty(0),
            depth_range=torch.empty(0),
            instance=torch.empty(0, dtype=torch.int16),
            coarse=torch.empty(0, dtype=torch.bool),
        )

    @staticmethod
    def join(*sets: PointSet) -> PointSet:
        """Concatenate at least one set of points, in order."""
        nonempty_sets = [points for points in sets if len(points)] or sets[:1]
        return (
            nonempty_sets[0]
            if len(nonempty_sets) == 1
            else _combine_sets(lambda *parts: torch.cat(parts), *nonempty_sets)
        )

    @staticmethod
    def join_moving(parts: Sequence[PointSet]) -> PointSet:
        """Join the moving points of several exo cameras in one frame.

        The objects of each keep numbers of their own.
        """
        joined_points = parts[0]
        for points in parts[1:]:
            last_number = int(joined_points.instance.max()) if len(joined_points) else 0
            instance = torch.where(
                points.instance > 0, points.instance + last_number, points.instance
            )
            joined_points = PointSet.join(
                joined_points, replace(points, instance=instance.to(points.instance.dtype))
            )
        return joined_points

    def select(
        self,
        keep: Tensor,  # [N] bool, or [M] int64 indices
    ) -> PointSet:
        """Select some of the points."""
        keep = keep.nonzero()[:, 0] if keep.dtype == torch.bool else keep
        return _combine_sets(lambda part: part[keep], self)

    def to(self, device: torch.device) -> PointSet:
        """Move the points to a device, or return the same object if they are there already."""
        return (
            self if self.xyz.device == device else _combine_sets(lambda part: part.to(device), self)
        )


def _combine_sets(function: Callable[..., Tensor], *sets: PointSet) -> PointSet:
    """Combine sets of points field by field."""
    return PointSet(
        **{
            field.name: function(*(getattr(point_set, field.name) for point_set in sets))
            for field in fields(PointSet)
        }
    )


class MovingPoints(Protocol):
    """Moving points per frame, computed on access.

    A long clip never has more than one frame of them in memory.
    """

    def __len__(self) -> int:
        """Count the frames."""

    def __getitem__(self, frame: int) -> PointSet:
        """Compute the moving points of one frame."""


@frozen
class ExoSight:
    """Depth up to which one exo camera saw empty space."""

    depth: DepthVideo
    # [H, W] float32 z depth up to which a frame shows space, infinite in the sky, NaN unknown
    map: Callable[[int], Tensor]
    moves: Callable[[int], Tensor]  # [H, W] bool, what moves in a frame
    # [H, W] z depth up to which static space was seen, NaN unknown; None: of an exo camera that moves
    still_m: Tensor | None
    noise: float  # typical relative difference between depth maps of one surface


@dataclass(frozen=True, kw_only=True)  # no slots: nodes hold it weakly
class PointCloud(Kept):
    """Scene of points: a static background, and moving points per frame."""

    static: PointSet
    moving: MovingPoints
    exo: CameraPath  # of the depth maps that the points came from; they are in its world
    notes: tuple[Remark, ...] = ()  # on how it was built
    mean_static: Callable[[Progress], PointSet] | None = None
    """The background as the authors' renderer makes it, the mean over time, computed anew whenever
    it is asked for; None (an exo camera that moves): :attr:`static` is that mean already."""
    # The scenes that were fused, each of one exo camera; empty: not fused.
    parts: tuple[PointCloud, ...] = ()
    # of a scene that isn't fused; None: points without the depth they were lifted from
    sight: ExoSight | None = None

    def __post_init__(self) -> None:
        _set_frame_count(self, len(self.moving))

    @property
    def frames(self) -> Frames:
        """Frames of the moving points."""
        return self.exo.frames

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def exos(self) -> tuple[CameraPath, ...]:
        """Exo cameras that the points came from."""
        return tuple(part.exo for part in self.parts or (self,))

    def points(self, frame: int | None) -> PointSet:
        """Join the static points and, with a frame number, that frame's moving ones."""
        static = self.static
        return (
            static
            if frame is None
            else static.join(static, self.moving[frame].to(static.xyz.device))
        )

    def mean_background(self, progress: Progress = no_progress) -> PointSet:
        """Compute the background that the released presets draw (see :attr:`mean_static`)."""
        if not self.parts:
            return self.static if self.mean_static is None else self.mean_static(progress)
        return PointSet.join(*(part.mean_background(progress) for part in self.parts))


@frozen
class EgoPrior:
    """Ego prior: the exo points as drawn from the ego camera (render(X, D^f, φ) in the paper)."""

    rgb: Tensor  # [T, H, W, 3] float32 0...1, stored (upright) orientation, black where nothing landed
    coverage: Tensor  # [T, H, W] bool, exactly where a point (or a filled gap) landed
    depth_m: Tensor  # [T, H, W] float32, z depth in the ego camera frame, metres; NaN where nothing landed
    trajectory: CameraTrajectory
    seen: Tensor | None = None  # [T, H, W] uint8, :data:`NOW` and the other classes

    def depth(self) -> DepthVideo:
        """Return the prior's depth as a depth video of the ego camera."""
        return DepthVideo(
            depth_m=self.depth_m, exo=self.trajectory.ego.select(slice(len(self.depth_m)))
        )


def video_classes(
    seen: Tensor,  # [...] uint8, of :data:`NOW` and the other classes of a prior
    redrawn: Tensor,  # [...] bool
    kept: Tensor,  # [...] bool, put back
) -> Tensor:  # [...] uint8
    """Classify the pixels of a video that was made from a prior."""
    put_back = torch.where(seen == NOW, KEPT_NOW, KEPT_EARLIER)
    observed = torch.where(redrawn, REDRAWN, torch.where(kept, put_back, seen))
    return torch.where(seen >= EARLIER, observed, seen).to(torch.uint8)


def seen_shares(
    seen: Tensor,  # [T, H, W] uint8, of :data:`NOW` and the other classes
) -> dict[str, Tensor]:  # [T] float64 each
    """Compute the shares of each frame that are observed now, earlier, doubtfully and not at all."""
    return {
        name: torch.stack([(frame == kind).double().mean() for frame in seen])
        for name, kind in SEEN_KINDS.items()
    }


def seen_text(
    # The result of seen_shares.
    shares: dict[str, Tensor],
    # Parts of what exo sees, of a video.
    parts: str = "",
) -> str:
    """Describe in one sentence the shares of the pixel classes in the whole clip."""
    now, earlier, doubtful, unobserved = (100 * float(share.mean()) for share in shares.values())
    worst_frame = int(shares["unobserved"].argmax())
    return (
        f"Of all pictures exo sees {now:.0f} % now and {earlier:.0f} % at a different time"
        f"{f' ({parts})' if parts else ''}; {doubtful:.0f} % are doubtful and {unobserved:.0f} % never "
        f"seen (most in frame {worst_frame}: {100 * shares['unobserved'][worst_frame]:.0f} %)"
    )


@frozen
class Canvas:
    """Exo (left) and ego (right) latents of one clip, and how the model gets them.

    Latents are raw, as the host's VAE gives them (its LATENT space); :mod:`egox_core.wan.canvas`
    works in model space, so a node puts them through the host's ``latent_format.process_in`` once.

    Raises:
        EgoXInputError: latents of other sizes than frames and pixels say, ego not as high as exo,
            unknown mask mode.
    """

    exo_latent: Tensor  # [B, 16, t, h, w_exo] raw VAE latent; t, h, w in latents (see sizes)
    prior_latent: Tensor  # [B, 16, t, h, w_ego] raw VAE latent of the ego prior
    frames: int  # video frames, 4n+1
    exo_size: tuple[int, int]  # (width, height) px
    ego_size: tuple[int, int]  # (width, height) px
    mask_mode: MaskMode = "released"
    image_embedding: ImageEmbeddingMode = "released"
    # the sampler's seed that the image embedding was drawn with, from the host's noise; None: unknown
    noise_seed: int | None = None
    # [17, 3] rough colours of raw latents, for previews; see wan.latents
    latent_colours: Tensor | None = None

    def __post_init__(self) -> None:
        t = latent_frames(self.frames)
        h, w_exo, w_ego = canvas_size(self.exo_size, self.ego_size)
        for name, latent, w in (
            ("exo latent", self.exo_latent, w_exo),
            ("prior latent", self.prior_latent, w_ego),
        ):
            if latent.ndim != 5 or latent.shape[1:] != (CHANNELS, t, h, w):
                raise EgoXInputError(
                    name,
                    got=f"shape {tuple(latent.shape)}",
                    expected=f"[B, {CHANNELS}, {t}, {h}, {w}]",
                    fix="encode exactly the frames and size of the canvas with the Wan VAE",
                )
        check_choice(
            "mask mode", self.mask_mode, MASK_MODES, "resolve auto before the canvas is made"
        )

    def check_sampled(
        self,
        ego_latent: Tensor,  # [B, 16, t, h, w_ego]
    ) -> None:
        """Refuse, before sampling, an ego latent of another frame count or size.

        Raises:
            EgoXInputError: other frame count or size.
        """
        t, h, _, w_ego = self.latent_grid
        latent_shape = tuple(ego_latent.shape[-3:])
        if latent_shape != (t, h, w_ego):
            raise EgoXInputError(
                "latent to sample",
                got=f"{latent_shape[0]} latent frames of {latent_shape[1]}x{latent_shape[2]}",
                expected=f"{t} latent frames of {h}x{w_ego}",
                fix="sample the latent that came with this canvas",
            )

    @property
    def latent_grid(self) -> tuple[int, int, int, int]:
        """Size of the canvas in latents: (t, h, w_exo, w_ego)."""
        _, _, t, h, w_exo = self.exo_latent.shape
        return t, h, w_exo, self.prior_latent.shape[-1]


@frozen
class GgaGeometry:
    """Ray directions that geometry-guided attention compares.

    Computed once per sampling run; a few MB, float32.

    Tokens: t latent frames of h x (w_exo + w_ego) patches, token = f * h * w + r * w + c with w =
    w_exo + w_ego, exo columns first. A query's direction is its pixel's viewing ray, a key's
    the way from the ego camera (of the query's frame) to the exo point that it shows; both in
    world axes. Ego keys and keys without depth are the zero vector.
    """

    query_dirs: Tensor  # [t, h * w_ego, 3] float32, |dir| <= 1 (pooled, not renormalised)
    key_dirs: Tensor  # [t (query frame), t * h * w, 3] float32, over all tokens; zero vectors as said above
    key_trust: Tensor  # [t * h * w] float32 0...1: share of the token whose depth is known and trusted; 0 for ego keys
    grid: tuple[int, int, int, int]  # (t, h, w_exo, w_ego) in tokens
    rays: str = "released"  # a RayMode, or the trainer's
    cameras: tuple[Remark, ...] = ()  # on those that it is made of
    # True if every key_trust is 0 or 1; computed once, because a GPU has to wait for it.
    all_or_nothing: bool = field(init=False)
    # what kernels keep of it, by all else that it depends on; gone with this object
    made: dict[tuple, tuple[Tensor, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "all_or_nothing", bool(((self.key_trust == 0) | (self.key_trust == 1)).all())
        )

    def notes(self) -> list[str]:
        """Describe the share of exo tokens without depth, which guide nothing, and the cameras."""
        t, h, w_exo, w_ego = self.grid
        exo = self.key_trust.view(t, h, w_exo + w_ego)[..., :w_exo]
        missing_share = float((exo == 0).float().mean())
        sentences = [str(camera) for camera in self.cameras]
        if missing_share > 0:
            missing = f"{missing_share:.1%} of the exo tokens have no depth and guide nothing"
            sentences.insert(0, missing)
        return sentences

    @property
    def tokens(self) -> int:
        """Number of tokens of the canvas."""
        t, h, w_exo, w_ego = self.grid
        return t * h * (w_exo + w_ego)

    def to(self, device: torch.device | str) -> GgaGeometry:
        """Copy to a different device.

        The dtype stays float32, which the logarithm near cos = -1 needs.
        """
        return replace(
            self,
            query_dirs=self.query_dirs.to(device),
            key_dirs=self.key_dirs.to(device),
            key_trust=self.key_trust.to(device),
        )

    def select_frames(self, latent_frames: list[int]) -> GgaGeometry:
        """Select some latent frames, in order (for the context windows of a host)."""
        t, h, w_exo, w_ego = self.grid
        index = torch.as_tensor(latent_frames, dtype=torch.int64, device=self.query_dirs.device)
        per_frame = h * (w_exo + w_ego)
        keys = self.key_dirs[index].unflatten(1, (t, per_frame))[:, index].flatten(1, 2)
        return replace(
            self,
            query_dirs=self.query_dirs[index],
            key_dirs=keys,
            key_trust=self.key_trust.unflatten(0, (t, per_frame))[index].flatten(),
            grid=(len(latent_frames), h, w_exo, w_ego),
        )


@frozen
class TakeMeta:
    """Entry of a meta.json for one take, with both cameras in one world."""

    name: str  # used in error messages
    prompt: str = ""
    # [3, 3] float64, exo K, of a picture that it is centred in
    camera_intrinsics: Tensor | None = None
    # poses numbered by source frame; the lens only where the file has the exact one (ours do)
    exo: CameraPath = CameraPath.of_exo(None)  # noqa: RUF009  frozen
    ego_intrinsics: Tensor | None = None  # [3, 3] float64
    ego_lens: CameraModel | None = None  # the exact one, too
    ego: CameraPath | None = None  # with that lens, numbered by source frame; None: no poses
    exo_path: str = ""  # as written, never opened
    # who made the ego poses, if the file names it; empty: somebody who measured them
    pose_source: str = ""

    @property
    def notes(self) -> TakeNotes:
        """Notes that accompany the ego path."""
        return TakeNotes(prompt=self.prompt, meta_intrinsics=self.ego_intrinsics, source=self.name)

    @property
    def exo_camera(self) -> CameraModel | None:
        """Exo camera with the exact lens or, if unknown, with K and a picture centred on it."""
        k = self.camera_intrinsics
        if self.exo.lens is not None or k is None:
            return self.exo.lens
        size = max(1, round(2 * float(k[0, 2]))), max(1, round(2 * float(k[1, 2])))
        return CameraModel.from_intrinsics(k, *size, name=f"camera_intrinsics of {self.name}")
