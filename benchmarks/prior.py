"""How good the prior is, against synthetic takes: their depth, poses, masks and ego pictures are exact.

    python3 run.py bench prior [--seeds 0 1 2 3 4] [--frames 49] [--height 448] [--save]

Colours, steadiness and the contest under depth errors have bars, the rest is reported, for every preset.

- Colours: PSNR on co-visible static and moving pixels (the ego ray's first hit is the exo ray's first hit, both
  incidence angles under 75 degrees), with preset ``clean``; a pixel that the prior leaves empty counts as black.
- Coverage against ray casting: precision and recall. A covered pixel is right where exo saw the surface that the ego
  camera sees there. The scene is fused over the clip, so what exo shows of the standing scene in any frame counts;
  moving surfaces count in their own frame. ``precision_now`` counts what exo sees in the very same frame only: what
  someone hides just then and the fused scene shows all the same is wrong there.
- Errors: the same with depth as a network would give it (``lab/drawn/depth_errors.py``, its defaults): slow
  error of 3 %, outlines that bleed, 1 % flicker of scale. ``clean`` must be at least as good as ``released`` on static
  pixels, mean of the seeds.
- Steadiness: mean absolute change from frame to frame on static co-visible pixels, after the earlier frame was warped
  by the known motion (bicubic); exact depth, both presets, all takes together. Judged are the pixels ``inside``: no
  outline of a surface or of what either frame covers is within 3 px, for a pixel that mixes two surfaces has two
  motions, and the warp reads the pixels around. ``change`` is
  over all co-visible static pixels, outlines and flickering holes with them, ``floor`` and ``floor_inside`` are what
  the true frames change under the same warp: sharp texture changes by being resampled alone, so that no sharp prior
  falls below the floor, which at outlines is near the change of ``released``'s wide discs. With depth errors the same
  is only reported.
- The dynamic mask derived from depth and colour alone: IoU with the true one (the whole wearer and what is held).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, replace

import torch
from torch import Tensor

from benchmarks.support.outlines import away_from_outlines
from benchmarks.support.record import add_arguments, finish
from egox_core.cameras.model import inside_picture, pixel_rays, project
from egox_core.prior.options import PRIOR_PRESETS, PriorOptions
from egox_core.prior.render import iter_ego_prior
from egox_core.scene.build import build_scene
from egox_core.trajectory.poses import compose, invert, transform
from egox_core.types import DepthVideo, MovingPoints, PointSet
from lab.drawn import (
    Covisible,
    DepthErrors,
    SyntheticSpec,
    SyntheticTake,
    covisible,
    make_take,
    with_errors,
)

STATIC_BAR_DB, MOVING_BAR_DB = 30.0, 26.0
STEADY_BAR = 0.5  # change of clean, as a share of released's


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
                earlier, in_view = warped(take, t, torch.cat((before.rgb, truth_before, drawn[..., None]), -1))
                everywhere = masks.static & in_view
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
    """Case -> preset -> figures, on one take."""
    take = make_take(spec)
    cases = {"exact": take.depth_video(), "errors": with_errors(take.depth_video(), DepthErrors(), 1000 + spec.seed)}
    return {"seed": spec.seed, "mask_iou": mask_iou(take),
            **{case: {name: measure(take, depth, options, every) for name, options in PRIOR_PRESETS.items()}
               for case, depth in cases.items()}}


def failures(rows: list[dict]) -> list[str]:
    """Bars that do not hold; a NaN fails too."""
    failed = []
    for row in rows:
        clean = row["exact"]["clean"]
        for name, bar in (("static", STATIC_BAR_DB), ("moving", MOVING_BAR_DB)):
            if not clean[f"psnr_{name}"] >= bar:
                failed.append(f"seed {row['seed']}: {name} {clean[f'psnr_{name}']:.2f} dB, bar {bar}")
    share = steadiness(rows)
    if not share <= STEADY_BAR:
        failed.append(f"clean changes {share:.2f} times as much as released, bar {STEADY_BAR}")
    clean, released = (mean_static(rows, name) for name in ("clean", "released"))
    if not clean >= released:
        failed.append(f"with depth errors static {clean:.2f} dB, bar {released:.2f} (released)")
    return failed


def mean_static(rows: list[dict], preset: str) -> float:
    """PSNR of static pixels with depth errors, dB, mean of the seeds."""
    return sum(row["errors"][preset]["psnr_static"] for row in rows) / len(rows)


def steadiness(rows: list[dict]) -> float:
    """Change of clean inside surfaces, all takes together, as a share of released's; exact depth."""
    clean, released = (sum(row["exact"][name]["change_inside"] for row in rows) for name in ("clean", "released"))
    return clean / max(released, 1e-9)


def table(rows: list[dict]) -> str:
    lines = [f"{'seed':>4} {'depth':>6} {'preset':>13} {'static dB':>9} {'moving dB':>9} {'precision':>9} {'now':>5} "
             f"{'recall':>6} {'change':>8} {'floor':>8} {'inside':>8} {'floor':>8}"]
    for row in rows:
        for case in ("exact", "errors"):
            for name, r in row[case].items():
                lines.append(f"{row['seed']:>4} {case:>6} {name:>13} {r['psnr_static']:9.2f} {r['psnr_moving']:9.2f} "
                             f"{r['precision']:9.3f} {r['precision_now']:5.3f} {r['recall']:6.3f} {r['change']:8.5f} "
                             f"{r['floor']:8.5f} {r['change_inside']:8.5f} {r['floor_inside']:8.5f}")
        lines.append(f"{row['seed']:>4} derived dynamic mask: IoU {row['mask_iou']:.3f}")
    lines.append("with depth errors, static dB, mean of the seeds: "
                 + ", ".join(f"{name} {mean_static(rows, name):.2f}" for name in rows[0]["errors"]))
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
    failed, share = failures(rows), steadiness(rows)
    finish("prior", {"frames": args.frames, "height": args.height, "every": args.every, "errors": asdict(DepthErrors()),
                     "takes": rows, "steadiness": share, "failed": failed}, args,
           f"{table(rows)}\nsteadiness: clean changes {share:.2f} times as much as released\n"
           + ("\n".join(failed) if failed else "all bars hold"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
