"""Rank exo cameras by how much of the ego view each of them could show.

With depth the prior itself is rendered, at a small size and for a few frames; pixels count whose
sight lines are free (see ``sight_lines``). Without depth there are only the poses: an ego ray
counts as seen where a surface facing the wearer, at the distances of hands and room, would be in
the exo picture and not be turned away from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..cameras import compose, invert, preset_camera, transform
from ..errors import EgoXInputError
from ..file_names import META
from ..frame_store import sample_frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..scene import build_scene
from ..sizes import REFERENCE_SIZE
from ..takes import find_depth, load_depth_file, meta_trajectory, read_meta
from ..types import EARLIER, CameraTrajectory, DepthVideo, of_frames
from .options import prior_preset
from .render import render_ego_prior

EGO_SIZE = 64
"""Side of the small ego picture, px: shares are then exact to a few tenths of a per cent, at 1/50
of the work."""
EXO_HEIGHT = 112
"""Height of the thinned depth maps: four samples of the full map fall into one, still denser than
the ego pixels."""
PROBE_DISTANCES_M = (0.4, 0.7, 1.2, 2.0, 3.5)
"""Hands, table, room: where the ego view's surfaces are, in even steps of the logarithm."""
FACING_DEG = (60.0, 85.0)
"""Angles between ego and exo view of a surface: up to the first exo sees the same side, from the
second on never."""


@frozen
class ExoCandidate:
    """Exo take to be ranked, with both cameras, and depth if available."""

    name: str
    trajectory: CameraTrajectory
    depth: DepthVideo | None = None  # of the trajectory's exo camera
    notes: tuple[str, ...] = ()  # on how cameras and depth were read

    @classmethod
    def of_take(cls, folder: Path, name: str, *, progress: Progress = no_progress) -> ExoCandidate:
        """Read a take folder as a candidate with all of its frames.

        Without depth it has its poses alone.

        Raises:
            EgoXInputError: no meta.json, no ego poses, no exo intrinsics, a depth file that can't
                be read.
        """
        meta = read_meta(folder / META)
        trajectory, meta_notes = meta_trajectory(
            meta, preset_camera("aria_released", REFERENCE_SIZE)
        )
        notes = [meta_notes.placed]
        depth_path = _depth_path(folder)
        depth = None
        if depth_path is not None:
            source = load_depth_file(depth_path, meta, progress=progress)
            depth = source.depth
            notes += map(str, source.notes)
            trajectory = of_frames(trajectory, slice(len(depth.depth_m)))
        else:
            _ = trajectory.required_exo.camera  # refuses poses without a lens
        all_notes = tuple(filter(None, notes))
        return cls(name=name, trajectory=trajectory, depth=depth, notes=all_notes)


@frozen
class ExoRank:
    """Predicted share of the ego view that one exo camera shows."""

    name: str
    by_frame: Tensor  # [F] float64, share of the ego image that is observed, 0...1
    frames: tuple[int, ...]  # which frames were looked at
    method: Literal["depth", "poses"]
    notes: tuple[str, ...]

    @property
    def coverage(self) -> float:
        """Mean share over the frames."""
        return float(self.by_frame.mean())


def rank_exo_cameras(
    candidates: Sequence[ExoCandidate], *, frames: int = 6, progress: Progress = no_progress
) -> list[ExoRank]:
    """Rank candidates by predicted coverage, best first.

    Shares of the two methods don't compare (poses alone can't know what hides what). As soon as
    one candidate has no depth, all are judged by poses.

    Args:
        frames: how many frames of each clip to look at, spread evenly.

    Raises:
        EgoXInputError: no candidate, two of one name, a clip without poses.
    """
    if not candidates:
        raise EgoXInputError(
            "exo cameras", got="none", expected="at least one take", fix="give takes with poses"
        )
    names = [candidate_in_list.name for candidate_in_list in candidates]
    if len(set(names)) < len(names):
        raise EgoXInputError(
            "exo cameras",
            got=f"names {names}",
            expected="a name of its own for each",
            fix="rename the take folders",
        )
    by_depth = all(candidate_in_list.depth is not None for candidate_in_list in candidates)
    ranks = []
    for count, candidate in enumerate(candidates):
        progress(count, len(candidates), f"judging {candidate.name}")
        sampled_frames = sample_frames(len(candidate.trajectory), frames)
        ranks.append(
            ExoRank(
                name=candidate.name,
                by_frame=(coverage_by_depth if by_depth else coverage_by_poses)(
                    candidate, sampled_frames
                ),
                frames=tuple(sampled_frames),
                method="depth" if by_depth else "poses",
                notes=candidate.notes,
            )
        )
    progress(len(candidates), len(candidates), "judging exo cameras")
    return sorted(ranks, key=lambda rank: -rank.coverage)


