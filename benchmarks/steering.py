"""Does the ego video turn where it is ordered to?

    python3 run.py bench steering [--count N] [--save]

Each held-out room's path is turned by yaw, pitch or roll of ±5, 10, 20 degrees or shifted by ±0.2 m
(a sixth of the orders per room). What is ordered is compared with what the meter of *Decode Ego Half*
measures against the first path's renders: for the small model's video, the true one drawn on the
turned path, the prior pasted in, and another room's true video. The meter must find the truth's
turn; the model's figures are told, not judged. To be run again after a change of the meter or of
the small model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from benchmarks.support.record import RESULTS, bench_parser, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.path_error import PathError, path_error
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import write_whole
from egox_core.scene.build import build_scene
from egox_core.trajectory.poses import compose, sensor_from_upright
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.shading import crease_neighbours
from lab.drawn.views import Renderer
from lab.small_model.held_out import HeldOutClip, clip_of_take, held_out_rooms, with_prior
from lab.small_model.sampler import SampleSettings
from lab.small_model.videos import VideoStore

TAKES = 64
AXES = {"pitch": 0, "yaw": 1, "roll": 2, "x": 3, "y": 4, "z": 5}
DEGREES, METRES = (0.0, 5.0, -5.0, 10.0, -10.0, 20.0, -20.0), (0.2, -0.2)
MODEL, TRUTH, PRIOR, OTHER = "generated", "truth", "prior pasted in", "another room's video"
MOST_ERROR_DEG, LEAST_JUDGED, MOST_OF_OTHERS = 0.5, 0.8, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A turn in degrees or a shift in metres of the camera's points, in upright axes."""

    axis: str
    amount: float

    @property
    def vector(self) -> np.ndarray:  # [6] degrees, metres
        vector = np.zeros(6)
        vector[AXES[self.axis]] = self.amount
        return vector

    def matrix(self, quarter_turns: int) -> torch.Tensor:  # [3, 4] ordered camera from the first
        upright = sensor_from_upright(quarter_turns).numpy()
        turn = Rotation.from_rotvec(upright @ self.vector[:3], degrees=True).as_matrix()
        return torch.from_numpy(np.concatenate((turn, (upright @ self.vector[3:])[:, None]), 1))


ORDERS = [
    *(Order(axis=a, amount=d) for a in ("yaw", "pitch", "roll") for d in DEGREES),
    *(Order(axis=a, amount=m) for a in ("x", "y", "z") for m in METRES),
]


def ordered_clips(
    spec: SyntheticSpec, orders: Sequence[Order]
) -> tuple[HeldOutClip, list[HeldOutClip]]:
    """The room's clip, and on each ordered path: truth and prior are those of that path."""
    take = make_take(spec)
    first, scene, frames = clip_of_take(take), take.scene, list(range(take.spec.frames))
    neighbours, clips = crease_neighbours(scene), []
    for order in orders:
        w2c = compose(order.matrix(scene.ego_camera.quarter_turns)[None], first.trajectory.w2c)
        drawer = Renderer(scene, scene.ego_camera, w2c, neighbours, spec.edge_samples)
        rgb = drawer.full(frames, scene.indices(head=False)).rgb
        truth = (rgb * 255).round().clamp(0, 255).to(torch.uint8).reshape(first.truth.shape)
        path = replace(first.trajectory, w2c=w2c)
        clips.append(with_prior(replace(first, truth=truth, trajectory=path)))
    return first, clips


