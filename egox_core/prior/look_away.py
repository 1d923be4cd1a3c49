"""Remember generated surfaces that no exo camera saw, so that later chunks show them again.

A place without a surface in the scene gets a guessed one. A wrong guess shows only where the head
has moved: at a distance z, an error of the guess by a share e turns into an angle of about e times
the head's way / z. Hence the memory is drawn near the place where it was made only
(:data:`MAX_PARALLAX`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import CameraPath, camera_centre, invert, transform
from ..progress import Progress, no_progress
from ..remarks import Remark
from ..scene import build_scene, lift
from ..sizes import FRAMES_PER_LATENT
from ..types import CameraTrajectory, DepthVideo, PointCloud, PointSet
from .device import DrawingDevice
from .drawing import draw_points
from .options import CLEAN
from .render import PriorFrame, iter_ego_prior

SEEN = replace(CLEAN, dynamic="keep", supersample=1)
"""Drawing of all that exo saw, and of what is remembered."""
BLACK = 0.02
"""Brightest channel of a prior's pixel that counts as a hole."""
SAME_COLOUR = 0.08
"""Mean difference of a place's colours in two frames from which on it moves
(``benchmarks/results/constants.md``)."""
MAX_PARALLAX = 0.4
"""Head's way, as a share of the scene's median distance, up to which a place is drawn again
(``benchmarks/results/constants.md``)."""


def guess_depth(
    depth_m: Tensor,  # [H, W] z depth, metres, NaN: no surface
    # Depth if nothing is known anywhere.
    fallback_m: float,
) -> Tensor:  # [H, W] without NaN
    """Fill the holes of a depth map from their borders, in inverse depth from coarse to fine."""
    known_mask = torch.isfinite(depth_m)
    levels = [
        (torch.where(known_mask, 1 / depth_m, 0.0)[None, None], known_mask[None, None].float())
    ]
    while min(levels[-1][0].shape[-2:]) > 1:
        levels.append(tuple(F.avg_pool2d(map_part, 2, ceil_mode=True) for map_part in levels[-1]))
    inverse_depth = torch.full_like(levels[-1][0], 1 / fallback_m)
    for value, weight in reversed(levels):
        inverse_depth = F.interpolate(
            inverse_depth, value.shape[-2:], mode="bilinear", align_corners=False
        )
        inverse_depth = torch.where(weight > 0, value / weight.clamp_min(1e-6), inverse_depth)
    return 1 / inverse_depth[0, 0]


@dataclass(frozen=True, slots=True)
class KeptPlaces:
    """Generated points of one chunk, at places that no exo camera saw."""

    points: PointSet  # in the world
    centre: Tensor  # [3] float64, of the head where they were made, world
    distance_m: float  # median of the scene's surfaces