def rank_text(ranks: Sequence[ExoRank]) -> str:
    """Format the ranking as lines of text, best first."""
    lines = [
        f"{position}. {rank.name}: {100 * rank.coverage:.0f} % of the ego view "
        f"({100 * float(rank.by_frame.min()):.0f}-{100 * float(rank.by_frame.max()):.0f} % over "
        "the clip)"
        for position, rank in enumerate(ranks, 1)
    ]
    return "\n".join(
        (
            *lines,
            f"judged by {ranks[0].method}, frames {', '.join(map(str, ranks[0].frames))}",
            *(f"{rank.name}: {note}" for rank in ranks for note in rank.notes),
        )
    )


def coverage_by_depth(candidate: ExoCandidate, frames: Sequence[int]) -> Tensor:  # [F] float64
    """Measure the share of the ego image that a take observes, by rendering a thinned scene.

    It is measured in a thinned scene of these frames.
    """
    depth, path = candidate.depth, candidate.trajectory
    assert depth is not None  # a candidate without is judged by its poses
    path.check_moments(depth.frames, "depth")
    frame_indices = torch.as_tensor(frames)
    depth = of_frames(depth, frame_indices)
    step = max(1, depth.depth_m.shape[1] // EXO_HEIGHT)
    thin_maps = depth.depth_m[:, ::step, ::step].float()
    dynamic, sky = (
        None if mask is None else mask[:, ::step, ::step] for mask in (depth.dynamic, depth.sky)
    )
    height, width = thin_maps.shape[1:]
    # Taking every step-th sample keeps the rays of those samples: K is divided, centre pixels stay
    # integers.
    lens = depth.exo.camera
    lens = (
        replace(
            lens,
            width=width,
            height=height,
            fx=lens.fx / step,
            fy=lens.fy / step,
            cx=lens.cx / step,
            cy=lens.cy / step,
        )
        if lens.quarter_turns == 0
        else lens.rescale(width, height)
    )
    exo = replace(depth.exo, lens=lens)
    thin_depth = replace(depth, depth_m=thin_maps, exo=exo, dynamic=dynamic, sky=sky, trust=None)
    # Colour plays no part in coverage; with black pictures motion is derived from depth alone.
    scene = build_scene(torch.zeros(len(frames), height, width, 3, dtype=torch.uint8), thin_depth)
    # The edge filter's depth step per pixel is meant for full-size maps; between thinned samples
    # depth changes more.
    options = prior_preset("clean")
    step_m = options.max_edge * max(1.0, REFERENCE_SIZE / height)
    # Small pictures on the CPU: which camera is the best depends on no card.
    options = replace(options, max_edge=step_m, device="cpu")
    path = of_frames(path, frame_indices)
    small_path = replace(path, ego=path.ego.resized(EGO_SIZE, EGO_SIZE))
    seen_classes = render_ego_prior(scene, small_path, options, classes=True).seen
    assert seen_classes is not None  # as asked for
    return (seen_classes >= EARLIER).double().mean((1, 2))


def coverage_by_poses(candidate: ExoCandidate, frames: Sequence[int]) -> Tensor:  # [F] float64
    """Estimate from poses and lenses alone the share of ego rays whose surfaces the exo camera
    could see."""
    path = candidate.trajectory
    ego = path.ego.resized(EGO_SIZE, EGO_SIZE)
    exo = path.required_exo
    rays, in_lens = ego.camera.pixel_rays(torch.float64)
    rays = rays[in_lens]
    facing_from, facing_to = (math.cos(math.radians(angle)) for angle in FACING_DEG)
    shares = []
    for t in frames:
        exo_from_ego = compose(exo.at(t), invert(ego.at(t)))
        visibility = torch.zeros(len(rays), dtype=torch.float64)
        for distance in PROBE_DISTANCES_M:
            points = transform(exo_from_ego, rays * distance)
            uv, valid = exo.camera.project(points)
            in_picture = valid & exo.camera.inside(uv)
            sight_directions = torch.nn.functional.normalize(points, dim=-1)
            facing_cos = (sight_directions * (rays @ exo_from_ego[:, :3].T)).sum(
                -1
            )  # cosine between both views of the surface
            visibility += in_picture * ((facing_cos - facing_to) / (facing_from - facing_to)).clamp(
                0, 1
            )
        shares.append(float(visibility.sum()) / len(PROBE_DISTANCES_M) / in_lens.numel())
    return torch.tensor(shares, dtype=torch.float64)


def _depth_path(folder: Path) -> Path | None:
    try:
        return find_depth(folder)
    except EgoXInputError:
        return None  # judged by poses, and the report says so
