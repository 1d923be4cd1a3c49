"""Measure the angle between an ego video's view and its camera path.

Each compared frame is aligned with the scene as it looks from the ordered pose, and so are all of
them together. The reference is the *rendered* path: where depth is wrong, the angle tells of the
depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..cameras import CameraModel, sensor_from_upright
from ..errors import EgoXInputError
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..types import CameraTrajectory, DepthVideo
from .clip_turn import ClipTurn, joined_turns
from .exact_scene import exact_scene
from .frame_alignment import (
    MIN_COVERED,
    SPREAD_FACTOR,
    PathRenders,
    PictureMatch,
    Pose,
    best_pose,
    coarse_turns,
    rotation_matrices,
)
from .scene_fit import SceneFit, SizePrior, fit_scene
from .turn_search import find_clip_turn

if TYPE_CHECKING:
    from typing_extensions import Self

MIN_SCORE, MAX_SPREAD_DEG = 0.45, 3.0
"""Correlation and spread from which on a frame counts as judged: of drawn rooms, another room's
frames and noise reach 0.34, 95 % of the true ones 0.55 or more."""


@frozen
class PathError:
    """Rotation from the path to the video's view in N compared frames, NaN where not judged.

    Axes of the upright picture: x right, y down, z forward.
    """

    turn_deg: Tensor  # [N, 3] rotation vector from the ordered camera to the video's
    spread_deg: Tensor  # [N] standard error of the turn
    score: Tensor  # [N] correlation with the render at the best turn, judged or not
    shift_m: Tensor  # [N, 3] from the video's camera to the ordered one
    step: int = 1
    """From one compared frame to the next; the first is compared."""
    clip: ClipTurn = field(default_factory=ClipTurn.unmeasured)
    """The one turn of all frames, with its interval, or why it can't be judged."""

    @property
    def angle_deg(self) -> Tensor:  # [N]
        """Angle of each frame's rotation in degrees."""
        return self.turn_deg.norm(dim=-1)

    def ordered_deg(self, path: CameraTrajectory) -> Tensor:  # [N]
        """Compute each frame's angle to the ordered poses, if ``path`` is a correction of them."""
        before_deg = torch.tensor(path.corrected_deg or (0, 0, 0), dtype=torch.float64)
        if not bool(before_deg.any()):
            return self.angle_deg
        return joined_turns(self.turn_deg.double(), before_deg).norm(dim=-1).float()

    @property
    def judged(self) -> Tensor:  # [N] bool
        """Mask of the frames that could be judged."""
        return torch.isfinite(self.spread_deg)

    @property
    def median_deg(self) -> float | None:
        """Median angle over the judged frames, or None if none could be judged."""
        return float(self.angle_deg.nanmedian()) if bool(self.judged.any()) else None

    def warp_classes(
        self,
        classes: Tensor,  # [T, H, W] of the ordered view's pixels
        # The camera of the ordered path.
        camera: CameraModel,
    ) -> Tensor:  # [T, H, W] of the video's pixels
        """Warp maps of pixel classes from the path's to the video's view.

        Each frame's map is turned as the frame was found to be (nearest neighbour, and 0
        beyond the picture). A frame for which nothing was found keeps its map.
        """
        frames, height, width = classes.shape
        camera = camera.rescale(width, height)
        rays, in_picture = camera.pixel_rays(torch.float64)
        upright_axes = sensor_from_upright(camera.quarter_turns).to(self.turn_deg)
        turns_back = rotation_matrices(
            np.deg2rad(-(self.turn_deg.nan_to_num(0.0) @ upright_axes.T).numpy())
        )
        moved_classes = []
        for segment, turn in enumerate(torch.from_numpy(turns_back)):
            part_classes = classes[segment * self.step : (segment + 1) * self.step]
            _, pixel, in_lens = camera.look_up(rays @ turn.T)
            turned_classes = part_classes.flatten(1)[:, pixel.flatten()].view_as(part_classes)
            kept_mask = ~self.judged[segment] | ~in_picture
            moved_classes.append(
                torch.where(kept_mask, part_classes, turned_classes.where(in_lens, 0))
            )
        return torch.cat(moved_classes)

    def text(self) -> str:
        """Describe the deviation of the frames, and the clip's turn, in one line."""
        if self.median_deg is None:
            return self.clip.text() if self.clip.judged else self._frames_text()
        return f"{self._frames_text()}. {self.clip.text()}"

    def _frames_text(self) -> str:
        compared_count = len(self.judged)
        judged_count = int(self.judged.sum())
        if self.median_deg is None:
            return (
                "Whether the view follows the path can't be judged: none of the "
                f"{compared_count} compared frames looks enough like the scene"
            )
        left_out = (
            ""
            if judged_count == compared_count
            else f" of {compared_count}, the others can't be judged"
        )
        spread_deg = float(self.spread_deg.nanmedian())
        return (
            f"The view is {self.median_deg:.1f}° off the head path (median of {judged_count} frames"
            f"{left_out}; each measured to ± {spread_deg:.1f}°, less surely where the depth is "
            "wrong)"
        )