class LookAwayMemory:
    """Memory of generated points at unseen places, which grows chunk by chunk.

    Args:
        device: gives what a chunk is drawn on.

    Attributes:
        notes: why chunks were drawn on the CPU instead; empty where none was.
    """

    def __init__(
        self,
        progress: Progress = no_progress,
        device: Callable[[], torch.device] = SEEN.torch_device,
    ) -> None:
        self.notes: tuple[Remark, ...] = ()
        self._progress, self._device = progress, device
        self._drawing_device: DrawingDevice  # of a chunk
        self._chunks: list[KeptPlaces] = []
        self._unseen_masks: list[Tensor] = []  # [H, W] bool per frame: not seen by exo
        self._depth_m: list[Tensor] = []  # [H, W] per frame
        self._scene: PointCloud | None = None  # of the chunk
        self._path: CameraTrajectory  # that its prior was drawn along

    def fill(
        self,
        exo: Tensor,  # [T, H, W_exo, 3] 0...1
        prior: Tensor,  # [T, H, W, 3] 0...1
        depth: DepthVideo,
        trajectory: CameraTrajectory,
    ) -> Tensor:  # [T, H, W, 3]
        """Fill the holes of a chunk's prior from the memory, without changing observed pixels."""
        self._drawing_device = DrawingDevice(replace(SEEN, device=str(self._device())))
        if not bool(depth.valid.any()):  # no surface to place the chunk's frames by
            self._depth_m = list(torch.full(prior.shape[:3], torch.nan))
            self._scene = None
            return prior
        self._scene = build_scene(exo, depth, progress=self._progress)
        self._path = trajectory = resize_ego_camera(trajectory, prior)
        self._unseen_masks = []
        self._depth_m = []
        filled = prior
        for t, frame in enumerate(self._draw_scene(trajectory)):
            ego = trajectory.ego.one(t)
            hole_mask = ~frame.coverage & (prior[t].amax(-1) <= BLACK)
            # The last chunk's own places come with the known frames.
            rgb, drawn_mask = self._draw(nearby_points(self._chunks[:-1], ego), ego)
            refilled_mask = hole_mask & drawn_mask
            if bool(refilled_mask.any()):
                filled = prior.clone() if filled is prior else filled
                filled[t][refilled_mask] = rgb[refilled_mask].to(filled.dtype)
            self._unseen_masks.append(hole_mask)
            self._depth_m.append(frame.depth_m)
        return filled

    def keep(
        self,
        video: Tensor,  # [T, H, W, 3] 0...1, the chunk that was sampled from the filled prior
        trajectory: CameraTrajectory,
    ) -> None:
        """Store a chunk's static pixels at unseen places in the memory, by the poses it shows."""
        trajectory = resize_ego_camera(trajectory, video)
        if self._scene is not None and not torch.equal(trajectory.ego.w2c, self._path.ego.w2c):
            seen_frames = [(~f.coverage, f.depth_m) for f in self._draw_scene(trajectory)]
            self._unseen_masks, self._depth_m = map(list, zip(*seen_frames, strict=True))
        frames = range(0, len(video), FRAMES_PER_LATENT)
        known_depths = torch.cat(
            [self._depth_m[t][torch.isfinite(self._depth_m[t])] for t in frames]
        )
        if not len(known_depths):
            self._chunks.append(
                KeptPlaces(PointSet.empty(), camera_centre(trajectory.ego.at(0)), 0.0)
            )
            return  # without any surface all distances would be made up
        median_m = float(known_depths.median())
        rays = trajectory.ego.camera.depth_rays()
        new_points = PointSet.empty()
        for t, other_frame in zip(
            frames, (*frames[1:], frames[max(0, len(frames) - 2)]), strict=True
        ):
            ego = trajectory.ego.one(t)
            guessed_depth = guess_depth(self._depth_m[t], median_m)
            _, remembered_mask = self._draw(
                PointSet.join(nearby_points(self._chunks, ego), new_points), ego
            )
            frame_from_ego = invert(ego.at(0))
            surface_points = transform(frame_from_ego, (rays * guessed_depth[..., None]).double())
            still_mask = looks_same(
                video[t], video[other_frame], surface_points, trajectory.ego.one(other_frame)
            )
            picture = (video[t] * 255).round().to(torch.uint8)
            new_mask = self._unseen_masks[t] & ~remembered_mask & still_mask
            new_points = PointSet.join(
                new_points,
                lift(guessed_depth, picture, new_mask, rays, frame_from_exo=frame_from_ego),
            )
        self._chunks.append(
            KeptPlaces(new_points, camera_centre(trajectory.ego.at(frames[0])), median_m)
        )

    def _draw_scene(self, trajectory: CameraTrajectory) -> Iterator[PriorFrame]:
        assert self._scene is not None
        return iter_ego_prior(
            self._scene, trajectory, SEEN, on=self._drawing_device, progress=self._progress
        )

    def _draw(
        self, points: PointSet, ego: CameraPath
    ) -> tuple[Tensor, Tensor]:  # [H, W, 3] 0...1, [H, W] bool
        """Draw remembered points, with the mask of the pixels that they cover."""

        def picture(device: torch.device) -> tuple[Tensor, Tensor]:
            image = draw_points(points.to(device), ego, SEEN)
            return image.rgb.cpu(), image.coverage.cpu()

        picture_and_mask = self._drawing_device.draw(picture)
        self.notes = self._drawing_device.notes or self.notes
        return picture_and_mask


def nearby_points(kept: Sequence[KeptPlaces], ego: CameraPath) -> PointSet:
    """Join the remembered points of chunks whose head position was close to a pose."""
    centre = camera_centre(ego.at(0))
    close_chunks = (
        each_chunk
        for each_chunk in kept
        if (centre - each_chunk.centre).norm() <= MAX_PARALLAX * each_chunk.distance_m
    )
    return PointSet.join(PointSet.empty(), *(chunk.points for chunk in close_chunks))


def resize_ego_camera(
    trajectory: CameraTrajectory,
    pictures: Tensor,  # [T, H, W, 3]
) -> CameraTrajectory:
    """Rescale the trajectory's ego camera to the size of pictures."""
    height, width = pictures.shape[1:3]
    return replace(trajectory, ego=trajectory.ego.resized(width, height))


def looks_same(
    picture: Tensor,  # [H, W, 3] 0...1
    other: Tensor,  # [H, W, 3] 0...1
    places: Tensor,  # [H, W, 3] float64, world: of the picture's pixels
    # The camera of the other picture.
    ego: CameraPath,
) -> Tensor:  # [H, W] bool
    """Mark the pixels whose place has the same colour in another frame."""
    uv, valid = ego.camera.project(transform(ego.at(0), places))
    size = uv.new_tensor([*ego.camera.stored_size])
    sample_grid = ((2 * uv + 1) / size - 1).float()[None]
    sampled = F.grid_sample(other.movedim(-1, 0)[None].float(), sample_grid, align_corners=False)
    same_mask = (sampled[0].movedim(0, -1) - picture).abs().mean(-1) <= SAME_COLOUR
    return same_mask & valid & ego.camera.inside(uv)
