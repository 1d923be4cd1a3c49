"""Does the prior show what the ego camera sees? Against synthetic takes, whose depth, poses and pictures are exact.

    python3 run.py bench covisible [--seeds 0] [--frames 49] [--height 448] [--preset clean] [--save]

The prior is rendered from the take's exact depth and poses by the pack's own scene and splatter, then compared with the
ego ground truth on co-visible static pixels: the ego ray's first hit projects inside the exo frame, is its first hit
there, and both incidence angles are under 75 degrees. A co-visible pixel that the prior leaves empty counts as the
black that it is. The controls are the same prior shifted by 2 px (each of four ways), turned by 2 degrees (both ways),
turned by 90 degrees, and mirrored, judged on the same pixels. A PSNR is that of the mean squared error over all
frames. Two more figures tell where a loss comes from: the PSNR on covered pixels
further than 2 px from any outline, and the ceiling, which is the exo frame looked up at each co-visible pixel (no
points, no splats, no holes; only the two cameras' own pixels differ).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.support.outlines import away_from_outlines
from benchmarks.support.record import bench_parser, finish
from egox_core.prior.options import PRIOR_PRESETS, prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from egox_core.types import EgoPrior
from lab.drawn import SyntheticSpec, SyntheticTake, covisible, make_take

PSNR_BAR_DB = 26.0
CONTROL_BAR_DB = 4.0  # how much worse each control must be

Control = Callable[[np.ndarray], np.ndarray]


def _shifted(dx: int, dy: int) -> Control:
    return lambda picture: cv2.warpAffine(picture, np.float32([[1, 0, dx], [0, 1, dy]]), picture.shape[1::-1])


def _turned(degrees: float) -> Control:
    def turn(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR)

    return turn


CONTROLS: Mapping[str, Control] = {
    "shifted 2 px right": _shifted(2, 0), "shifted 2 px left": _shifted(-2, 0), "shifted 2 px down": _shifted(0, 2),
    "shifted 2 px up": _shifted(0, -2), "turned 2 degrees": _turned(2), "turned -2 degrees": _turned(-2),
    "turned 90 degrees": lambda picture: np.rot90(picture).copy(),
    "mirrored": lambda picture: picture[:, ::-1].copy(),
}


@dataclass(slots=True)
class SquaredError:
    """Summed over frames."""

    total: float = 0.0
    count: int = 0

    def add(self, picture: Tensor, truth: Tensor, where: Tensor) -> None:
        """Pictures [H, W, 3] 0...1, where [H, W] bool."""
        self.total += float((picture[where] - truth[where]).double().square().sum())
        self.count += 3 * int(where.sum())

    @property
    def psnr(self) -> float:  # dB; infinite where nothing differs, NaN where nothing was compared
        if self.count == 0:
            return float("nan")
        return float("inf") if self.total == 0 else -10 * float(np.log10(self.total / self.count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Covisibility:
    """One take's figures."""

    seed: int
    psnr_static: float  # dB, co-visible static pixels
    psnr_moving: float
    controls: dict[str, float]  # dB
    psnr_inside: float  # dB, covered co-visible static pixels over 2 px from an outline
    psnr_ceiling: float  # dB, the exo frame looked up at co-visible static pixels
    uncovered_share: float  # of co-visible static pixels
    covisible_share: float  # of ego pixels, static
    coverage_precision: float  # share of covered pixels that exo truly sees
    coverage_recall: float  # share of what exo truly sees that is covered
    seconds: dict[str, float]

    @property
    def worst_margin(self) -> float:  # dB
        return self.psnr_static - max(self.controls.values())

    def failures(self) -> list[str]:
        """Bars that do not hold; a NaN fails too."""
        failed = []
        if not self.psnr_static >= PSNR_BAR_DB:
            failed.append(f"seed {self.seed}: static PSNR {self.psnr_static:.2f} dB, bar {PSNR_BAR_DB} dB")
        for name, value in self.controls.items():
            if not self.psnr_static - value >= CONTROL_BAR_DB:
                failed.append(f"seed {self.seed}: {name} is only {self.psnr_static - value:.2f} dB worse, "
                              f"bar {CONTROL_BAR_DB} dB")
        return failed


