"""Render one camera's view of a scene: centre rays everywhere, finer rays only where an outline crosses a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..cameras import CameraModel, pixel_grid, pixel_rays, unproject
from ..poses import camera_centre
from .casting import Bounds, Tiling, first_hits, tile_picture, visible_tiles
from .scene import Scene
from .shading import Hits, shade

EDGE_COSINE = 0.9  # neighbours whose normals differ by more (26 degrees) show an edge of the solid


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRays:
    """What of a camera does not change with its pose. Rays in the frame of the unturned sensor."""

    camera: CameraModel
    rays: Tensor  # [H * W, 3]
    step_x: Tensor  # [H * W, 3], to the next stored column
    step_y: Tensor
    valid: Tensor  # [H * W]
    tiling: Tiling

    @staticmethod
    def of(camera: CameraModel) -> ViewRays:
        rays, valid = pixel_rays(camera, dtype=torch.float64)
        grid = pixel_grid(camera, dtype=torch.float64)
        half = grid.new_tensor([[0.5, 0.0], [0.0, 0.5]])
        steps = [(unproject(camera, grid + h)[0] - unproject(camera, grid - h)[0]).reshape(-1, 3).float() for h in half]
        return ViewRays(camera=camera, rays=rays.reshape(-1, 3).float(), step_x=steps[0], step_y=steps[1],
                        valid=valid.reshape(-1), tiling=tile_picture(rays.float()))

    def offset(self, pixels: Tensor, samples: int) -> Tensor:
        """Sub-rays [samples², N, 3] of the pixels [N] (flat indices), evenly over each pixel."""
        width, _ = self.camera.stored_size
        uv = torch.stack((pixels % width, torch.div(pixels, width, rounding_mode="floor")), -1).double()
        spread = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples - 0.5
        shifts = torch.stack(torch.meshgrid(spread, spread, indexing="ij"), -1).reshape(-1, 1, 2)
        return unproject(self.camera, uv + shifts)[0].float()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One picture, flat over H * W stored pixels."""

    rgb: Tensor  # [N, 3] float32 0...1
    ray_depth: Tensor  # [N] float32 metres, infinite for a miss
    index: Tensor  # [N] int64 solid, -1 for a miss
    normals: Tensor  # [N, 3] world


def outline(index: Tensor, normals: Tensor, height: int, width: int) -> Tensor:
    """Pixels [H * W] bool with a 4-neighbour on another solid or on another face."""
    ids, faces = index.reshape(height, width), normals.reshape(height, width, 3)
    edge = torch.zeros(height, width, dtype=torch.bool)
    right = (ids[:, 1:] != ids[:, :-1]) | ((faces[:, 1:] * faces[:, :-1]).sum(-1) < EDGE_COSINE)
    down = (ids[1:] != ids[:-1]) | ((faces[1:] * faces[:-1]).sum(-1) < EDGE_COSINE)
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    edge[1:] |= down
    edge[:-1] |= down
    return edge.reshape(-1)


