"""Quality of the prior by preset, on drawn takes, whose truth is exact, and on real ones.

    python3 run.py bench prior [--seeds 0 1 2 3 4] [--takes NAME ...] [--save]

To be run again after a change of depth, scene, splatting or presets.

Drawn takes (``--seeds`` with nothing behind it: none), with exact depth and with a network's errors
(``lab/drawn/depth_errors.py``):

- Colours: PSNR on co-visible static and moving pixels (the ego ray's first hit is the exo ray's,
  both incidence angles under 75 degrees); a pixel that the prior leaves empty counts as black.
- Steadiness: mean absolute change between frames on static co-visible pixels, the earlier frame
  warped by the known motion (bicubic). Only inside surfaces: no outline of a surface or of what
  either frame covers is within 3 px, since a pixel that mixes two surfaces has two motions.
- Bars: ``clean`` on exact depth on each take, its change beside that of ``released``, and its
  static pixels with errors beside those of ``released``, mean of the seeds.

Real takes are the folders of ../shared/data/takes with a true ego video (``--takes``: beginnings of
names). Every sixth frame is drawn, written as a video, read again and compared with the true one on
pixels that the prior covers and the truth doesn't leave black: normalised cross-correlation of luma
(``ncc``), the same of the gradient of luma blurred by 1.5 px (``gradient``), and the share that is
covered. ``authors``: their own video; ``own scale``: ``exact`` without the wearer's scale. Bars are
on ``exact``, and on what its scale brings.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras.model import inside_picture, pixel_rays, project
from egox_core.file_names import TRUTH
from egox_core.prior.options import PRESET_GEOMETRY, PRIOR_PRESETS, PriorOptions
from egox_core.prior.render import iter_ego_prior
from egox_core.scene.build import build_scene
from egox_core.takes.take import load_take
from egox_core.trajectory.poses import compose, invert, transform
from egox_core.types import CameraTrajectory, DepthVideo, MovingPoints, PointCloud, PointSet
from egox_core.video.reader import decode_frames, probe_video
from egox_train.video_writer import write_video
from lab.drawn import (
    DepthErrors,
    SyntheticSpec,
    SyntheticTake,
    covisible,
    make_take,
    with_errors,
)

TAKES = Path(__file__).resolve().parents[2] / "shared" / "data" / "takes"
AUTHORS = "ego_prior_released.mp4"
EXACT, OWN_SCALE = "exact", "own scale"
DRAWN_BARS = {"static": 30.0, "moving": 26.0}  # dB
STEADY_BAR = 0.5  # change of clean, as a share of released's
REAL_BARS: Mapping[str, tuple[dict[str, float], float]] = {
    "sfu_covid": ({"ncc": 0.60, "gradient": 0.12, "coverage": 0.48}, -0.02),
    "cmu_soccer": ({"ncc": 0.36, "gradient": 0.20, "coverage": 0.80}, 0.08),
}
"""Of ``exact``, and the ncc that its scale must bring, by the beginning of a take's name."""
BLACK, BLUR_PX, RIM_PX, MIN_PIXELS = 15, 1.5, 7, 500  # BLACK: sum of the channels


class SomeFrames:
    """Moving points of chosen frames alone: the others are not drawn."""

    def __init__(self, moving: MovingPoints, frames: list[int]) -> None:
        self._moving, self._frames = moving, frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: int) -> PointSet:
        return self._moving[self._frames[place]]


def drawn(scene: PointCloud, path: CameraTrajectory, options: PriorOptions, frames: list[int]):
    """Iterate over the prior's frames at these moments."""
    part = replace(scene, moving=SomeFrames(scene.moving, frames), frame_count=len(frames))
    path = replace(path, w2c=path.w2c[frames], times_s=path.times_s[frames])
    return iter_ego_prior(part, path, options)


def warped(take: SyntheticTake, frame: int, picture: Tensor) -> tuple[Tensor, Tensor]:
    """Warp the picture of the frame before: (as seen from ``frame`` [S, S, C], where known)."""
    rays, _ = pixel_rays(take.ego_camera)
    points = rays * take.ego_ray_depth_m[frame].nan_to_num(0)[..., None]
    before_from_now = compose(take.ego_w2c[frame - 1], invert(take.ego_w2c[frame]))
    points = transform(before_from_now, points.reshape(-1, 3).double())
    uv, valid = project(take.ego_camera, points)
    size = picture.shape[0]
    # Something else may have stood in front of the surface then.
    col, row = (uv[:, axis].round().long().clamp(0, size - 1) for axis in (0, 1))
    then = take.ego_ray_depth_m[frame - 1][row, col]
    valid &= (then / points.norm(dim=-1) - 1).abs() < 0.01
    valid &= ~take.ego_dynamic[frame - 1][row, col] & inside_picture(take.ego_camera, uv, -1.0)
    grid = (uv.float().reshape(1, size, size, 2) + 0.5) / size * 2 - 1
    out = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None], grid, mode="bicubic", align_corners=False
    )
    return out[0].permute(1, 2, 0), valid.reshape(size, size)


