"""Define the ego camera's path, tied to the exo camera by their world."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ..cameras import CameraPath, compose, invert
from ..errors import EgoXInputError
from ..frames import Frames
from ..remarks import FactRow, Remark, RemarkKind
from .kept import Kept, convert_arrays


def _other_video(path_frames: Frames, *others: Frames) -> tuple[Remark, ...]:
    """Warn if a path was made for another video than those of the given frames."""
    if path_frames.source is None or not all(
        path_frames.of_other_video(frames) for frames in others
    ):
        return ()
    names = {"/".join(frames.source.parts[-2:]) for frames in others if frames.source is not None}
    warning = (
        f"warning: the path is of {'/'.join(path_frames.source.parts[-2:])}, all else of "
        f"{', '.join(sorted(names))}. If these are two cameras, give depth and path the exo pose "
        "of each, in one world; if they show the same, all is right"
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
    facts: tuple[FactRow, ...] = ()  # what was settled of the path, and by whom
    # rotation vector by which the poses were turned from the ordered ones to what a video shows,
    # axes of the upright picture; None: they are the ordered ones
    corrected_deg: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        convert_arrays(self, self.ego, "ego trajectory")
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
                got=(
                    "poses in a world of another program, in which nobody knows where the exo "
                    "camera is"
                ),
                expected="a path that is tied to the scene",
                fix="give stages.path the scene",
            )
        return self.exo

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
            "warning: the exo camera of the path's file isn't that of scene and depth: "
            f"{path_exo.first_words}, against {owners[0].first_words}. If it is another camera of "
            "the take, all is right; if it is the same one, these are two worlds: take both from "
            "one file, or give the depth no exo pose, so that the path's ties it"
        )
        return (Remark(warning, RemarkKind.WARNING),)

    def other_hands(self, frames: Frames) -> tuple[Remark, ...]:
        """Warn if the hands were tracked in another video than that of the path's exo camera."""
        return () if self.exo is None else _other_video(self.exo.frames, frames)

    def exo_of(self, exo: CameraPath) -> CameraPath:
        """Settle the exo camera in the path's world between the path's file and a depth.

        The lens is the depth's. So are the poses, unless they are in its own frame and the path in
        the take's world: then a camera that moves in the depth alone begins where the file has it.

        Raises:
            EgoXInputError: a path whose world nobody knows.
        """
        path_exo = self.required_exo
        if path_exo.world == "exo" or exo.world == "take":
            return exo
        if exo.moves and not path_exo.moves:
            return replace(exo, w2c=compose(exo.w2c, path_exo.at(0)), world=path_exo.world)
        return replace(path_exo, lens=exo.lens, lens_guessed=exo.lens_guessed)

    def with_depth_camera(self, exo: CameraPath) -> CameraTrajectory:
        """Copy the path with the exo camera that is settled with a depth's.

        Raises:
            EgoXInputError: a path whose world nobody knows, or of other moments.
        """
        settled_exo = self.exo_of(exo)
        self.check_moments(exo.frames, "depth")
        ego = replace(self.ego, world=settled_exo.world)
        return replace(self, ego=ego, exo=settled_exo)

    def in_world_of(self, exo: CameraPath) -> CameraTrajectory:
        """Move the path into the world of the scene's or depth's exo camera.

        Poses in the take's world stay there or, where that camera's isn't known, go to its own
        frame; others are taken to be in its world, whichever it is. The exo camera of the path's
        own file serves for that alone; :meth:`other_exo` compares both.

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
                fix=(
                    "give the exo poses (of meta.json) to stages.align, so that the scene is built "
                    "in the world"
                ),
            )
        w2c = compose(self.ego.w2c, invert(self.exo.at(0)))
        return replace(self, ego=replace(self.ego, w2c=w2c, world=exo.world), exo=exo)