class Renderer:
    """Casts views of one scene; holds what stays the same from frame to frame."""

    def __init__(self, scene: Scene, camera: CameraModel, neighbours: dict[int, tuple[int, ...]],
                 edge_samples: int) -> None:
        self.scene, self.neighbours, self.edge_samples = scene, neighbours, edge_samples
        self.view_rays = ViewRays.of(camera)
        self.width, self.height = camera.stored_size
        self._bounds: dict[tuple[int, ...], Bounds] = {}

    def world(self, w2c: Tensor) -> tuple[Tensor, Tensor]:
        """(rotation [3, 3] camera_from_world, camera centre [3]), float32."""
        return w2c[:, :3].float(), camera_centre(w2c).float()

    def visible(self, frame: int, w2c: Tensor, indices: list[int]) -> Tensor:
        """Which tiles [len(indices), M] may see which of the solids."""
        rotation, origin = self.world(w2c)
        key = tuple(indices)
        if key not in self._bounds:
            self._bounds[key] = Bounds.of(self.scene.solids, indices)
        tiling = self.view_rays.tiling
        return visible_tiles(tiling, tiling.axes @ rotation, origin, self._bounds[key],
                             self.scene.world_from_solid[frame])

    def cast(self, frame: int, w2c: Tensor, indices: list[int], pixels: Tensor | None = None,
             rays_cam: Tensor | None = None, shaded: bool = True, visible: Tensor | None = None) -> View:
        """Cast the centre rays of all or some pixels (flat indices), or given rays of those pixels."""
        view = self.view_rays
        rotation, origin = self.world(w2c)
        pick = slice(None) if pixels is None else pixels
        rays = (view.rays[pick] if rays_cam is None else rays_cam) @ rotation
        if visible is None:
            visible = self.visible(frame, w2c, indices)
        depth, index = first_hits(self.scene.solids, indices, self.scene.world_from_solid[frame], origin, rays,
                                  view.tiling.of_pixel[pick], visible)
        if not shaded:
            empty = torch.zeros_like(rays)
            return View(rgb=empty, ray_depth=depth, index=index, normals=empty)
        hits = Hits(origin=origin, rays=rays, step_x=view.step_x[pick] @ rotation, step_y=view.step_y[pick] @ rotation,
                    depth=depth, index=index)
        rgb, normals = shade(self.scene, frame, hits, self.neighbours)
        return View(rgb=rgb, ray_depth=depth, index=index, normals=normals)

    def smooth(self, frame: int, w2c: Tensor, indices: list[int], pixels: Tensor) -> Tensor:
        """Colours [N, 3] of outline pixels (flat indices), averaged over sub-rays."""
        if len(pixels) == 0:
            return torch.zeros(0, 3)
        visible = self.visible(frame, w2c, indices)
        total = torch.zeros(len(pixels), 3)
        for rays_cam in self.view_rays.offset(pixels, self.edge_samples):
            total += self.cast(frame, w2c, indices, pixels, rays_cam, visible=visible).rgb
        return total / self.edge_samples**2

    def full(self, frame: int, w2c: Tensor, indices: list[int]) -> View:
        """The whole picture, outlines smoothed."""
        view = self.cast(frame, w2c, indices)
        if self.edge_samples > 1:
            edge = outline(view.index, view.normals, self.height, self.width).nonzero().squeeze(1)
            view.rgb[edge] = self.smooth(frame, w2c, indices, edge)
        return view

    def over(self, frame: int, w2c: Tensor, background: View, moving: list[int], everything: list[int]) -> View:
        """The picture of a standing camera: moving solids over a background cast once."""
        visible = self.visible(frame, w2c, moving)
        pixels = visible.any(0)[self.view_rays.tiling.of_pixel].nonzero().squeeze(1)
        front = self.cast(frame, w2c, moving, pixels, visible=visible)
        nearer = front.ray_depth < background.ray_depth[pixels]
        chosen = pixels[nearer]
        rgb, depth = background.rgb.clone(), background.ray_depth.clone()
        index, normals = background.index.clone(), background.normals.clone()
        rgb[chosen], depth[chosen] = front.rgb[nearer], front.ray_depth[nearer]
        index[chosen], normals[chosen] = front.index[nearer], front.normals[nearer]
        if self.edge_samples > 1 and len(chosen):
            touched = torch.zeros(self.height, self.width, dtype=torch.bool)
            touched.view(-1)[chosen] = True
            grown = torch.nn.functional.max_pool2d(touched[None, None].float(), 3, 1, 1)[0, 0] > 0
            edge = (outline(index, normals, self.height, self.width) & grown.reshape(-1)).nonzero().squeeze(1)
            rgb[edge] = self.smooth(frame, w2c, everything, edge)
        return View(rgb=rgb, ray_depth=depth, index=index, normals=normals)
