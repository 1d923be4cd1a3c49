"""Measure the quality of the ego prior for each preset, on synthetic takes with exact ground truth.

    python3 run.py bench prior [--seeds 0 1 2 3 4] [--save]

To be run again after a change of depth, scene, splatting or presets. With exact depth and with a
network's errors (``lab/drawn/depth_errors.py``):

- Colours: PSNR on co-visible static and moving pixels (the ego ray's first hit is the exo ray's,
  both incidence angles under 75 degrees); a pixel that the prior leaves empty counts as black.
- Steadiness: mean absolute change between frames on static co-visible pixels, the earlier frame
  warped by the known motion (bicubic). Only inside surfaces: no outline of a surface or of what
  either frame covers is within 3 px, since a pixel that mixes two surfaces has two motions.
"""

from dataclasses import asdict, replace

import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras import compose, invert, transform
from egox_core.prior import PRIOR_PRESETS, PriorOptions, iter_ego_prior
from egox_core.scene import build_scene
from egox_core.types import (
    CameraTrajectory,
    DepthVideo,
    MovingPoints,
    PointCloud,
    PointSet,
    of_frames,
)
from lab.drawn import (
    Covisible,
    DepthErrors,
    SyntheticSpec,
    SyntheticTake,
    add_depth_errors,
    covisible,
    make_take,
)


class MovingPointsSubset:
    """Compute a scene's moving points only for selected frames, so that other frames needn't be
    rendered."""

    def __init__(self, moving: MovingPoints, frames: list[int]) -> None:
        self._moving_points, self._selected_frames = moving, frames

    def __len__(self) -> int:
        return len(self._selected_frames)

    def __getitem__(self, index: int) -> PointSet:
        return self._moving_points[self._selected_frames[index]]


def render_frames(
    scene: PointCloud, path: CameraTrajectory, options: PriorOptions, frames: list[int]
):
    """Render the prior for the given frames, one at a time."""
    scene_part = replace(
        scene,
        moving=MovingPointsSubset(scene.moving, frames),
        exo=scene.exo.select(torch.tensor(frames)),
    )
    path = of_frames(path, torch.tensor(frames))
    return iter_ego_prior(scene_part, path, options)


def warp_previous(take: SyntheticTake, frame: int, picture: Tensor) -> tuple[Tensor, Tensor]:
    """Warp the previous frame's picture [S, S, C] to the view of ``frame``, and mark the pixels
    that it covers."""
    rays, _ = take.ego.camera.pixel_rays()
    surface_points = rays * take.ego_ray_depth_m[frame].nan_to_num(0)[..., None]
    before_from_now = compose(take.ego.w2c[frame - 1], invert(take.ego.w2c[frame]))
    surface_points = transform(before_from_now, surface_points.reshape(-1, 3).double())
    ego_uv, valid_mask = take.ego.camera.project(surface_points)
    size = picture.shape[0]
    # Something else may have stood in front of the surface then.
    pixel_column, pixel_row = (ego_uv[:, axis].round().long().clamp(0, size - 1) for axis in (0, 1))
    earlier_depth = take.ego_ray_depth_m[frame - 1][pixel_row, pixel_column]
    valid_mask &= (earlier_depth / surface_points.norm(dim=-1) - 1).abs() < 0.01
    valid_mask &= ~take.ego_dynamic[frame - 1][pixel_row, pixel_column] & take.ego.camera.inside(
        ego_uv, -1.0
    )
    sampling_grid = (ego_uv.float().reshape(1, size, size, 2) + 0.5) / size * 2 - 1
    warped_picture = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None], sampling_grid, mode="bicubic", align_corners=False
    )
    return warped_picture[0].permute(1, 2, 0), valid_mask.reshape(size, size)


def is_away_from_outlines(index: Tensor) -> Tensor:
    """Mark pixels [H, W] bool that are more than 3 px away from any object's outline."""
    solid_indices = index.float()[None, None]
    highest_index, lowest_index = (
        sign * torch.nn.functional.max_pool2d(sign * solid_indices, 7, 1, 3) for sign in (1, -1)
    )
    return (highest_index == lowest_index)[0, 0]


