"""Render a camera's view of a scene, with one ray per pixel, and more rays for pixels that an
outline crosses."""

from __future__ import annotations

import torch
from torch import Tensor

from egox_core.cameras import CameraModel, CameraPath, camera_centre
from egox_core.frozen import frozen

from .casting import (
    Bounds,
    RayBundle,
    Tiling,
    first_hits,
    inverse_rotate,
    tile_picture,
    visible_tiles,
)
from .scene import Scene
from .shading import Hits, shade

CAST_AT_ONCE = 1_200_000
"""Rays of one cast at most: some 100 MB for each gigabyte of what a cast needs."""
EDGE_COSINE = 0.9  # neighbours whose normals differ by more (26 degrees) show an edge of the solid


@frozen
class ViewRays:
    """Rays of a camera's pixels, which don't depend on its pose, in the frame of the unturned
    sensor."""

    camera: CameraModel
    rays: Tensor  # [H * W, 3]
    step_x: Tensor  # [H * W, 3], to the next stored column
    step_y: Tensor
    valid: Tensor  # [H * W]
    tiling: Tiling

    @staticmethod
    def of(camera: CameraModel, device: torch.device | str = "cpu") -> ViewRays:
        rays, valid_mask = (part.to(device) for part in camera.pixel_rays(dtype=torch.float64))
        grid = camera.pixel_grid(dtype=torch.float64).to(device)
        half_pixels = grid.new_tensor([[0.5, 0.0], [0.0, 0.5]])
        steps = [
            (camera.unproject(grid + h)[0] - camera.unproject(grid - h)[0]).reshape(-1, 3).float()
            for h in half_pixels
        ]
        return ViewRays(
            camera=camera,
            rays=rays.reshape(-1, 3).float(),
            step_x=steps[0],
            step_y=steps[1],
            valid=valid_mask.reshape(-1),
            tiling=tile_picture(rays.float()),
        )

    def offset(
        self,
        pixels: Tensor,  # [N] flat indices
        # Number per side.
        samples: int,
    ) -> Tensor:  # [samples², N, 3]
        """Compute sub-rays that are spread evenly over each of the given pixels."""
        width, _ = self.camera.stored_size
        uv = torch.stack(
            (pixels % width, torch.div(pixels, width, rounding_mode="floor")), -1
        ).double()
        sample_offsets = torch.arange(samples, dtype=torch.float64, device=pixels.device)
        sample_offsets = (sample_offsets + 0.5) / samples - 0.5
        pixel_shifts = torch.stack(
            torch.meshgrid(sample_offsets, sample_offsets, indexing="ij"), -1
        ).reshape(-1, 1, 2)
        return self.camera.unproject(uv + pixel_shifts)[0].float()


@frozen
class View:
    """Rendered pictures of F frames, flat over F * H * W stored pixels."""

    rgb: Tensor  # [N, 3] float32 0...1
    ray_depth: Tensor  # [N] float32 metres, infinite for a miss
    index: Tensor  # [N] int64 solid, -1 for a miss
    normals: Tensor  # [N, 3] world


def outline(
    index: Tensor,  # [F * H * W] solid, -1 none
    normals: Tensor,  # [F * H * W, 3]
    height: int,
    width: int,
) -> Tensor:  # [F * H * W] bool
    """Mark pixels that have a 4-neighbour on another solid or on another face of the same one."""
    ids, faces = index.reshape(-1, height, width), normals.reshape(-1, height, width, 3)
    edge_mask = torch.zeros_like(ids, dtype=torch.bool)
    differs_right = (ids[:, :, 1:] != ids[:, :, :-1]) | (
        (faces[:, :, 1:] * faces[:, :, :-1]).sum(-1) < EDGE_COSINE
    )
    down = (ids[:, 1:] != ids[:, :-1]) | ((faces[:, 1:] * faces[:, :-1]).sum(-1) < EDGE_COSINE)
    edge_mask[:, :, 1:] |= differs_right
    edge_mask[:, :, :-1] |= differs_right
    edge_mask[:, 1:] |= down
    edge_mask[:, :-1] |= down
    return edge_mask.reshape(-1)