def measure(
    specs: Sequence[SyntheticSpec], store: VideoStore, progress: Progress = no_progress
) -> dict[str, Any]:
    """Ordered against measured by kind of video, axis and amount."""
    found: dict[str, list[tuple[Order, PathError]]] = {m: [] for m in (MODEL, TRUTH, PRIOR, OTHER)}
    other = None
    for number, spec in enumerate(specs):
        progress(number, len(specs), "rooms")
        orders = ORDERS[number % 6 :: 6]
        first, clips = ordered_clips(spec, orders)
        scene = build_scene(first.exo.float() / 255, first.depth)
        sampled = store.generated(clips, SampleSettings(), "videos")
        for order, clip, generated in zip(orders, clips, sampled, strict=True):
            videos = {MODEL: generated, TRUTH: clip.truth, PRIOR: clip.prior}
            if other is not None:
                videos[OTHER], other = other, None
            for name, video in videos.items():
                pictures = torch.as_tensor(video).float() / 255
                found[name].append((order, path_error(pictures, scene, first.trajectory)))
        other = first.truth
    rows = [
        {"video": name, "axis": axis, **row_of([pair for pair in of if pair[0].axis == axis])}
        for name, of in found.items() for axis in AXES
    ]
    turned = [pair for pair in found[TRUTH] if AXES[pair[0].axis] < 3]
    by_size = [
        {"video": TRUTH, "axis": f"turns of {size:g}°",
         **row_of([pair for pair in turned if abs(pair[0].amount) == size])}
        for size in sorted(set(map(abs, DEGREES)))
    ]
    judged = {name: _judged(of) for name, of in found.items()}
    passed = len(specs) >= TAKES and judged[OTHER] <= MOST_OF_OTHERS and all(
        row["error"] <= MOST_ERROR_DEG and row["judged"] >= LEAST_JUDGED for row in by_size
    )
    return {"rooms": len(specs), "rows": [*rows, *by_size], "judged": judged, "passed": passed}


def row_of(found: Sequence[tuple[Order, PathError]]) -> dict[str, Any]:
    """Slope of measured over ordered, median error, share judged, of turns or of shifts."""
    if not found:
        return dict.fromkeys(("frames", "judged", "slope", "error", "spread"))
    got = np.concatenate([torch.cat((e.turn_deg, e.shift_m), 1).numpy() for _, e in found])
    wanted = np.concatenate([np.tile(order.vector, (len(e.score), 1)) for order, e in found])
    group = slice(0, 3) if AXES[found[0][0].axis] < 3 else slice(3, 6)
    kept = np.isfinite(got[:, 0])
    off = np.linalg.norm((got - wanted)[kept, group], axis=1)
    square, spread = float((wanted[kept] ** 2).sum()), np.concatenate([e.spread_deg for _, e in found])
    return {
        "frames": len(kept), "judged": float(kept.mean()),
        "slope": float((got * wanted)[kept].sum() / square) if square else None,
        "error": float(np.median(off)) if kept.any() else None,
        "spread": float(np.median(spread[kept])) if kept.any() else None,
    }


def _judged(found: Sequence[tuple[Order, PathError]]) -> float:
    return float(torch.cat([e.judged for _, e in found]).float().mean()) if found else 0.0


def markdown(result: Mapping[str, Any]) -> str:
    """The rows, for a person."""
    lines = [
        "# What is ordered and what the view shows",
        "",
        "Turns of ±5, 10, 20 degrees and none, shifts of ±0.2 m, measured against the first path's "
        "renders. Errors are medians over the judged frames: degrees of turns, metres of shifts.",
        "",
        "| video | axis | slope | error | spread of the turn | judged |",
        "| --- " * 6 + "|",
    ]
    for row in result["rows"]:
        cells = ("–" if row[k] is None else f"{row[k]:.2f}"
                 for k in ("slope", "error", "spread", "judged"))
        lines.append(f"| {row['video']} | {row['axis']} | {' | '.join(cells)} |")
    lines += [
        "",
        f"{result['rooms']} rooms. Asked of the truth: turns within {MOST_ERROR_DEG} degrees, "
        f"{LEAST_JUDGED:.0%} judged; of another room's video at most {MOST_OF_OTHERS:.0%} "
        f"({result['judged'][OTHER]:.1%}). The model's rows are told, not judged.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--count", type=int, default=TAKES, help="of rooms")
    args = parser.parse_args(arguments)
    store = VideoStore()
    result = measure(held_out_rooms(args.count), store, ProgressLine())
    table = markdown(result)
    if args.save:
        with write_whole(RESULTS / "steering.md") as temporary:
            temporary.write_text(table + "\n", encoding="utf-8")
    return finish("steering", {**result, "weights": store.sampler.parts}, args, table,
                  result["passed"])


if __name__ == "__main__":
    raise SystemExit(main())
