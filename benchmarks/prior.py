"""How good the prior is, against synthetic takes: their depth, poses, masks and ego pictures are exact.

    python3 run.py bench prior [--seeds 0 1 2 3 4] [--frames 49] [--height 448] [--save]

Colours and steadiness have bars, the rest is reported.

- Colours: PSNR on co-visible static and moving pixels (the ego ray's first hit is the exo ray's first hit, both
  incidence angles under 75 degrees), with preset ``clean``; a pixel that the prior leaves empty counts as black.
- Coverage against ray casting: precision and recall. A covered pixel is right where exo saw the surface that the ego
  camera sees there. The scene is fused over the clip, so what exo shows of the standing scene in any frame counts;
  moving surfaces count in their own frame. ``precision_now`` counts what exo sees in the very same frame only: what
  someone hides just then and the fused scene shows all the same is wrong there.
- Noise: the same with 2 % depth noise (independent, normal) and stray pixels (at outlines, three pixels wide, 30 % of
  the depths are drawn anew between the two sides in every frame), for both presets. Depth models don't err like this:
  theirs are slow, and bleed at edges.
- Steadiness: mean absolute change from frame to frame on static co-visible pixels, after the earlier frame was warped
  by the known motion (bicubic); exact depth, both presets, all takes together. Judged are the pixels ``inside``: no
  outline of a surface or of what either frame covers is within 3 px, for a pixel that mixes two surfaces has two
  motions, and the warp reads the pixels around. ``change`` is
  over all co-visible static pixels, outlines and flickering holes with them, ``floor`` and ``floor_inside`` are what
  the true frames change under the same warp: sharp texture changes by being resampled alone, so that no sharp prior
  falls below the floor, which at outlines is near the change of ``released``'s wide discs. With noisy depth the same
  is only reported.
- The dynamic mask derived from depth and colour alone: IoU with the true one (the whole wearer and what is held).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.support.outlines import away_from_outlines
from benchmarks.support.record import add_arguments, finish
from egox_core.cameras.model import inside_picture, pixel_rays, project
from egox_core.depth.edges import depth_edge
from egox_core.prior.options import PriorOptions, prior_preset
from egox_core.prior.render import iter_ego_prior
from egox_core.scene.build import build_scene
from egox_core.synthetic import Covisible, SyntheticSpec, SyntheticTake, covisible, make_take
from egox_core.trajectory.poses import compose, invert, transform
from egox_core.types import DepthVideo, MovingPoints, PointSet

STATIC_BAR_DB, MOVING_BAR_DB = 30.0, 26.0
STEADY_BAR = 0.5  # change of clean, as a share of released's
NOISE, STRAY_SHARE, OUTLINE_STEP = 0.02, 0.3, 0.05


def noisy_depth(take: SyntheticTake, seed: int) -> DepthVideo:
    """The take's depth with noise and stray pixels; its mask stays the true one."""
    generator = torch.Generator().manual_seed(1000 + seed)
    maps = []
    for depth in take.exo_depth_m:
        wide = depth.nan_to_num(0)[None, None]
        near, far = -torch.nn.functional.max_pool2d(-wide, 3, 1, 1)[0, 0], torch.nn.functional.max_pool2d(wide, 3, 1, 1)
        outline = depth_edge(depth) > OUTLINE_STEP
        stray = outline & (torch.rand(depth.shape, generator=generator) < STRAY_SHARE)
        between = near + (far[0, 0] - near) * torch.rand(depth.shape, generator=generator)
        noisy = depth * (1 + NOISE * torch.randn(depth.shape, generator=generator))
        maps.append(torch.where(stray & (between > 0), between, noisy))
    return replace(take.depth_video(), depth_m=torch.stack(maps))


def visible_in_any_frame(take: SyntheticTake, frame: int, masks: Covisible, standing_m: Tensor) -> Tensor:
    """[S, S] bool: visible now, or a standing surface that exo sees in some frame.

    ``standing_m`` [H, W]: depth of the standing scene where it is seen at all, else 0. A point is that surface if its
    depth is that of one of the nine pixels around, within 1 %.
    """
    rays, inside_lens = pixel_rays(take.ego_camera)
    points = rays * take.ego_ray_depth_m[frame].nan_to_num(0)[..., None]
    exo_from_ego = compose(take.exo_w2c, invert(take.ego_w2c[frame]))
    points = transform(exo_from_ego, points.reshape(-1, 3).double())
    uv, valid = project(take.exo_camera, points)
    valid &= inside_picture(take.exo_camera, uv) & (points[:, 2] > 0)
    height, width = standing_m.shape
    col, row = uv[:, 0].round().long().clamp(0, width - 1), uv[:, 1].round().long().clamp(0, height - 1)
    z, same = points[:, 2].float(), torch.zeros_like(valid)
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            there = standing_m[(row + dv).clamp(0, height - 1), (col + du).clamp(0, width - 1)]
            same |= (there - z).abs() < 0.01 * z
    seen = (valid & same & (standing_m[row, col] > 0)).reshape(inside_lens.shape)
    return masks.visible | (seen & inside_lens & ~take.ego_dynamic[frame])


