"""How well priors of real takes meet the true ego video: the authors' own, each preset, and `exact` rule by rule.

    python3 run.py bench real_prior [--takes NAME ...] [--rows NAME ...] [--every 6] [--sheet FOLDER] [--save]

Takes are the folders of ../shared/data/takes with a true ego video; without them there is nothing to measure. Every
``every``-th frame is drawn, written as a video, read again and compared with the true frame as that folder's
compare_truth.py does, on pixels that the prior covers and the truth doesn't leave black: normalised cross-correlation
of luma (``ncc``), the same of the gradient of luma blurred by 1.5 px (``gradient``: whether outlines meet), and the
share of the picture that the prior covers.

Rows: ``authors`` their own video; ``released``, ``clean``, ``exact`` the presets; ``raw lens`` exact without its scale;
``no ...`` exact without one of the rules that it draws by, as ``clean`` does; ``exo +2`` the moving points of two exo
frames later with this frame's ego pose, whether exo and ego are in step; ``truth +2`` exact against a later true frame,
whether poses and truth are. The bars are those of ``exact``, and that its scale earns its place.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.support.record import add_arguments, finish
from egox_core.file_names import TRUTH
from egox_core.previews.contact_sheet import SheetRow, make_contact_sheet, write_png
from egox_core.prior.options import PRESET_GEOMETRY, PriorOptions, prior_preset
from egox_core.prior.render import iter_ego_prior
from egox_core.scene.build import build_scene
from egox_core.takes.exo_camera import ExoLens
from egox_core.takes.metric_scale import ScaleSource
from egox_core.takes.take import load_take
from egox_core.types import CameraTrajectory, PointCloud
from egox_core.video.reader import decode_frames, probe_video
from egox_core.video.writer import write_video

TAKES = Path(__file__).resolve().parents[2] / "shared" / "data" / "takes"
AUTHORS = "ego_prior_released.mp4"
BLACK = 15  # sum of the channels up to which nothing landed
BLUR_PX, RIM_PX, MIN_PIXELS = 1.5, 7, 500
BARS: Mapping[str, tuple[float, float, float]] = {"sfu_covid": (0.60, 0.12, 0.48), "cmu_soccer": (0.36, 0.20, 0.80)}
"""ncc, gradient and coverage of ``exact``, by the beginning of a take's name."""
SCALE_GAIN: Mapping[str, float] = {"cmu_soccer": 0.08, "sfu_covid": -0.02}
"""ncc that the wearer's scale must bring (or may cost)."""
SHEET_FRAMES, SHEET_HEIGHT = (0, 24, 48), 300
OFFSETS = (-2, 2)
Geometry = tuple[ExoLens, ScaleSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prior to draw."""

    geometry: Geometry
    options: PriorOptions
    exo_offset: int = 0  # exo frames by which the moving points are later


def rows() -> dict[str, Row]:
    """All priors that are drawn, by name."""
    as_given, exact = ("as given", "as is"), PRESET_GEOMETRY["exact"]
    clean = prior_preset("exact")
    without = {"no head radius": replace(clean, head_radius_m=0.0),
               "no head sight": replace(clean, head_sight=False), "no supersampling": replace(clean, supersample=1),
               "no gap filling": replace(clean, gap_reach=0.0), "no stray filter": replace(clean, max_stray=100.0)}
    return {
        "released": Row(geometry=as_given, options=prior_preset("released")),
        "clean": Row(geometry=as_given, options=prior_preset("clean")),
        "raw lens": Row(geometry=(exact[0], "as is"), options=clean),
        "exact": Row(geometry=exact, options=clean),
        **{name: Row(geometry=exact, options=options) for name, options in without.items()},
        **{f"exo {offset:+d}": Row(geometry=exact, options=clean, exo_offset=offset) for offset in OFFSETS},
    }


class ShiftedFrames:
    """Moving points of chosen frames, some exo frames later; the last ones stand still."""

    def __init__(self, scene: PointCloud, frames: list[int], offset: int) -> None:
        last = scene.frame_count - 1
        self._moving, self._frames = scene.moving, [min(max(t + offset, 0), last) for t in frames]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: int):
        return self._moving[self._frames[place]]


def draw(scene: PointCloud, path: CameraTrajectory, row: Row, frames: list[int], fps: float) -> np.ndarray:
    """The prior's frames [N, H, W, 3] uint8, as a reader of its video sees them."""
    part = replace(scene, moving=ShiftedFrames(scene, frames, row.exo_offset), frame_count=len(frames))
    path = replace(path, w2c=path.w2c[frames], times_s=path.times_s[frames])
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "prior.mp4"
        write_video(video, (frame.rgb for frame in iter_ego_prior(part, path, row.options)), fps)
        return read(video, list(range(len(frames))))


def read(video: Path, frames: list[int]) -> np.ndarray:  # [N, H, W, 3] uint8
    """Frames of a video; past its end the last one."""
    info = probe_video(video)
    wanted = [min(max(t, 0), info.frame_count - 1) for t in frames]
    pictures = {t: picture for t, picture in decode_frames(video, info, sorted(set(wanted)))}
    return np.stack([pictures[t] for t in wanted])


def compare(prior: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Means over frames [N, H, W, 3] uint8; as the module says."""
    figures = []
    for drawn, true in zip(prior, truth, strict=True):
        covered = drawn.sum(-1, dtype=int) > BLACK
        both = covered & (true.sum(-1, dtype=int) > BLACK)
        inner = cv2.erode(both.astype(np.uint8), np.ones((RIM_PX, RIM_PX), np.uint8)) > 0
        x, y = drawn.astype(float).mean(-1), true.astype(float).mean(-1)
        figures.append((correlation(x, y, both), correlation(outlines(x), outlines(y), inner), covered.mean()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a figure that no frame has stays NaN
        means = np.nanmean(figures, 0).round(4).tolist()
    return dict(zip(("ncc", "gradient", "coverage"), means, strict=True))


def correlation(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    """Normalised cross-correlation of [H, W] arrays on ``where``; NaN on less than MIN_PIXELS."""
    if where.sum() < MIN_PIXELS:
        return float("nan")
    a, b = a[where] - a[where].mean(), b[where] - b[where].mean()
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def outlines(luma: np.ndarray) -> np.ndarray:
    """Gradient magnitude of blurred luma [H, W]."""
    down, right = np.gradient(cv2.GaussianBlur(luma.astype(np.float32), (0, 0), BLUR_PX))
    return np.hypot(right, down)


def measure_take(folder: Path, names: list[str], every: int, sheet: Path | None, say: Callable[[str], None]) -> dict:
    """Figures of one take, a row each, and its scale and lens."""
    truth_file = folder / TRUTH
    wanted = {name: row for name, row in rows().items() if name in names}
    scenes: dict[Geometry, tuple[PointCloud, CameraTrajectory]] = {}
    result: dict = {"take": folder.name, "rows": {}}
    frames: list[int] = []
    priors: dict[str, np.ndarray] = {}
    for name, row in wanted.items():
        started = time.perf_counter()
        if row.geometry not in scenes:
            take = load_take(folder, frame_count=None, exo_lens=row.geometry[0], scale=row.geometry[1])
            scenes.clear()  # one scene at a time: a take's has some hundred MB
            scenes[row.geometry] = build_scene(take.read_exo(), take.depth), take.trajectory
            frames = list(range(0, take.depth.depth_m.shape[0], every))
            if row.geometry == PRESET_GEOMETRY["exact"]:
                result |= {"exo_lens": take.lens_note, "scale": take.scale.content()}
        scene, path = scenes[row.geometry]
        priors[name] = draw(scene, path, row, frames, take.frames.fps)
        result["rows"][name] = compare(priors[name], read(truth_file, frames))
        say(f"{folder.name} {name}: {result['rows'][name]}, {time.perf_counter() - started:.0f} s")
    if (folder / AUTHORS).is_file():
        priors["authors"] = read(folder / AUTHORS, frames)
        result["rows"]["authors"] = compare(priors["authors"], read(truth_file, frames))
    for offset in OFFSETS if "exact" in priors else ():
        shifted = read(truth_file, [t + offset for t in frames])
        result["rows"][f"truth {offset:+d}"] = compare(priors["exact"], shifted)
    if sheet is not None and "exact" in priors:
        write_sheet(sheet / f"{folder.name}.png", priors, read(truth_file, frames), frames)
    return result


def write_sheet(file: Path, priors: Mapping[str, np.ndarray], truth: np.ndarray, frames: list[int]) -> None:
    """Exact, the authors' prior and the truth, a row a frame."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shown = [place for place, t in enumerate(frames) if t in SHEET_FRAMES] or [0]
    columns = [(name, priors[name]) for name in ("exact", "authors") if name in priors] + [("truth", truth)]
    write_png(file, make_contact_sheet([
        SheetRow(pictures=[pictures[place] for _, pictures in columns],
                 labels=[f"{file.stem}, frame {frames[place]}: {', '.join(name for name, _ in columns)}"])
        for place in shown], SHEET_HEIGHT))


def failures(result: dict) -> list[str]:
    """Bars of a take that do not hold; rows that were not drawn have none, a NaN fails."""
    name, failed, drawn = result["take"], [], result["rows"]
    for begin, bars in BARS.items():
        if name.startswith(begin) and "exact" in drawn:
            failed += [f"{name}: exact {figure} {drawn['exact'][figure]:.3f}, bar {bar}"
                       for figure, bar in zip(("ncc", "gradient", "coverage"), bars, strict=True)
                       if not drawn["exact"][figure] >= bar]
    for begin, gain in SCALE_GAIN.items():
        if name.startswith(begin) and {"exact", "raw lens"} <= drawn.keys():
            brought = drawn["exact"]["ncc"] - drawn["raw lens"]["ncc"]
            failed += [] if brought >= gain else [f"{name}: the wearer's scale brings {brought:+.3f} ncc, bar {gain}"]
    return failed


def idle_rules(results: list[dict], margin: float = 0.01) -> list[str]:
    """Rules of drawing without which ncc or gradient is better by more than ``margin`` on every take."""
    names = [name for name in rows() if name.startswith("no ") and all(name in r["rows"] for r in results)]
    return [name[3:] for name in names if results and any(
        all(r["rows"][name][figure] - r["rows"]["exact"][figure] > margin for r in results)
        for figure in ("ncc", "gradient"))]


def table(results: list[dict]) -> str:
    """A line a take and row."""
    lines = [f"{'take':30} {'row':18} {'ncc':>7} {'gradient':>9} {'coverage':>9}"]
    for result in results:
        lines += [f"{result['take'][:30]:30} {name:18} {r['ncc']:7.3f} {r['gradient']:9.3f} {r['coverage']:9.3f}"
                  for name, r in result["rows"].items()]
        if "scale" in result:
            lines.append(f"{result['take'][:30]:30} {result['exo_lens']}; scale {result['scale']}")
    return "\n".join(lines)


def takes_with_truth(root: Path = TAKES) -> list[Path]:
    """Take folders with a true ego video."""
    return sorted(file.parent for file in root.glob(f"*/{TRUTH}"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--takes", nargs="+", metavar="NAME", help="beginnings of take names (default: all)")
    parser.add_argument("--rows", nargs="+", choices=list(rows()), default=list(rows()), metavar="NAME")
    parser.add_argument("--every", type=int, default=6, help="frames between those that are drawn")
    parser.add_argument("--sheet", type=Path, metavar="FOLDER", help="write pictures there (not into the repository)")
    add_arguments(parser)
    args = parser.parse_args(arguments)
    folders = [f for f in takes_with_truth() if args.takes is None or f.name.startswith(tuple(args.takes))]
    if not folders:
        print("bench real_prior: skipped, no take with a true ego video in ../shared/data/takes")
        return 0
    results = [measure_take(folder, args.rows, args.every, args.sheet, lambda line: print(line, file=sys.stderr))
               for folder in folders]
    failed = [line for result in results for line in failures(result)]
    idle = idle_rules(results)
    finish("real_prior", {"every": args.every, "takes": results, "rules_to_drop": idle, "failed": failed}, args,
           f"{table(results)}\nrules that lower ncc or gradient on every take: {', '.join(idle) or 'none'}\n"
           + ("\n".join(failed) if failed else "all bars hold"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