def away_from_outlines(index: Tensor, margin: int = 3) -> Tensor:
    """[H, W] numbers of solids, or bool -> [H, W] bool: nothing else within ``margin`` px."""
    solids = index.float()[None, None]
    highest, lowest = (
        sign * torch.nn.functional.max_pool2d(sign * solids, 2 * margin + 1, 1, margin)
        for sign in (1, -1)
    )
    return (highest == lowest)[0, 0]


def measure_drawn(
    take: SyntheticTake, depth: DepthVideo, options: PriorOptions, every: int
) -> dict:
    """Figures of one preset over every ``every``-th frame and its predecessor."""
    scene = build_scene(take.exo_rgb, depth)
    compared = range(0, scene.frame_count, every)
    frames = sorted({t for t in compared} | {t - 1 for t in compared if t})
    errors: dict[str, list[Tensor]] = {"static": [], "moving": []}
    change: list[Tensor] = []
    before = None
    for t, frame in zip(frames, drawn(scene, take.trajectory(), options, frames), strict=True):
        if t % every == 0:
            masks, truth = covisible(take, t), take.ego_rgb[t].float() / 255
            for name, found in errors.items():
                where = getattr(masks, name)
                found.append((frame.rgb[where] - truth[where]).double().square().flatten())
            if before is not None:
                drawn_then = (away_from_outlines(before.coverage) & before.coverage)[..., None]
                earlier, known = warped(take, t, torch.cat((before.rgb, drawn_then), -1))
                inside = masks.static & known & frame.coverage & (earlier[..., 3] > 0.9)
                inside &= away_from_outlines(frame.coverage) & away_from_outlines(take.ego_index[t])
                change.append((frame.rgb - earlier[..., :3])[inside].abs().flatten())
        before = frame if (t + 1) % every == 0 else None
    return {
        "change_inside": float(torch.cat(change).mean()),
        **{
            f"psnr_{name}": float(-10 * torch.cat(found).mean().log10())
            for name, found in errors.items()
        },
    }


def measure_seed(spec: SyntheticSpec, every: int) -> dict:
    """Case -> preset -> figures, on one take."""
    take = make_take(spec)
    exact = take.depth_video()
    cases = {"exact": exact, "errors": with_errors(exact, DepthErrors(), 1000 + spec.seed)}
    return {
        "seed": spec.seed,
        **{
            case: {
                name: measure_drawn(take, depth, options, every)
                for name, options in PRIOR_PRESETS.items()
            }
            for case, depth in cases.items()
        },
    }


def mean(rows: list[dict], case: str, preset: str, figure: str) -> float:
    return float(np.mean([row[case][preset][figure] for row in rows]))


def failures(rows: list[dict], takes: list[dict]) -> list[str]:
    """Bars that do not hold; a NaN fails too."""
    held: dict[str, bool] = {}
    for row in rows:
        for name, bar in DRAWN_BARS.items():
            value = row["exact"]["clean"][f"psnr_{name}"]
            held[f"seed {row['seed']}: {name} {value:.2f} dB, bar {bar}"] = value >= bar
    if rows:
        share, static = (
            [mean(rows, case, preset, figure) for preset in ("clean", "released")]
            for case, figure in (("exact", "change_inside"), ("errors", "psnr_static"))
        )
        held[f"change of clean and released {share}, bar {STEADY_BAR} times"] = (
            share[0] <= STEADY_BAR * share[1]
        )
        held[f"static dB of clean and released with depth errors {static}"] = static[0] >= static[1]
    for take in takes:
        for begin, (bars, gain) in REAL_BARS.items():
            if take["take"].startswith(begin):
                exact, own = (take["rows"][name] for name in (EXACT, OWN_SCALE))
                for name, bar in bars.items():
                    held[f"{take['take']}: {name} {exact[name]:.3f}, bar {bar}"] = (
                        exact[name] >= bar
                    )
                brought = exact["ncc"] - own["ncc"]
                held[f"{take['take']}: the scale brings {brought:+.3f} ncc, bar {gain}"] = (
                    brought >= gain
                )
    return [line for line, good in held.items() if not good]


def measure_take(folder: Path, every: int, say=print) -> dict:
    """Figures of a real take, a row per preset."""
    as_given, exact = ("as given", "as is"), PRESET_GEOMETRY["exact"]
    rows = {name: (as_given, PRIOR_PRESETS[name]) for name in ("released", "clean")}
    rows |= {
        OWN_SCALE: ((exact[0], "as is"), PRIOR_PRESETS["exact"]),
        EXACT: (exact, PRIOR_PRESETS["exact"]),
    }
    result: dict = {"take": folder.name, "rows": {}}
    for name, ((lens, scale), options) in rows.items():
        take = load_take(folder, frame_count=None, exo_lens=lens, scale=scale)
        frames = list(range(0, take.depth.depth_m.shape[0], every))
        truth = read(folder / TRUTH, frames)
        pictures = drawn(build_scene(take.read_exo(), take.depth), take.trajectory, options, frames)
        with tempfile.TemporaryDirectory() as temporary:
            video = Path(temporary) / "prior.mp4"
            write_video(video, (frame.rgb for frame in pictures), take.frames.fps)
            result["rows"][name] = compare(read(video, list(range(len(frames)))), truth)
        say(f"{folder.name} {name}: {result['rows'][name]}")
    if (folder / AUTHORS).is_file():
        result["rows"]["authors"] = compare(read(folder / AUTHORS, frames), truth)
    return result


