"""Make synthetic takes: videos, exact depth, masks, poses and the prompt of a drawn scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from egox_core.cameras import CameraPath, transform
from egox_core.frozen import frozen
from egox_core.hands import HandTrack
from egox_core.progress import Progress, no_progress
from egox_core.types import CameraTrajectory, DepthVideo
from egox_train.parallel import single_threaded

from .layout import Layout, draw_layout
from .scene import Scene
from .shading import crease_neighbours
from .solids import MOVING_GROUPS
from .spec import SyntheticSpec
from .views import CAST_AT_ONCE, Renderer, View

MAX_THREADS = 8  # more would mostly wait for the interpreter's lock
Result = TypeVar("Result")


@frozen
class SyntheticTake:
    """Synthetic take with the true depth and poses of both cameras.

    Pictures are uint8 in stored (upright) orientation, depth is exact to float32."""

    spec: SyntheticSpec
    scene: Scene
    prompt: str
    exo_rgb: Tensor  # [T, H, W, 3] uint8
    exo_depth_m: Tensor  # [T, H, W] float32, z depth, metres, exo camera frame
    exo_index: Tensor  # [T, H, W] int16, solid of the centre ray (scene.solids), -1 none
    exo_dynamic: Tensor  # [T, H, W] bool, the wearer and what the hands hold
    ego_rgb: Tensor  # [T, S, S, 3] uint8
    ego_depth_m: Tensor  # [T, S, S] float32, z depth in the ego camera frame
    ego_ray_depth_m: Tensor  # [T, S, S] float32, along the ray
    ego_index: Tensor  # [T, S, S] int16
    ego_dynamic: Tensor  # [T, S, S] bool
    exo: CameraPath
    ego: CameraPath
    hands: HandTrack  # of the wearer, true also where they are hidden
    # Videos of the other exo cameras, with ``spec.exo_views``.
    further: tuple[SyntheticTake, ...] = ()

    @property
    def views(self) -> tuple[SyntheticTake, ...]:
        """List one take for each exo camera, all with the same scene and ego video."""
        return (self, *self.further)

    def exo_frames(self) -> Tensor:  # [T, H, W, 3] float32 0...1
        return self.exo_rgb.float() / 255

    def ego_frames(self) -> Tensor:  # [T, S, S, 3] float32 0...1
        return self.ego_rgb.float() / 255

    def depth_video(self) -> DepthVideo:
        """Build the depth input of the pipeline from the exact depth."""
        return DepthVideo(
            depth_m=self.exo_depth_m,
            exo=self.exo,
            dynamic=self.exo_dynamic,
        )

    def trajectory(self) -> CameraTrajectory:
        """Build the pose input of the pipeline from the exact poses of both cameras."""
        return CameraTrajectory(ego=self.ego, exo=self.exo)


def make_take(
    spec: SyntheticSpec | None = None,
    progress: Progress = no_progress,
    *,
    # Rays are cast on it.
    device: torch.device | str = "cpu",
) -> SyntheticTake:
    """Draw and render a synthetic take.

    Every ray is intersected with the solids in closed form: depth, masks and poses are exact
    (float32 rounding, about 1e-6 of the distance), and the picture of a surface is the same
    from both cameras but for each camera's own pixel footprint. The head hides from the ego
    camera; arms, hands and body are seen."""
    spec = spec or SyntheticSpec()
    return render_layout(draw_layout(spec), spec, progress, device=device)


def render_layout(
    layout: Layout,
    spec: SyntheticSpec,
    progress: Progress = no_progress,
    *,
    # Rays are cast on it.
    device: torch.device | str = "cpu",
) -> SyntheticTake:
    """Render a scene that was drawn before."""
    with single_threaded() as threads:
        *exo_pictures, ego_pictures = _render(spec, layout.scene.to(device), threads, progress)
    scene = layout.scene
    ego_rgb, ego_ray, ego_depth_m, ego_index = ego_pictures
    moving_table = scene.group_table(*MOVING_GROUPS)
    takes = [
        SyntheticTake(
            spec=spec,
            scene=scene,
            prompt=layout.prompt,
            exo_rgb=exo_rgb,
            exo_depth_m=exo_depth_m,
            exo_index=exo_index,
            exo_dynamic=moving_table[exo_index.long()],
            ego_rgb=ego_rgb,
            ego_depth_m=ego_depth_m,
            ego_ray_depth_m=ego_ray,
            ego_index=ego_index,
            ego_dynamic=moving_table[ego_index.long()],
            exo=exo_path,
            ego=scene.ego,
            hands=drawn_hands(layout, exo_path),
        )
        for (exo_rgb, _, exo_depth_m, exo_index), exo_path in zip(
            exo_pictures, scene.exos, strict=True
        )
    ]
    return replace(takes[0], further=tuple(takes[1:]))


def drawn_hands(layout: Layout, exo: CameraPath) -> HandTrack:
    """Build the wearer's hands in the frame of one of the scene's exo cameras."""
    return HandTrack.of_joints(transform(exo.w2c[:, None], layout.hands), "drawing")


def _render(
    spec: SyntheticSpec, scene: Scene, workers: int, progress: Progress
) -> list[tuple[Tensor, ...]]:
    """Render all frames of the exo cameras and the ego camera."""
    neighbours = crease_neighbours(scene)
    *exo_renderers, ego_renderer = (
        Renderer(scene, camera, neighbours, spec.edge_samples)
        for camera in (*scene.exos, scene.ego)
    )
    static_solids, moving_solids = scene.indices(moving=False), scene.indices(moving=True)
    all_solids, without_head = scene.indices(), scene.indices(head=False)
    backgrounds = [exo_renderer.render_full([0], static_solids) for exo_renderer in exo_renderers]
    frames_at_once = CAST_AT_ONCE // max(exo_renderers[0].pixels, ego_renderer.pixels)
    chunk_length = max(1, min(frames_at_once, -(-spec.frames // workers)))
    chunks = [
        list(range(chunk_start, min(chunk_start + chunk_length, spec.frames)))
        for chunk_start in range(0, spec.frames, chunk_length)
    ]

    def render(chunk: int) -> list[tuple[Tensor, ...]]:
        frames, chunk_views = chunks[chunk], []
        for exo_renderer, background in zip(exo_renderers, backgrounds, strict=True):
            # one picture of the standing solids serves all frames of a standing camera
            view_background = (
                exo_renderer.render_full(frames, static_solids) if spec.exo_moves else background
            )
            chunk_views.append(
                _pack_view(
                    exo_renderer,
                    exo_renderer.render_moving(frames, view_background, moving_solids, all_solids),
                )
            )
        return [
            *chunk_views,
            _pack_view(ego_renderer, ego_renderer.render_full(frames, without_head)),
        ]

    rendered_parts = []
    progress(0, spec.frames, "synthetic take")
    for frames, chunk_views in zip(chunks, _map_chunks(render, len(chunks), workers), strict=True):
        rendered_parts.append(chunk_views)
        for frame in frames:
            progress(frame + 1, spec.frames, "synthetic take")
    return [
        tuple(torch.cat(values) for values in zip(*camera_chunks, strict=True))
        for camera_chunks in zip(*rendered_parts, strict=True)
    ]


def _map_chunks(work: Callable[[int], Result], count: int, workers: int) -> Iterator[Result]:
    """Run ``work(0)`` to ``work(count - 1)`` in threads, and yield their results in order.

    All threads end, even after an error or if the caller stops early."""
    if count == 1:
        yield work(0)
        return
    thread_pool = ThreadPoolExecutor(max_workers=max(1, min(workers, MAX_THREADS)))
    try:
        yield from thread_pool.map(work, range(count))
    finally:
        thread_pool.shutdown(wait=True, cancel_futures=True)


def _pack_view(renderer: Renderer, view: View) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Convert a rendered view to arrays of colours, depths and solid indices.

    These are rgb uint8 [F, H, W, 3], ray depth [F, H, W], z depth [F, H, W] and solid index
    int16 [F, H, W]. A miss has depth NaN."""
    picture_shape = (-1, renderer.height, renderer.width)
    ray_depth = torch.where(view.index >= 0, view.ray_depth, torch.nan).reshape(picture_shape)
    z_depth = ray_depth * renderer.view_rays.rays[:, 2].reshape(picture_shape)
    rgb = (view.rgb * 255).round().clamp(0, 255).to(torch.uint8)
    solid_index = view.index.to(torch.int16).reshape(picture_shape)
    return rgb.reshape(*picture_shape, 3).cpu(), ray_depth.cpu(), z_depth.cpu(), solid_index.cpu()