def compare(take: SyntheticTake, prior: EgoPrior, seconds: dict[str, float] | None = None) -> Covisibility:
    """The prior against the take's ego ground truth."""
    static, moving, inside, ceiling = SquaredError(), SquaredError(), SquaredError(), SquaredError()
    controls = {name: SquaredError() for name in CONTROLS}
    both = covered = seen = shared = uncovered = pixels = 0
    for t in range(take.spec.frames):
        truth, picture, coverage = take.ego_rgb[t].float() / 255, prior.rgb[t], prior.coverage[t]
        masks = covisible(take, t)
        static.add(picture, truth, masks.static)
        moving.add(picture, truth, masks.moving)
        inside.add(picture, truth, masks.static & coverage & away_from_outlines(take.ego_index[t]))
        looked_up = cv2.remap(take.exo_rgb[t].numpy(), masks.exo_uv.numpy(), None, cv2.INTER_LINEAR)
        ceiling.add(torch.from_numpy(looked_up).float() / 255, truth, masks.static)
        for name, change in CONTROLS.items():
            controls[name].add(torch.from_numpy(change(picture.numpy())), truth, masks.static)
        both += int((coverage & masks.visible).sum())
        covered += int(coverage.sum())
        seen += int(masks.visible.sum())
        shared += int(masks.static.sum())
        uncovered += int((masks.static & ~coverage).sum())
        pixels += coverage.numel()
    return Covisibility(
        seed=take.spec.seed, psnr_static=static.psnr, psnr_moving=moving.psnr,
        controls={name: error.psnr for name, error in controls.items()}, psnr_inside=inside.psnr,
        psnr_ceiling=ceiling.psnr, uncovered_share=uncovered / max(shared, 1), covisible_share=shared / pixels,
        coverage_precision=both / max(covered, 1), coverage_recall=both / max(seen, 1), seconds=seconds or {})


def measure(spec: SyntheticSpec, preset: str) -> Covisibility:
    """Make the take, render its prior, compare."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - start, 2)
        return result

    take = timed("take", lambda: make_take(spec))
    scene = timed("scene", lambda: build_scene(take.exo_frames(), take.depth_video()))
    prior = timed("prior", lambda: render_ego_prior(scene, take.trajectory(), prior_preset(preset)))
    return compare(take, prior, seconds)


def table(results: list[Covisibility]) -> str:
    lines = [f"{'seed':>4}  {'static':>6}  {'inside':>6}  {'ceiling':>7}  {'moving':>6}  {'empty':>6}  "
             f"{'precision':>9}  {'recall':>6}  {'share':>5}  worst control"]
    for r in results:
        name = max(r.controls, key=r.controls.get)
        lines.append(f"{r.seed:>4}  {r.psnr_static:6.2f}  {r.psnr_inside:6.2f}  {r.psnr_ceiling:7.2f}  "
                     f"{r.psnr_moving:6.2f}  {r.uncovered_share:6.3f}  {r.coverage_precision:9.3f}  "
                     f"{r.coverage_recall:6.3f}  {r.covisible_share:5.2f}  {name}, {r.worst_margin:.2f} dB below")
    lines.append("seed " + "  ".join(f"{name:>18}" for name in CONTROLS))
    lines += [f"{r.seed:>4} " + "  ".join(f"{r.controls[name]:18.2f}" for name in CONTROLS) for r in results]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--height", type=int, default=448, help="of both pictures, px; exo is 7/4 as wide")
    parser.add_argument("--preset", default="clean", choices=sorted(PRIOR_PRESETS))
    args = parser.parse_args(arguments)
    specs = [SyntheticSpec(seed=seed, frames=args.frames, exo_width=args.height * 7 // 4, exo_height=args.height,
                           ego_size=args.height) for seed in args.seeds]
    results = [measure(spec, args.preset) for spec in specs]
    failed = [line for result in results for line in result.failures()]
    record = {"preset": args.preset, "frames": args.frames, "height": args.height,
              "bars": {"psnr_static_db": PSNR_BAR_DB, "controls_worse_by_db": CONTROL_BAR_DB},
              "takes": [{**asdict(result), "worst_margin": result.worst_margin} for result in results],
              "failed": failed}
    return finish("covisible", record, args, table(results) + "\n" + ("\n".join(failed) or "all bars hold"), not failed)


if __name__ == "__main__":
    raise SystemExit(main())