def read(video: Path, frames: list[int]) -> np.ndarray:  # [N, H, W, 3] uint8
    """Frames of a video; past its end the last one."""
    info = probe_video(video)
    wanted = [min(t, info.frame_count - 1) for t in frames]
    pictures = dict(decode_frames(video, info, sorted(set(wanted))))
    return np.stack([pictures[t] for t in wanted])


def compare(prior: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Means over frames [N, H, W, 3] uint8; as the module says."""
    figures = []
    for made, true in zip(prior, truth, strict=True):
        covered = made.sum(-1, dtype=int) > BLACK
        both = covered & (true.sum(-1, dtype=int) > BLACK)
        inner = cv2.erode(both.astype(np.uint8), np.ones((RIM_PX, RIM_PX), np.uint8)) > 0
        x, y = made.astype(np.float32).mean(-1), true.astype(np.float32).mean(-1)
        figures.append(
            (
                correlation(x, y, both),
                correlation(steepness(x), steepness(y), inner),
                covered.mean(),
            )
        )
    means = (
        np.ma.masked_invalid(figures).mean(0).filled(np.nan)
    )  # a frame with too little to compare is left out
    return dict(zip(("ncc", "gradient", "coverage"), means.round(4).tolist(), strict=True))


def correlation(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    """Normalised cross-correlation of [H, W] arrays on ``where``; NaN on less than MIN_PIXELS."""
    return (
        float(np.corrcoef(a[where], b[where])[0, 1]) if where.sum() >= MIN_PIXELS else float("nan")
    )


def steepness(luma: np.ndarray) -> np.ndarray:
    """Gradient magnitude of blurred luma [H, W]."""
    return np.hypot(*np.gradient(cv2.GaussianBlur(luma, (0, 0), BLUR_PX)))


def table(rows: list[dict], takes: list[dict]) -> str:
    """The result for people."""
    lines = (
        [f"{'':>31} {'depth':>6} {'preset':>13} {'static dB':>9} {'moving dB':>9} {'change':>8}"]
        if rows
        else []
    )
    lines += [
        f"{'seed ' + str(row['seed']):>31} {case:>6} {name:>13} {r['psnr_static']:9.2f} {r['psnr_moving']:9.2f} "
        f"{r['change_inside']:8.5f}"
        for row in rows
        for case in ("exact", "errors")
        for name, r in row[case].items()
    ]
    lines += [
        f"{take['take'][:31]:>31} {name:>13}: ncc {r['ncc']:.3f}, gradient {r['gradient']:.3f}, coverage "
        f"{r['coverage']:.3f}"
        for take in takes
        for name, r in take["rows"].items()
    ]
    return "\n".join([*lines, *(failures(rows, takes) or ["all bars hold"])])


def takes_with_truth(root: Path, beginnings: list[str] | None = None) -> list[Path]:
    """Take folders with a true ego video."""
    folders = sorted(file.parent for file in root.glob(f"*/{TRUTH}"))
    return [f for f in folders if beginnings is None or f.name.startswith(tuple(beginnings))]


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--takes", nargs="*", metavar="NAME", help="beginnings of names (default: all)"
    )
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument(
        "--height", type=int, default=448, help="of the drawn pictures, px; exo is 7/4 as wide"
    )
    parser.add_argument(
        "--every", type=int, default=8, help="frames between those compared, of drawn takes"
    )
    parser.add_argument("--every-real", type=int, default=6)
    args = parser.parse_args(arguments)
    specs = [
        SyntheticSpec(
            seed=seed,
            frames=args.frames,
            exo_width=args.height * 7 // 4,
            exo_height=args.height,
            ego_size=args.height,
        )
        for seed in args.seeds
    ]
    rows = [measure_seed(spec, args.every) for spec in specs]
    takes = [
        measure_take(folder, args.every_real, lambda line: print(line, file=sys.stderr))
        for folder in takes_with_truth(TAKES, args.takes)
    ]
    failed = failures(rows, takes)
    result = {
        "frames": args.frames,
        "height": args.height,
        "every": args.every,
        "errors": asdict(DepthErrors()),
        "takes": rows,
        "every_real": args.every_real,
        "real": takes,
        "failed": failed,
    }
    return finish("prior", result, args, table(rows, takes), not failed)


if __name__ == "__main__":
    raise SystemExit(main())