@frozen
class PathViews(PathRenders):
    """Renders of a scene from the poses of a path, which videos are compared with."""

    @classmethod
    def exact(
        cls,
        exo: Tensor,  # [T, H, W, 3] 0...1
        depth: DepthVideo,
        trajectory: CameraTrajectory,
        *,
        progress: Progress = no_progress,
    ) -> tuple[Self, str] | None:
        """Render the scene with a take's true exo lens and scale (:mod:`.exact_scene`).

        A note says both. None where no such lens is known, or the take's scene has it already.
        """
        exact_result = exact_scene(exo, depth, trajectory, progress=progress)
        if exact_result is None:
            return None
        scene, note = exact_result
        return cls.of(scene, trajectory, progress=progress), note

    @torch.inference_mode()
    def error(
        self,
        video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
        *,
        # Also search the clip's one turn, which takes three quarters of the time.
        with_clip: bool = True,
    ) -> PathError:
        """Measure how far each rendered frame of a video is turned and shifted against its pose.

        Raises:
            EgoXInputError: another count of frames than the scene's.
        """
        from scipy.spatial.transform import Rotation

        match = self._match(video)
        with ThreadPoolExecutor() as pool:
            frame_poses = list(
                pool.map(partial(best_pose, match), range(len(match.video)), coarse_turns(match))
            )
        upright_axes = sensor_from_upright(self.camera.quarter_turns).numpy()
        turn = Rotation.from_matrix(np.stack([pose.rotation for pose in frame_poses])).as_rotvec(
            degrees=True
        )
        score = np.array([pose.score for pose in frame_poses])
        shift = np.stack([p.shift for p in frame_poses])
        spread = np.rad2deg([pose.spread for pose in frame_poses]) * SPREAD_FACTOR
        coverage = np.array([mask.mean() for mask in self.masks])
        judged_mask = (score >= MIN_SCORE) & (spread <= MAX_SPREAD_DEG) & (coverage >= MIN_COVERED)
        nan_if_unjudged = np.where(judged_mask, 0.0, np.nan)
        return PathError(
            turn_deg=torch.from_numpy(turn @ upright_axes + nan_if_unjudged[:, None]).float(),
            spread_deg=torch.from_numpy(spread + nan_if_unjudged).float(),
            score=torch.from_numpy(score).float(),
            shift_m=torch.from_numpy(shift @ upright_axes + nan_if_unjudged[:, None]).float(),
            step=self.step,
            clip=find_clip_turn(match) if with_clip else ClipTurn.unmeasured(),
        )

    @torch.inference_mode()
    def clip_turn(
        self,
        video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    ) -> ClipTurn:
        """Measure the one turn of all frames, without the values of each.

        Raises:
            EgoXInputError: another count of frames than the scene's.
        """
        return find_clip_turn(self._match(video))

    @torch.inference_mode()
    def scene_fit(
        self,
        video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
        # The path that was rendered, in the scene's world.
        trajectory: CameraTrajectory,
        size: SizePrior,
        *,
        starts: Sequence[Pose] = (Pose.unchanged(),),
        is_focal_known: bool = True,
    ) -> SceneFit | None:
        """Fit the ego camera's pose and the scene's shape to a video (:mod:`.scene_fit`).

        Raises:
            EgoXInputError: another count of frames than the scene's, no exo camera in the path.
        """
        ego_from_exo = trajectory.ego.seen_from(trajectory.required_exo)[:: self.step].numpy()
        return fit_scene(
            self._match(video), ego_from_exo, size, starts, is_focal_known=is_focal_known
        )

    def _match(self, video: Tensor) -> PictureMatch:
        if len(video) != len(self.frames):
            raise EgoXInputError(
                "ego video and scene",
                got=f"{len(video)} and {len(self.frames)} frames",
                expected="as many",
                fix="give the scene that the ego prior was rendered from",
            )
        return PictureMatch.of(video, self)