class Renderer:
    """Renderer of one camera's views, several frames at a time, which stores what is the same in
    all frames.

    Pixels of F frames are numbered through: frame * H * W + row * W + column ("flat"). Small
    pictures are cast several frames at once, since each cast has a fixed cost."""

    def __init__(
        self,
        scene: Scene,
        path: CameraPath,
        neighbours: dict[int, tuple[int, ...]],
        edge_samples: int,
    ) -> None:
        self.scene, self.neighbours, self.edge_samples = scene, neighbours, edge_samples
        self.view_rays = ViewRays.of(path.camera, scene.device)
        self.width, self.height = path.camera.stored_size
        self.w2c = path.poses(scene.frames).to(scene.device)
        self._bounds: dict[tuple[int, ...], Bounds] = {}

    @property
    def pixels(self) -> int:
        return self.width * self.height

    def visible(
        self, frames: list[int], indices: list[int]
    ) -> Tensor:  # [len(indices), F * M] bool
        """Compute which solids each tile of the picture may see."""
        key = tuple(indices)
        if key not in self._bounds:
            self._bounds[key] = Bounds.of(self.scene.solids, indices, self.scene.device)
        w2c = self.w2c[frames]
        return visible_tiles(
            self.view_rays.tiling,
            w2c[..., :3].float(),
            camera_centre(w2c).float(),
            self._bounds[key],
            self.scene.world_from_solid[frames],
        )

    def cast(
        self,
        frames: list[int],
        indices: list[int],
        flat: Tensor | None = None,  # [N] flat indices of some pixels; None: all
        rays_cam: Tensor | None = None,  # [N, 3] other rays of those pixels than the centre rays
        tile_mask: Tensor | None = None,  # [len(indices), F * M] of :meth:`visible`
    ) -> View:
        """Cast rays for all or some pixels of the given frames."""
        view, count = self.view_rays, self.pixels
        w2c = self.w2c[frames]
        rotation = w2c[..., :3].float()
        if tile_mask is None:
            tile_mask = self.visible(frames, indices)
        if flat is None:
            vectors = [(v @ rotation).reshape(-1, 3) for v in (view.rays, view.step_x, view.step_y)]
            flat = torch.arange(len(frames) * count, device=rotation.device)
            pixel, frame = flat % count, torch.div(flat, count, rounding_mode="floor")
        else:
            pixel, frame = flat % count, torch.div(flat, count, rounding_mode="floor")
            ray_rotation = rotation[0] if len(frames) == 1 else rotation[frame]
            rays = view.rays[pixel] if rays_cam is None else rays_cam
            vectors = [
                inverse_rotate(v, ray_rotation)
                for v in (rays, view.step_x[pixel], view.step_y[pixel])
            ]
        bundle = RayBundle(
            rays=vectors[0],
            origin=camera_centre(w2c).float(),
            frame=None if len(frames) == 1 else frame,
            poses=self.scene.world_from_solid[frames],
        )
        tile_of_ray = view.tiling.of_pixel[pixel] + frame * len(view.tiling.axes)
        depth, index = first_hits(self.scene.solids, indices, bundle, tile_of_ray, tile_mask)
        hits = Hits(
            bundle=bundle,
            frames=frames,
            step_x=vectors[1],
            step_y=vectors[2],
            depth=depth,
            index=index,
        )
        rgb, normals = shade(self.scene, hits, self.neighbours)
        return View(rgb=rgb, ray_depth=depth, index=index, normals=normals)

    def smooth_outlines(
        self,
        frames: list[int],
        indices: list[int],
        flat: Tensor,  # [N] flat indices
    ) -> Tensor:  # [N, 3]
        """Compute the colours of pixels on outlines, averaged over sub-rays."""
        if len(flat) == 0:
            return self.view_rays.rays[:0]
        visible_mask, samples = self.visible(frames, indices), self.edge_samples**2
        mean_colours = []
        for pixel_chunk in flat.split(max(1, CAST_AT_ONCE // samples)):
            rays_cam = self.view_rays.offset(pixel_chunk % self.pixels, self.edge_samples).flatten(
                0, 1
            )
            sub_view = self.cast(
                frames, indices, pixel_chunk.repeat(samples), rays_cam, tile_mask=visible_mask
            )
            mean_colours.append(sub_view.rgb.unflatten(0, (samples, -1)).sum(0) / samples)
        return torch.cat(mean_colours)

    def render_full(self, frames: list[int], indices: list[int]) -> View:
        """Render complete pictures with smoothed outlines."""
        view = self.cast(frames, indices)
        if self.edge_samples > 1:
            edge_pixels = (
                outline(view.index, view.normals, self.height, self.width).nonzero().squeeze(1)
            )
            view.rgb[edge_pixels] = self.smooth_outlines(frames, indices, edge_pixels)
        return view

    def render_moving(
        self, frames: list[int], background: View, moving: list[int], everything: list[int]
    ) -> View:
        """Render the moving solids of a camera that stands still over a background, which is one
        picture or one per frame."""
        visible_mask = self.visible(frames, moving)
        tiles = visible_mask.any(0).reshape(len(frames), -1)
        flat = tiles[:, self.view_rays.tiling.of_pixel].reshape(-1).nonzero().squeeze(1)
        front = self.cast(frames, moving, flat, tile_mask=visible_mask)
        repeats = len(frames) * self.pixels // len(background.index)
        rgb, normals = background.rgb.repeat(repeats, 1), background.normals.repeat(repeats, 1)
        depth, index = background.ray_depth.repeat(repeats), background.index.repeat(repeats)
        is_nearer = front.ray_depth < depth[flat]
        hidden_pixels = flat[is_nearer]
        rgb[hidden_pixels], depth[hidden_pixels] = front.rgb[is_nearer], front.ray_depth[is_nearer]
        index[hidden_pixels], normals[hidden_pixels] = (
            front.index[is_nearer],
            front.normals[is_nearer],
        )
        if self.edge_samples > 1 and len(hidden_pixels):
            mask = depth.new_zeros(len(frames), 1, self.height, self.width)
            mask.view(-1)[hidden_pixels] = 1.0
            is_near_change = torch.nn.functional.max_pool2d(mask, 3, 1, 1).reshape(-1) > 0
            edge_pixels = (
                (outline(index, normals, self.height, self.width) & is_near_change)
                .nonzero()
                .squeeze(1)
            )
            rgb[edge_pixels] = self.smooth_outlines(frames, everything, edge_pixels)
        return View(rgb=rgb, ray_depth=depth, index=index, normals=normals)