def warped(take: SyntheticTake, frame: int, picture: Tensor) -> tuple[Tensor, Tensor]:
    """The frame before, as seen from ``frame`` if all stood still: (picture [S, S, C], where it is known [S, S])."""
    rays, _ = pixel_rays(take.ego_camera)
    points = (rays * take.ego_ray_depth_m[frame].nan_to_num(0)[..., None]).reshape(-1, 3).double()
    before_from_now = compose(take.ego_w2c[frame - 1], invert(take.ego_w2c[frame]))
    points = transform(before_from_now, points)
    uv, valid = project(take.ego_camera, points)
    size = picture.shape[0]
    # Something else may have stood in front of the surface then.
    col, row = (uv[:, axis].round().long().clamp(0, size - 1) for axis in (0, 1))
    then = take.ego_ray_depth_m[frame - 1][row, col]
    valid &= ((then / points.norm(dim=-1) - 1).abs() < 0.01) & ~take.ego_dynamic[frame - 1][row, col]
    grid = (uv.float().reshape(1, size, size, 2) + 0.5) / size * 2 - 1
    out = torch.nn.functional.grid_sample(picture.permute(2, 0, 1)[None], grid, mode="bicubic", align_corners=False)
    return out[0].permute(1, 2, 0), (valid & inside_picture(take.ego_camera, uv, -1.0)).reshape(size, size)


class SomeFrames:
    """Moving points of chosen frames only, so that frames nobody looks at are not drawn."""

    def __init__(self, moving: MovingPoints, frames: list[int]) -> None:
        self._moving, self._frames = moving, frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: int) -> PointSet:
        return self._moving[self._frames[place]]


def measure(take: SyntheticTake, depth: DepthVideo, options: PriorOptions, every: int) -> dict:
    """Figures of one preset on one take, over every ``every``-th frame and its predecessor."""
    scene, path = build_scene(take.exo_rgb, depth), take.trajectory()
    compared = range(0, scene.frame_count, every)
    frames = sorted({t for t in compared} | {t - 1 for t in compared if t})
    scene = replace(scene, moving=SomeFrames(scene.moving, frames), frame_count=len(frames))
    path = replace(path, w2c=path.w2c[frames], times_s=path.times_s[frames])
    standing_m = take.exo_depth_m.masked_fill(take.exo_dynamic, 0.0).nan_to_num(0.0).amax(0)
    error, count = {"static": 0.0, "moving": 0.0}, {"static": 0, "moving": 0}
    covered = seen = hit = hit_now = 0
    change = {name: [0.0, 0] for name in ("change", "change_inside", "floor", "floor_inside")}
    before, seconds = None, 0.0
    start = time.process_time()
    for t, frame in zip(frames, iter_ego_prior(scene, path, options), strict=True):
        seconds += time.process_time() - start
        if t % every == 0:
            masks, truth = covisible(take, t), take.ego_rgb[t].float() / 255
            for name in error:
                where = getattr(masks, name)
                error[name] += float((frame.rgb[where] - truth[where]).double().square().sum())
                count[name] += 3 * int(where.sum())
            visible = visible_in_any_frame(take, t, masks, standing_m)
            covered, seen = covered + int(frame.coverage.sum()), seen + int(visible.sum())
            hit += int((frame.coverage & visible).sum())
            hit_now += int((frame.coverage & masks.visible).sum())
            if before is not None:
                truth_before = take.ego_rgb[t - 1].float() / 255
                drawn = away_from_outlines(before.coverage, 3) & before.coverage
                earlier, known = warped(take, t, torch.cat((before.rgb, truth_before, drawn[..., None]), -1))
                everywhere = masks.static & known
                inside = everywhere & frame.coverage & away_from_outlines(frame.coverage, 3) & (earlier[..., 6] > 0.9)
                inside &= away_from_outlines(take.ego_index[t], 3)
                for name, now, then in (("change", frame.rgb, earlier[..., :3]), ("floor", truth, earlier[..., 3:6])):
                    for where, suffix in ((everywhere, ""), (inside, "_inside")):
                        change[name + suffix][0] += float((now - then)[where].abs().sum())
                        change[name + suffix][1] += 3 * int(where.sum())
        before = frame if (t + 1) % every == 0 else None
        start = time.process_time()
    error["all"], count["all"] = sum(error.values()), sum(count.values())
    psnr = {f"psnr_{name}": float(-10 * torch.log10(torch.tensor(error[name] / max(count[name], 1)))) for name in error}
    return {**psnr, "precision": hit / max(covered, 1), "precision_now": hit_now / max(covered, 1),
            "recall": hit / max(seen, 1), **{name: total / max(number, 1) for name, (total, number) in change.items()},
            "cpu_seconds_a_frame": round(seconds / scene.frame_count, 3)}


