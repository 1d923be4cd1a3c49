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

import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras import compose, invert, transform
from egox_core.prior import PRIOR_PRESETS, PriorFrame, PriorOptions, iter_ego_prior
from egox_core.scene import build_scene
from egox_core.types import DepthVideo
from lab.drawn import (
    Covisible,
    DepthErrors,
    SyntheticSpec,
    SyntheticTake,
    add_depth_errors,
    covisible,
    make_take,
)

FRAME_STEP = 8  # between compared frames


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
    valid_mask &= ~take.ego_dynamic[frame - 1][pixel_row, pixel_column]
    valid_mask &= take.ego.camera.inside(ego_uv, -1.0)
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


def colour_changes(
    take: SyntheticTake, t: int, static: Tensor, before: PriorFrame, now: PriorFrame
) -> Tensor:  # [N]
    """Compute how colours inside static surfaces changed since the frame before."""
    covered_then = is_away_from_outlines(before.coverage) & before.coverage
    warped_picture, was_in_view = warp_previous(
        take, t, torch.cat((before.rgb, covered_then[..., None]), -1)
    )
    inside_mask = static & was_in_view & now.coverage & (warped_picture[..., 3] > 0.9)
    inside_mask &= is_away_from_outlines(now.coverage) & is_away_from_outlines(take.ego_index[t])
    return (now.rgb - warped_picture[..., :3])[inside_mask].abs().flatten()


def measure_preset(
    take: SyntheticTake,
    depth: DepthVideo,
    options: PriorOptions,
    masks_of_frames: dict[int, Covisible],  # of those compared, each with the frame before
) -> dict[str, float]:
    """Measure the colour errors and the flicker of one preset, on pairs of consecutive frames."""
    scene = build_scene(take.exo_rgb, depth)
    frames = sorted({*masks_of_frames, *(t - 1 for t in masks_of_frames if t)})
    errors: dict[str, list[Tensor]] = {"static": [], "moving": []}
    changes: list[Tensor] = []
    before = None
    rendered = iter_ego_prior(scene, take.trajectory(), options, frames=frames)
    for t, now in zip(frames, rendered, strict=True):
        if t in masks_of_frames:
            squared_errors = (now.rgb - take.ego_rgb[t].float() / 255).double().square()
            for name, frame_errors in errors.items():
                frame_errors.append(squared_errors[getattr(masks_of_frames[t], name)].flatten())
            if before is not None:
                changes.append(colour_changes(take, t, masks_of_frames[t].static, before, now))
        before = now if t + 1 in masks_of_frames else None
    return {"change_inside": float(torch.cat(changes).mean())} | {
        f"psnr_{name}": float(-10 * torch.cat(frame_errors).mean().log10())
        for name, frame_errors in errors.items()
    }


def measure_take(spec: SyntheticSpec, frame_step: int) -> dict[str, dict[str, dict[str, float]]]:
    """Measure all presets on a drawn take, with exact depth and with a network's errors."""
    take = make_take(spec)
    depth = take.depth_video()
    depth_cases = {
        "exact": depth,
        "errors": add_depth_errors(depth, DepthErrors(), 1000 + spec.seed),
    }
    masks_of_frames = {t: covisible(take, t) for t in range(0, spec.frames, frame_step)}
    return {
        case_name: {
            name: measure_preset(take, case_depth, options, masks_of_frames)
            for name, options in PRIOR_PRESETS.items()
        }
        for case_name, case_depth in depth_cases.items()
    }


def table(takes: dict[int, dict]) -> str:
    """Format the figures of takes, by seed, as text."""
    lines = ["seed  depth         preset  static dB  moving dB   change"]
    lines += [
        f"{seed:4} {case_name:>6} {name:>14} {row['psnr_static']:10.2f} {row['psnr_moving']:10.2f} "
        f"{row['change_inside']:8.5f}"
        for seed, cases in takes.items()
        for case_name, presets in cases.items()
        for name, row in presets.items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    size = {"exo_width": 784, "exo_height": 448, "ego_size": 448}
    takes = {
        seed: measure_take(SyntheticSpec(seed=seed, **size), FRAME_STEP) for seed in args.seeds
    }
    return finish("prior", {"takes": takes}, args, table(takes))


if __name__ == "__main__":
    raise SystemExit(main())