def measure_preset(
    take: SyntheticTake,
    depth: DepthVideo,
    options: PriorOptions,
    frame_step: int,
    masks_of_frames: dict[int, Covisible],  # of those compared
) -> dict:
    """Measure the colour errors and the flicker of one preset, on pairs of consecutive frames."""
    scene = build_scene(take.exo_rgb, depth)
    compared_frames = range(0, scene.frame_count, frame_step)
    frames = sorted({t for t in compared_frames} | {t - 1 for t in compared_frames if t})
    errors_by_kind: dict[str, list[Tensor]] = {"static": [], "moving": []}
    colour_changes: list[Tensor] = []
    previous_prior = None
    for t, frame in zip(
        frames, render_frames(scene, take.trajectory(), options, frames), strict=True
    ):
        if t % frame_step == 0:
            masks, true_picture = masks_of_frames[t], take.ego_rgb[t].float() / 255
            for name, frame_errors in errors_by_kind.items():
                region_mask = getattr(masks, name)
                frame_errors.append(
                    (frame.rgb[region_mask] - true_picture[region_mask]).double().square().flatten()
                )
            if previous_prior is not None:
                covered_then = (
                    is_away_from_outlines(previous_prior.coverage) & previous_prior.coverage
                )[..., None]
                warped_picture, was_in_view = warp_previous(
                    take, t, torch.cat((previous_prior.rgb, covered_then), -1)
                )
                inside_mask = (
                    masks.static & was_in_view & frame.coverage & (warped_picture[..., 3] > 0.9)
                )
                inside_mask &= is_away_from_outlines(frame.coverage) & is_away_from_outlines(
                    take.ego_index[t]
                )
                colour_changes.append(
                    (frame.rgb - warped_picture[..., :3])[inside_mask].abs().flatten()
                )
        previous_prior = frame if (t + 1) % frame_step == 0 else None
    return {
        "change_inside": float(torch.cat(colour_changes).mean()),
        **{
            f"psnr_{name}": float(-10 * torch.cat(frame_errors).mean().log10())
            for name, frame_errors in errors_by_kind.items()
        },
    }


def measure_seed(spec: SyntheticSpec, frame_step: int) -> dict:
    """Measure all presets on one synthetic take, with exact depth and with simulated depth
    errors."""
    drawn_take = make_take(spec)
    exact_depth = drawn_take.depth_video()
    depth_cases = {
        "exact": exact_depth,
        "errors": add_depth_errors(exact_depth, DepthErrors(), 1000 + spec.seed),
    }
    masks_of_frames = {t: covisible(drawn_take, t) for t in range(0, spec.frames, frame_step)}
    return {
        "seed": spec.seed,
        **{
            case_name: {
                name: measure_preset(drawn_take, depth, options, frame_step, masks_of_frames)
                for name, options in PRIOR_PRESETS.items()
            }
            for case_name, depth in depth_cases.items()
        },
    }


def table(rows: list[dict]) -> str:
    """Format the prior's quality as a text table."""
    lines = [
        f"{'':>10} {'depth':>6} {'preset':>13} {'static dB':>9} {'moving dB':>9} {'change':>8}"
    ]
    lines += [
        f"{'seed ' + str(row['seed']):>10} {case_name:>6} {name:>13} {r['psnr_static']:9.2f} "
        f"{r['psnr_moving']:9.2f} {r['change_inside']:8.5f}"
        for row in rows
        for case_name in ("exact", "errors")
        for name, r in row[case_name].items()
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument(
        "--height", type=int, default=448, help="of the drawn pictures, px; exo is 7/4 as wide"
    )
    parser.add_argument("--every", type=int, default=8, help="frames between those compared")
    args = parser.parse_args(arguments)
    take_specs = [
        SyntheticSpec(
            seed=seed,
            frames=args.frames,
            exo_width=args.height * 7 // 4,
            exo_height=args.height,
            ego_size=args.height,
        )
        for seed in args.seeds
    ]
    rows = [measure_seed(take_spec, args.every) for take_spec in take_specs]
    result = {
        "frames": args.frames,
        "height": args.height,
        "every": args.every,
        "errors": asdict(DepthErrors()),
        "takes": rows,
    }
    return finish("prior", result, args, table(rows))


if __name__ == "__main__":
    raise SystemExit(main())
