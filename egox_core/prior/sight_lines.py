"""Measure how much of each ego camera ray runs through space that no exo frame has seen empty.

A point cloud has no inside: the eye looks through a box's front, which exo never saw, at its back.
A place is hidden behind what an exo picture shows, and empty where one shows something farther
away. Static space is empty if any frame of any camera saw through it; right behind what moves only
the frames of that time count. Outside of all pictures space counts as empty: drawn rooms cropped so
that the wearer's head is out of the picture have 99.7 % of the observed right, and half of the
doubt."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import CameraPath, compose, invert, transform
from ..errors import EgoXInputError
from ..frame_store import sample_frames
from ..frozen import frozen
from ..types import DOUBTFUL, EARLIER, NOW, UNOBSERVED, ExoSight, PointCloud
from .splat_points import SplatImage, SplatOptions

STEPS = 40
"""Places that are asked about on each line, each farther by the same factor, so that what is in
front of the eye isn't missed on long lines (``benchmarks/results/sight_lines.md``)."""
NEAR_M, END_SHARE = 0.2, 0.985
"""Metres from the eye where lines begin, in front of the wearer's own head, and share of the way
at which they end, before the point's own surface."""
HIDDEN_M = 0.02
"""Length from which on a line counts as hidden: a single place of most lines."""
TOLERANCE_M, LINE_NOISES, POINT_NOISES = 0.03, 2.0, 4.0
"""Least tolerance; what is added to it, in typical depth errors, for a line and for whether a point
is visible."""
BODY_M = 0.4
"""Depth of what moves: so far behind its visible side space may be filled."""
ONE_SURFACE = 0.05
"""Relative depth within which the four pixels of a block share a line."""
KEY_FRAMES = 5
"""Of an exo camera that moves: drawn rooms are the same with 13."""
LINES_AT_ONCE = 8192
Part = tuple[PointCloud, ExoSight]


