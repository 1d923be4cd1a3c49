"""Pictures of a recording and the lenses that they may have, solved."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from egox_core.cameras import CameraModel
from egox_core.errors import EgoXInputError
from egox_core.progress import Progress
from egox_core.video import VideoInfo

from ..fingerprint import fingerprint
from ..options import CalibrateOptions
from .frames import EGO_SIDE, EXO_SIDE, picture_size, write_moving, write_still
from .lenses import from_colmap, lens_of, to_colmap
from .recording_files import EGO, ExoFile
from .sound import Clocks
from .structure import Structure, require_pycolmap, solve_structure

SHORTEST_S = 8.0
FEWEST_POINTS = 40
"""Of a fixed camera: with fewer it isn't claimed."""
LENS_OFF = 0.01
"""Share of its focal length by which a calibrated lens may differ from what pictures say."""


def solve_pictures(
    ego_video: Path,
    ego: VideoInfo,
    exos: Sequence[ExoFile],
    clocks: Mapping[str, Clocks | None],
    options: CalibrateOptions,
    work: Path,
    progress: Progress,
) -> tuple[Structure | None, dict[str, CameraModel]]:
    """Solve pictures with each candidate lens, and return the best solution with its lenses, of the
    small pictures."""
    require_pycolmap()
    span, spans = _spans(ego, exos, clocks)
    sources = [ego_video, *(exo.video for exo in exos)]
    ranges = [span, *(spans[exo.name] for exo in exos)]
    marks = [[p.stat().st_size, r.start, r.stop] for p, r in zip(sources, ranges, strict=True)]
    root = work / fingerprint([marks, EGO_SIDE, EXO_SIDE])[:12]
    done = root / "pictures.done"
    if not done.is_file():
        write_moving(ego_video, ego, span, root / EGO, progress)
        for exo in exos:
            write_still(exo.video, exo.info, spans[exo.name], root / exo.name / "still.png")
        done.write_text("", "utf-8")
    pictures = {EGO: sorted(p.name for p in (root / EGO).glob("*.png"))}
    pictures |= {exo.name: ["still.png"] for exo in exos}
    sizes = {EGO: picture_size(ego.width, ego.height, EGO_SIDE)}
    sizes |= {e.name: picture_size(e.info.width, e.info.height, EXO_SIDE) for e in exos}
    best: tuple[tuple, Structure] | None = None
    choices = (("fisheye", "phone"), ("phone", "phone"), ("fisheye", "fisheye"))
    tried = set()
    for ego_kind, exo_kind in choices:
        kind = (
            options.ego_lens if options.ego_lens != "free" else ego_kind,
            options.exo_lens if options.exo_lens != "free" else exo_kind,
        )
        if kind in tried:
            continue
        tried.add(kind)
        lenses = {}
        for name, size in sizes.items():
            lens, free = lens_of(kind[name != EGO], *size)
            lenses[name] = (*to_colmap(lens), free)
        found = solve_structure(root, pictures, lenses, EGO, progress)
        if found is None:
            continue
        points = [len(found.rows.get(f"{exo.name}/still.png", ())) for exo in exos]
        claimed = sum(count >= FEWEST_POINTS for count in points)
        ego_count = sum(name.startswith(f"{EGO}/") for name in found.w2c)
        rank = (ego_count >= 0.5 * len(pictures[EGO]), claimed, ego_count, -found.error_px)
        if best is None or rank > best[0]:
            best = rank, found
    if best is None:
        return None, {}
    structure = best[1]
    lenses = {
        name: from_colmap(model, numbers, *sizes[name])
        for name, (model, numbers) in structure.cameras.items()
    }
    return structure, lenses


def _spans(
    ego: VideoInfo, exos: Sequence[ExoFile], clocks: Mapping[str, Clocks | None]
) -> tuple[range, dict[str, range]]:
    """Find the frames of the head camera, and of each fixed one, that other recordings also cover."""
    ego_s, begin, end = np.asarray(ego.times_s), math.inf, -math.inf
    spans = {}
    for exo in exos:
        times, clock = np.asarray(exo.info.times_s), clocks[exo.name]
        if clock is None:
            spans[exo.name] = range(len(times))
            begin, end = min(begin, ego_s[0]), max(end, ego_s[-1])
            continue
        there = clock.ego_s(times)
        both = np.flatnonzero((there >= ego_s[0]) & (there <= ego_s[-1]))
        if len(both) < SHORTEST_S * exo.info.fps:
            raise EgoXInputError(
                f"recording {exo.video.name}",
                got=f"{len(both) / exo.info.fps:.1f} s that the head camera has, too",
                expected=f"{SHORTEST_S:g} s or more",
                fix="give videos of the same moments",
            )
        spans[exo.name] = range(both[0], both[-1] + 1)
        begin, end = min(begin, there[both[0]]), max(end, there[both[-1]])
    used = np.flatnonzero((ego_s >= begin - 1e-6) & (ego_s <= end + 1e-6))
    return range(used[0], used[-1] + 1), spans


def lens_notes(structure: Structure, options: CalibrateOptions) -> list[str]:
    """Tell of lenses from a file that the pictures contradict."""
    notes = []
    for name, (share, sd) in structure.longer.items():
        if abs(share) > max(LENS_OFF, 3 * sd):
            file = options.ego_lens if name == EGO else options.exo_lens
            notes.append(
                f"lens of {name}: by the pictures its focal length is {abs(share):.1%} "
                f"{'longer' if share > 0 else 'shorter'} (sd {sd:.1%}) than in {Path(file).name}: "
                "is that file of this video's mode, size and crop?"
            )
    return notes