def mask_iou(take: SyntheticTake) -> float:
    """Of the derived dynamic mask, all frames together."""
    scene = build_scene(take.exo_rgb, replace(take.depth_video(), dynamic=None))
    both = either = 0
    for t in range(scene.frame_count):
        mask, truth = scene.moving.mask(t), take.exo_dynamic[t]
        both, either = both + int((mask & truth).sum()), either + int((mask | truth).sum())
    return both / max(either, 1)


def measure_seed(spec: SyntheticSpec, every: int) -> dict:
    take = make_take(spec)
    clean, released = prior_preset("clean"), prior_preset("released")
    rough = noisy_depth(take, spec.seed)
    return {"seed": spec.seed, "exact": measure(take, take.depth_video(), clean, every),
            "exact_released": measure(take, take.depth_video(), released, every),
            "noisy_clean": measure(take, rough, clean, every),
            "noisy_released": measure(take, rough, released, every), "mask_iou": mask_iou(take)}


def failures(row: dict) -> list[str]:
    """Bars that do not hold; a NaN fails too."""
    exact = row["exact"]
    checks = [
        (exact["psnr_static"] >= STATIC_BAR_DB, f"static {exact['psnr_static']:.2f} dB, bar {STATIC_BAR_DB}"),
        (exact["psnr_moving"] >= MOVING_BAR_DB, f"moving {exact['psnr_moving']:.2f} dB, bar {MOVING_BAR_DB}"),
    ]
    return [f"seed {row['seed']}: {text}" for holds, text in checks if not holds]


def steadiness(rows: list[dict]) -> float:
    """Change of clean inside surfaces, all takes together, as a share of released's; exact depth."""
    clean, released = (sum(row[case]["change_inside"] for row in rows) for case in ("exact", "exact_released"))
    return clean / max(released, 1e-9)


def table(rows: list[dict]) -> str:
    lines = [f"{'seed':>4} {'case':>15} {'static dB':>9} {'moving dB':>9} {'precision':>9} {'now':>5} {'recall':>6} "
             f"{'change':>8} {'floor':>8} {'inside':>8} {'floor':>8}"]
    for row in rows:
        for case in ("exact", "exact_released", "noisy_clean", "noisy_released"):
            r = row[case]
            lines.append(f"{row['seed']:>4} {case:>15} {r['psnr_static']:9.2f} {r['psnr_moving']:9.2f} "
                         f"{r['precision']:9.3f} {r['precision_now']:5.3f} {r['recall']:6.3f} {r['change']:8.5f} "
                         f"{r['floor']:8.5f} {r['change_inside']:8.5f} {r['floor_inside']:8.5f}")
        lines.append(f"{row['seed']:>4} derived dynamic mask: IoU {row['mask_iou']:.3f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--height", type=int, default=448, help="of both pictures, px; exo is 7/4 as wide")
    parser.add_argument("--every", type=int, default=8, help="frames between those that are compared")
    add_arguments(parser)
    args = parser.parse_args(arguments)
    specs = [SyntheticSpec(seed=seed, frames=args.frames, exo_width=args.height * 7 // 4, exo_height=args.height,
                           ego_size=args.height) for seed in args.seeds]
    rows = [measure_seed(spec, args.every) for spec in specs]
    failed = [line for row in rows for line in failures(row)]
    share = steadiness(rows)
    if not share <= STEADY_BAR:
        failed.append(f"clean changes {share:.2f} times as much as released, bar {STEADY_BAR}")
    finish("prior", {"frames": args.frames, "height": args.height, "every": args.every, "takes": rows,
                     "steadiness": share, "failed": failed}, args,
           f"{table(rows)}\nsteadiness: clean changes {share:.2f} times as much as released\n"
           + ("\n".join(failed) if failed else "all bars hold"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
