"""Sight lines: how much of the way from the ego camera to a drawn point no exo frame has seen empty.

A point cloud has no inside: the eye looks through a box's front, which exo never saw, at its back.
A place is hidden behind what an exo picture shows, and empty where one shows something farther away.
Static space is empty if any frame of any camera saw through it; right behind what moves only the
frames of that time count. Outside of all pictures space counts as empty: drawn rooms cropped so that
the wearer's head is out of the picture have 99.7 % of the observed right, and half of the doubt."""

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
"""Places that are asked about on each line. Each is farther by the same factor, so that what is in
front of the eye isn't missed on long lines: of a soccer player's, 9 % changed between free and
hidden from frame to frame with even steps, 3 % with these. Drawn rooms are the same."""
NEAR_M, SHARE = 0.2, 0.985
"""Metres from the eye where lines begin, in front of the wearer's own head; share of the way at which
they end, before the point's own surface."""
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
    """One exo picture as a bound of empty space."""

    exo: CameraPath  # as it stands in the picture's frame
    scene_from_ego: Tensor  # [3, 4] float64
    depth_m: Tensor  # [H, W] z depth; infinite in the sky, NaN unknown
    moves: Tensor  # [H, W] bool
    noise: float  # typical relative error of depth

    def look(
        self,
        places: Tensor,  # [..., 3] ego frame, metres
        # Tolerance in typical errors.
        noises: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(z depth of places in the exo camera, NaN outside of its picture; tolerance, metres;
        their pixels)."""
        exo_from_ego = compose(self.exo.at(0), self.scene_from_ego).to(places)
        at = transform(exo_from_ego, places)
        _, pixel, seen = self.exo.camera.look_up(at)
        z = torch.where(seen, at[..., 2], torch.nan)
        return z, TOLERANCE_M + noises * self.noise * z, pixel

    def shows(
        self,
        points: Tensor,  # [N, 3] ego frame, metres
    ) -> Tensor:  # [N] bool
        """Check whether one of the 3 x 3 pixels around has its surface where a point is."""
        z, tolerance, pixel = self.look(points, POINT_NOISES)
        padded = F.pad(self.depth_m, (1, 1, 1, 1), value=torch.nan)
        around = padded.unfold(0, 3, 1).unfold(1, 3, 1).flatten(0, 1)[pixel]  # [N, 3, 3]
        return ((z - around.movedim(0, -1)).abs() <= tolerance).any(0).any(0)


def hidden_length(
    points: Tensor,  # [N, 3] ego frame, metres
    # Bounds of each exo camera, at the time of the ego frame.
    now: list[DepthBound],
    # Bounds of static space.
    ever: list[DepthBound],
) -> Tensor:  # [N] metres
    """Length of the way from the eye to each point that is behind what a picture of now shows, and
    that none of the pictures has seen empty."""
    shares = torch.linspace(0, 1, STEPS + 1, device=points.device)
    lengths = []
    for part in points.split(LINES_AT_ONCE):
        length = part.norm(dim=-1)
        start = (NEAR_M / length).clamp(max=SHARE)
        reach = start[:, None] * (SHARE / start)[:, None] ** shares  # [n, STEPS + 1], of the way
        places = part[:, None] * reach[:, 1:, None]
        hidden, filled, empty = torch.zeros(
            3, *places.shape[:2], dtype=torch.bool, device=part.device
        )
        for picture in now:
            z, tolerance, pixel = picture.look(places, LINE_NOISES)
            behind = z - picture.depth_m.view(-1)[pixel] - tolerance
            hidden |= behind > 0
            filled |= picture.moves.view(-1)[pixel] & (behind > 0) & (behind < BODY_M)
            empty |= behind <= 0
        hidden &= ~empty
        for picture in ever:
            line, step = (hidden & ~filled).nonzero(as_tuple=True)
            z, tolerance, pixel = picture.look(places[line, step], LINE_NOISES)
            through = z <= picture.depth_m.view(-1)[pixel] + tolerance
            hidden[line[through], step[through]] = False
        lengths.append((hidden * reach.diff(dim=1)).sum(1) * length)
    return torch.cat(lengths)


class SightLines:
    """Classes of a prior's pixels, frame by frame.

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
        self._ego, self._depth_is_z = ego, splat.depth_is_z
        self._pixels = lru_cache(maxsize=1)(ego.camera.pixel_grid().to)
        self._still = lru_cache(maxsize=1)(self._still_maps)

    def classes(
        self,
        image: SplatImage,
        frame: int,
    ) -> Tensor:  # [H, W] uint8
        """Classes of a drawn picture.

        A block of 2 x 2 pixels shares the line of its first one, but for those that are on another
        surface.
        """
        depth, device, scene_from_ego = image.depth, image.depth.device, invert(self._ego.at(frame))

        def bound(part: Part, at: int, depth_m: Tensor, moves: Tensor) -> DepthBound:
            scene, sight = part
            return DepthBound(
                exo=scene.exo.one(at),
                scene_from_ego=scene_from_ego,
                depth_m=depth_m.to(device),
                moves=moves.to(device),
                noise=sight.noise,
            )

        now = [bound(p, frame, p[1].map(frame), p[1].moves(frame)) for p in self._parts]
        ever = [bound(*still) for still in self._still(device)]
        rays, _ = self._ego.camera.unproject(self._pixels(device) + image.off)
        landed = image.coverage & torch.isfinite(depth)
        points = rays * (depth / rays[..., 2] if self._depth_is_z else depth)[..., None]
        near = _of_blocks(depth)
        walked = landed & ((depth == near) | ~((depth - near).abs() <= ONE_SURFACE * near))
        length = torch.full_like(depth, torch.nan)
        length[walked] = hidden_length(points[walked], now, ever)
        hidden = torch.where(walked, length, _of_blocks(length)) > HIDDEN_M
        shown = torch.zeros_like(landed)
        shown[landed] = torch.stack([picture.shows(points[landed]) for picture in now]).any(0)
        classes = torch.where(shown, NOW, EARLIER).masked_fill(hidden | image.back, DOUBTFUL)
        return classes.masked_fill(~landed, UNOBSERVED).to(torch.uint8)

    def _still_maps(self, device: torch.device) -> list[tuple[Part, int, Tensor, Tensor]]:
        """(part, frame whose pose holds, depth [H, W], nothing moves) of static space."""
        stills = []
        for part in self._parts:
            scene, sight = part
            if sight.still_m is not None:
                maps = {0: sight.still_m}
            else:
                maps = {t: sight.map(t) for t in sample_frames(scene.frame_count, KEY_FRAMES)}
            for frame, depth_m in maps.items():
                nothing = torch.zeros_like(depth_m, dtype=torch.bool, device=device)
                stills.append((part, frame, depth_m.to(device), nothing))
        return stills


def _of_blocks(values: Tensor) -> Tensor:  # [H, W]
    """The first value of each block of 2 x 2 pixels, in all four."""
    height, width = values.shape
    return values[::2, ::2].repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width]
