"""Render a camera's view of a scene by ray casting."""

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
    """Rays through the pixels of a camera, in the camera's frame."""

    camera: CameraModel
    rays: Tensor  # [H * W, 3]
    step_x: Tensor  # [H * W, 3], to the next stored column
    step_y: Tensor
    valid: Tensor  # [H * W]
    tiling: Tiling

    @staticmethod
    def of(camera: CameraModel, device: torch.device | str = "cpu") -> ViewRays:
        rays, valid_mask = (
            ray_tensor.to(device) for ray_tensor in camera.pixel_rays(dtype=torch.float64)
        )
        pixel_grid = camera.pixel_grid(dtype=torch.float64).to(device)
        half_pixels = pixel_grid.new_tensor([[0.5, 0.0], [0.0, 0.5]])
        steps = [
            (camera.unproject(pixel_grid + h)[0] - camera.unproject(pixel_grid - h)[0])
            .reshape(-1, 3)
            .float()
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
        """Compute several rays that are spread evenly over each given pixel."""
        width, _ = self.camera.stored_size
        sub_pixel_uv = torch.stack(
            (pixels % width, torch.div(pixels, width, rounding_mode="floor")), -1
        ).double()
        sample_offsets = torch.arange(samples, dtype=torch.float64, device=pixels.device)
        sample_offsets = (sample_offsets + 0.5) / samples - 0.5
        pixel_shifts = torch.stack(
            torch.meshgrid(sample_offsets, sample_offsets, indexing="ij"), -1
        ).reshape(-1, 1, 2)
        return self.camera.unproject(sub_pixel_uv + pixel_shifts)[0].float()


@frozen
class View:
    """Rendered pictures of F frames, with one row per pixel."""

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
    """Mark pixels next to another solid or another face."""
    solid_ids, face_normals = (
        index.reshape(-1, height, width),
        normals.reshape(-1, height, width, 3),
    )
    edge_mask = torch.zeros_like(solid_ids, dtype=torch.bool)
    differs_right = (solid_ids[:, :, 1:] != solid_ids[:, :, :-1]) | (
        (face_normals[:, :, 1:] * face_normals[:, :, :-1]).sum(-1) < EDGE_COSINE
    )
    differs_below = (solid_ids[:, 1:] != solid_ids[:, :-1]) | (
        (face_normals[:, 1:] * face_normals[:, :-1]).sum(-1) < EDGE_COSINE
    )
    edge_mask[:, :, 1:] |= differs_right
    edge_mask[:, :, :-1] |= differs_right
    edge_mask[:, 1:] |= differs_below
    edge_mask[:, :-1] |= differs_below
    return edge_mask.reshape(-1)


class Renderer:
    """Renderer of one camera's views.

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
        """Compute which solids may be visible in each tile of the picture."""
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

    def cast_rays(
        self,
        frames: list[int],
        indices: list[int],
        flat_pixels: Tensor | None = None,  # [N] flat indices of some pixels; None: all
        rays_cam: Tensor | None = None,  # [N, 3] other rays of those pixels than the centre rays
        tile_mask: Tensor | None = None,  # [len(indices), F * M] of :meth:`visible`
    ) -> View:
        """Cast rays for all or some pixels of the given frames."""
        view_rays, pixel_count = self.view_rays, self.pixels
        w2c = self.w2c[frames]
        rotation = w2c[..., :3].float()
        if tile_mask is None:
            tile_mask = self.visible(frames, indices)
        if flat_pixels is None:
            world_vectors = [
                (v @ rotation).reshape(-1, 3)
                for v in (view_rays.rays, view_rays.step_x, view_rays.step_y)
            ]
            flat_pixels = torch.arange(len(frames) * pixel_count, device=rotation.device)
            pixel = flat_pixels % pixel_count
            frame = torch.div(flat_pixels, pixel_count, rounding_mode="floor")
        else:
            pixel = flat_pixels % pixel_count
            frame = torch.div(flat_pixels, pixel_count, rounding_mode="floor")
            ray_rotation = rotation[0] if len(frames) == 1 else rotation[frame]
            rays = view_rays.rays[pixel] if rays_cam is None else rays_cam
            world_vectors = [
                inverse_rotate(v, ray_rotation)
                for v in (rays, view_rays.step_x[pixel], view_rays.step_y[pixel])
            ]
        ray_bundle = RayBundle(
            rays=world_vectors[0],
            origin=camera_centre(w2c).float(),
            frame=None if len(frames) == 1 else frame,
            poses=self.scene.world_from_solid[frames],
        )
        tile_of_ray = view_rays.tiling.tile_of_pixel[pixel] + frame * len(view_rays.tiling.axes)
        depth, index = first_hits(self.scene.solids, indices, ray_bundle, tile_of_ray, tile_mask)
        ray_hits = Hits(
            bundle=ray_bundle,
            frames=frames,
            step_x=world_vectors[1],
            step_y=world_vectors[2],
            depth=depth,
            index=index,
        )
        rgb, normals = shade(self.scene, ray_hits, self.neighbours)
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
        visible_mask, samples_per_pixel = self.visible(frames, indices), self.edge_samples**2
        mean_colours = []
        for pixel_chunk in flat.split(max(1, CAST_AT_ONCE // samples_per_pixel)):
            rays_cam = self.view_rays.offset(pixel_chunk % self.pixels, self.edge_samples).flatten(
                0, 1
            )
            sub_view = self.cast_rays(
                frames,
                indices,
                pixel_chunk.repeat(samples_per_pixel),
                rays_cam,
                tile_mask=visible_mask,
            )
            mean_colours.append(
                sub_view.rgb.unflatten(0, (samples_per_pixel, -1)).sum(0) / samples_per_pixel
            )
        return torch.cat(mean_colours)

    def render_full(self, frames: list[int], indices: list[int]) -> View:
        """Render complete pictures of the given frames."""
        full_view = self.cast_rays(frames, indices)
        if self.edge_samples > 1:
            edge_pixels = (
                outline(full_view.index, full_view.normals, self.height, self.width)
                .nonzero()
                .squeeze(1)
            )
            full_view.rgb[edge_pixels] = self.smooth_outlines(frames, indices, edge_pixels)
        return full_view

    def render_moving(
        self, frames: list[int], background: View, moving: list[int], everything: list[int]
    ) -> View:
        """Render only the moving solids over a given background."""
        visible_mask = self.visible(frames, moving)
        tile_masks = visible_mask.any(0).reshape(len(frames), -1)
        moving_pixel_indices = (
            tile_masks[:, self.view_rays.tiling.tile_of_pixel].reshape(-1).nonzero().squeeze(1)
        )
        moving_view = self.cast_rays(frames, moving, moving_pixel_indices, tile_mask=visible_mask)
        background_repeats = len(frames) * self.pixels // len(background.index)
        rgb, normals = (
            background.rgb.repeat(background_repeats, 1),
            background.normals.repeat(background_repeats, 1),
        )
        depth, index = (
            background.ray_depth.repeat(background_repeats),
            background.index.repeat(background_repeats),
        )
        is_nearer = moving_view.ray_depth < depth[moving_pixel_indices]
        hidden_pixels = moving_pixel_indices[is_nearer]
        rgb[hidden_pixels], depth[hidden_pixels] = (
            moving_view.rgb[is_nearer],
            moving_view.ray_depth[is_nearer],
        )
        index[hidden_pixels], normals[hidden_pixels] = (
            moving_view.index[is_nearer],
            moving_view.normals[is_nearer],
        )
        if self.edge_samples > 1 and len(hidden_pixels):
            hidden_mask = depth.new_zeros(len(frames), 1, self.height, self.width)
            hidden_mask.view(-1)[hidden_pixels] = 1.0
            is_near_change = torch.nn.functional.max_pool2d(hidden_mask, 3, 1, 1).reshape(-1) > 0
            edge_pixels = (
                (outline(index, normals, self.height, self.width) & is_near_change)
                .nonzero()
                .squeeze(1)
            )
            rgb[edge_pixels] = self.smooth_outlines(frames, everything, edge_pixels)
        return View(rgb=rgb, ray_depth=depth, index=index, normals=normals)
