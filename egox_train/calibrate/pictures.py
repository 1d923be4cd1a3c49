"""Reconstruct the scene and the cameras from the pictures of a recording, for each candidate
lens."""

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
from .lenses import from_colmap, make_lens, to_colmap
from .recording_files import EGO, ExoFile
from .sound import Clocks
from .structure import Structure, require_pycolmap, solve_structure

SHORTEST_S = 8.0
FEWEST_POINTS = 100
"""Of a fixed camera: with fewer it isn't claimed (``benchmarks/results/own_recordings.md``)."""
LENS_OFF = 0.01
"""Share of its focal length by which a calibrated lens may differ from what pictures say."""


def solve_pictures(
    ego_video: Path,
    ego: VideoInfo,
    exos: Sequence[ExoFile],
    clocks: Mapping[str, Clocks | None],
    options: CalibrateOptions,
    work_folder: Path,
    progress: Progress,
) -> tuple[Structure | None, dict[str, CameraModel]]:
    """Reconstruct a recording's pictures with each candidate lens, and return the best
    reconstruction."""
    require_pycolmap()
    ego_range, exo_ranges = _shared_ranges(ego, exos, clocks)
    video_paths = [ego_video, *(exo.video for exo in exos)]
    frame_ranges = [ego_range, *(exo_ranges[exo.name] for exo in exos)]
    source_marks = [
        [p.stat().st_size, r.start, r.stop] for p, r in zip(video_paths, frame_ranges, strict=True)
    ]
    picture_folder = work_folder / fingerprint([source_marks, EGO_SIDE, EXO_SIDE])[:12]
    done_file = picture_folder / "pictures.done"
    if not done_file.is_file():
        write_moving(ego_video, ego, ego_range, picture_folder / EGO, progress)
        for exo in exos:
            write_still(
                exo.video, exo.info, exo_ranges[exo.name], picture_folder / exo.name / "still.png"
            )
        done_file.write_text("", "utf-8")
    picture_names = {EGO: sorted(p.name for p in (picture_folder / EGO).glob("*.png"))}
    picture_names |= {exo.name: ["still.png"] for exo in exos}
    picture_sizes = {EGO: picture_size(ego.width, ego.height, EGO_SIDE)}
    picture_sizes |= {
        exo_file.name: picture_size(exo_file.info.width, exo_file.info.height, EXO_SIDE)
        for exo_file in exos
    }
    best_solution: tuple[tuple, Structure] | None = None
    lens_type_pairs = (("fisheye", "phone"), ("phone", "phone"), ("fisheye", "fisheye"))
    tried_lenses = set()
    for ego_kind, exo_kind in lens_type_pairs:
        lens_types = (
            options.ego_lens if options.ego_lens != "free" else ego_kind,
            options.exo_lens if options.exo_lens != "free" else exo_kind,
        )
        if lens_types in tried_lenses:
            continue
        tried_lenses.add(lens_types)
        lenses = {}
        for name, size in picture_sizes.items():
            lens, free_parameters = make_lens(lens_types[name != EGO], *size)
            lenses[name] = (*to_colmap(lens), free_parameters)
        solution = solve_structure(picture_folder, picture_names, lenses, EGO, progress)
        if solution is None:
            continue
        points_by_still = [
            len(solution.point_indices.get(f"{exo.name}/still.png", ())) for exo in exos
        ]
        points_of_still = sum(count >= FEWEST_POINTS for count in points_by_still)
        ego_count = sum(name.startswith(f"{EGO}/") for name in solution.w2c)
        solution_rank = (
            ego_count >= 0.5 * len(picture_names[EGO]),
            points_of_still,
            ego_count,
            -solution.error_px,
        )
        if best_solution is None or solution_rank > best_solution[0]:
            best_solution = solution_rank, solution
    if best_solution is None:
        return None, {}
    structure = best_solution[1]
    lenses = {
        name: from_colmap(model, camera_parameters, *picture_sizes[name])
        for name, (model, camera_parameters) in structure.cameras.items()
    }
    return structure, lenses


def _shared_ranges(
    ego: VideoInfo, exos: Sequence[ExoFile], clocks: Mapping[str, Clocks | None]
) -> tuple[range, dict[str, range]]:
    """Find the frames of each camera that other cameras recorded at the same time."""
    ego_times_s, first_time, last_time = np.asarray(ego.times_s), math.inf, -math.inf
    exo_ranges = {}
    for exo_file in exos:
        exo_times_s, exo_clock = np.asarray(exo_file.info.times_s), clocks[exo_file.name]
        if exo_clock is None:
            exo_ranges[exo_file.name] = range(len(exo_times_s))
            first_time, last_time = min(first_time, ego_times_s[0]), max(last_time, ego_times_s[-1])
            continue
        exo_times_in_ego_s = exo_clock.ego_s(exo_times_s)
        shared_indices = np.flatnonzero(
            (exo_times_in_ego_s >= ego_times_s[0]) & (exo_times_in_ego_s <= ego_times_s[-1])
        )
        if len(shared_indices) < SHORTEST_S * exo_file.info.fps:
            raise EgoXInputError(
                f"recording {exo_file.video.name}",
                got=(
                    f"{len(shared_indices) / exo_file.info.fps:.1f} s that the head camera has, too"
                ),
                expected=f"{SHORTEST_S:g} s or more",
                fix="give videos of the same moments",
            )
        exo_ranges[exo_file.name] = range(shared_indices[0], shared_indices[-1] + 1)
        first_time = min(first_time, exo_times_in_ego_s[shared_indices[0]])
        last_time = max(last_time, exo_times_in_ego_s[shared_indices[-1]])
    used_frames = np.flatnonzero(
        (ego_times_s >= first_time - 1e-6) & (ego_times_s <= last_time + 1e-6)
    )
    return range(used_frames[0], used_frames[-1] + 1), exo_ranges


def lens_notes(structure: Structure, options: CalibrateOptions) -> list[str]:
    """Report calibrated lenses that contradict the pictures."""
    notes = []
    for name, (length_change, change_sd) in structure.focal_changes.items():
        if abs(length_change) > max(LENS_OFF, 3 * change_sd):
            lens_file = options.ego_lens if name == EGO else options.exo_lens
            notes.append(
                f"lens of {name}: by the pictures its focal length is {abs(length_change):.1%} "
                f"{'longer' if length_change > 0 else 'shorter'} (sd {change_sd:.1%}) than in "
                f"{Path(lens_file).name}: is that file of this video's mode, size and crop?"
            )
    return notes