@frozen
class DepthBound:
    """Exo depth map as a bound of the space that is known to be empty."""

    exo: CameraPath  # as it stands in the picture's frame
    scene_from_ego: Tensor  # [3, 4] float64
    depth_m: Tensor  # [H, W] z depth; infinite in the sky, NaN unknown
    moves: Tensor  # [H, W] bool
    noise: float  # typical relative error of depth

    def look(
        self,
        places: Tensor,  # [..., 3] ego frame, metres
        # Tolerance in typical errors.
        tolerance_errors: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Look up the exo depth map's depth, tolerance and pixel for each point.

        Returns:
            Z depth in that camera, NaN outside of its picture; tolerance, metres; their pixels.
        """
        exo_from_ego = compose(self.exo.at(0), self.scene_from_ego).to(places)
        exo_places = transform(exo_from_ego, places)
        _, pixel, in_picture = self.exo.camera.look_up(exo_places)
        depth = torch.where(in_picture, exo_places[..., 2], torch.nan)
        return depth, TOLERANCE_M + tolerance_errors * self.noise * depth, pixel

    def shows(
        self,
        points: Tensor,  # [N, 3] ego frame, metres
    ) -> Tensor:  # [N] bool
        """Check whether a point lies on the surface of one of the 3 x 3 pixels around it."""
        depth, tolerance, pixel = self.look(points, POINT_NOISES)
        padded = F.pad(self.depth_m, (1, 1, 1, 1), value=torch.nan)
        neighbour_depths = padded.unfold(0, 3, 1).unfold(1, 3, 1).flatten(0, 1)[pixel]  # [N, 3, 3]
        return ((depth - neighbour_depths.movedim(0, -1)).abs() <= tolerance).any(0).any(0)


def hidden_length(
    points: Tensor,  # [N, 3] ego frame, metres
    # Bounds of each exo camera, at the time of the ego frame.
    current_bounds: list[DepthBound],
    # Bounds of static space.
    static_bounds: list[DepthBound],
) -> Tensor:  # [N] metres
    """Measure the length of each sight line that is hidden behind surfaces and never seen empty."""
    line_shares = torch.linspace(0, 1, STEPS + 1, device=points.device)
    lengths = []
    for point_batch in points.split(LINES_AT_ONCE):
        length = point_batch.norm(dim=-1)
        start_share = (NEAR_M / length).clamp(max=END_SHARE)
        probe_shares = (
            start_share[:, None] * (END_SHARE / start_share)[:, None] ** line_shares
        )  # [n, STEPS + 1], of the way
        probe_points = point_batch[:, None] * probe_shares[:, 1:, None]
        hidden_mask, filled_mask, empty_mask = torch.zeros(
            3, *probe_points.shape[:2], dtype=torch.bool, device=point_batch.device
        )
        for bound in current_bounds:
            depth, tolerance, pixel = bound.look(probe_points, LINE_NOISES)
            behind_m = depth - bound.depth_m.view(-1)[pixel] - tolerance
            hidden_mask |= behind_m > 0
            filled_mask |= bound.moves.view(-1)[pixel] & (behind_m > 0) & (behind_m < BODY_M)
            empty_mask |= behind_m <= 0
        hidden_mask &= ~empty_mask
        for bound in static_bounds:
            line_numbers, step_numbers = (hidden_mask & ~filled_mask).nonzero(as_tuple=True)
            depth, tolerance, pixel = bound.look(
                probe_points[line_numbers, step_numbers], LINE_NOISES
            )
            sees_through = depth <= bound.depth_m.view(-1)[pixel] + tolerance
            hidden_mask[line_numbers[sees_through], step_numbers[sees_through]] = False
        lengths.append((hidden_mask * probe_shares.diff(dim=1)).sum(1) * length)
    return torch.cat(lengths)


class SightLines:
    """Classifier of a prior's pixels by their sight lines, frame by frame.

    Raises:
        EgoXInputError: a scene without the depth it was built of.
    """

    def __init__(self, scene: PointCloud, ego: CameraPath, splat: SplatOptions) -> None:
        parts = scene.parts or (scene,)
        self._parts = [(part, part.sight) for part in parts if part.sight is not None]
        if len(self._parts) < len(parts):
            raise EgoXInputError(
                "scene for sight lines",
                got="points without the depth they were lifted from",
                expected="both",
                fix="make the scene by stages.scene",
            )
        self._ego = ego
        self._depth_is_z = splat.depth_is_z
        self._pixel_grid_on = lru_cache(maxsize=1)(ego.camera.pixel_grid().to)
        self._static_maps_on = lru_cache(maxsize=1)(self._list_static_maps)

    def classes(
        self,
        image: SplatImage,
        frame: int,
    ) -> Tensor:  # [H, W] uint8
        """Classify each drawn pixel as observed, doubtful or unobserved by the ray to its surface.

        A block of 2 x 2 pixels shares the line of its first one, but for those that are on
        another surface.
        """
        depth = image.depth
        device = image.depth.device
        scene_from_ego = invert(self._ego.at(frame))

        def make_bound(part: Part, pose_frame: int, depth_m: Tensor, moves: Tensor) -> DepthBound:
            scene, sight = part
            return DepthBound(
                exo=scene.exo.one(pose_frame),
                scene_from_ego=scene_from_ego,
                depth_m=depth_m.to(device),
                moves=moves.to(device),
                noise=sight.noise,
            )

        frame_bounds = [
            make_bound(
                part_and_sight, frame, part_and_sight[1].map(frame), part_and_sight[1].moves(frame)
            )
            for part_and_sight in self._parts
        ]
        static_bounds = [make_bound(*still_map) for still_map in self._static_maps_on(device)]
        rays, _ = self._ego.camera.unproject(self._pixel_grid_on(device) + image.off)
        landed_mask = image.coverage & torch.isfinite(depth)
        points = rays * (depth / rays[..., 2] if self._depth_is_z else depth)[..., None]
        block_depth = _first_of_block(depth)
        walked_mask = landed_mask & (
            (depth == block_depth) | ~((depth - block_depth).abs() <= ONE_SURFACE * block_depth)
        )
        length = torch.full_like(depth, torch.nan)
        length[walked_mask] = hidden_length(points[walked_mask], frame_bounds, static_bounds)
        hidden_mask = torch.where(walked_mask, length, _first_of_block(length)) > HIDDEN_M
        shown_mask = torch.zeros_like(landed_mask)
        shown_mask[landed_mask] = torch.stack(
            [bound.shows(points[landed_mask]) for bound in frame_bounds]
        ).any(0)
        classes = torch.where(shown_mask, NOW, EARLIER).masked_fill(
            hidden_mask | image.back, DOUBTFUL
        )
        return classes.masked_fill(~landed_mask, UNOBSERVED).to(torch.uint8)

    def _list_static_maps(self, device: torch.device) -> list[tuple[Part, int, Tensor, Tensor]]:
        """List the depth maps of the static scene with the frames of their poses.

        Each is scene part, frame of the pose, depth [H, W] and an empty mask of motion."""
        static_maps = []
        for part in self._parts:
            scene, sight = part
            if sight.still_m is not None:
                maps = {0: sight.still_m}
            else:
                maps = {t: sight.map(t) for t in sample_frames(scene.frame_count, KEY_FRAMES)}
            for frame, depth_m in maps.items():
                no_motion = torch.zeros_like(depth_m, dtype=torch.bool, device=device)
                static_maps.append((part, frame, depth_m.to(device), no_motion))
        return static_maps


def _first_of_block(values: Tensor) -> Tensor:  # [H, W]
    """Repeat the first value of each block of 2 x 2 pixels in all four pixels."""
    height, width = values.shape
    return values[::2, ::2].repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width]
