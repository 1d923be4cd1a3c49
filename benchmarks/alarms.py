"""Count correct, wrong and missing warnings about the ego camera's position, on synthetic takes
whose input files are correct or have a known error.

    python3 run.py bench alarms [--first-seed 0] [--takes 40] [--save]

To be run again after a change of ``egox_core/prior/placement.py``, with seeds that nobody has seen.
A wrong reading is silent, named rightly (alone or as one of two), or named as something else; a
word alone offers no reading. Right takes have usual persons, and then all postures and places of
exo, with exact depth and as networks estimate it. Each named remedy is followed as it is worded:
the second one where the first leaves the prior wrong, by the points that the ego camera sees
against the true ones. A take that is wrong after both cries again, or is silent. All rows are drawn
with a mask of the wearer and without; those with a second person beside a seated wearer or a child
have a mask of both."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core import stages
from egox_core.cameras import CameraPath, compose, invert, transform
from egox_core.errors import EgoXInputError
from egox_core.remarks import RemarkKind
from egox_core.types import CameraTrajectory, DepthVideo
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.drawn.bystander import add_bystander
from lab.drawn.depth_errors import DepthErrors, add_depth_errors
from lab.drawn.spec import CHOICES

Change = Callable[[Tensor], Tensor]
POSE_KINDS = ("ego", "exo")
REMARK_KINDS = (
    RemarkKind.IMPOSSIBLE_PLACE,
    RemarkKind.STRANGE_PLACE,
    RemarkKind.WARNING,
)
REMEDY_PLACES = ("first remedy", "second remedy")
WORLD_FROM_DRAWN = [[0.6, 0.0, 0.8, 0.5], [0.0, 1.0, 0.0, -0.4], [-0.8, 0.0, 0.6, 0.7]]
"""The take's world against the drawn one."""
MOST_RELATIVE_ERROR = 0.4
"""Median error of points over their depth up to which a take is right: that of depth x 1.4, which
nothing tells."""
ESTIMATE_ERRORS = DepthErrors(bend=0.1, flicker=0.15)
"""Errors of depth as networks estimate it. A take of one frame has the flicker as its scale."""


def to_opengl_axes(w2c: Tensor) -> Tensor:
    """Convert camera poses from OpenCV's axes to OpenGL's."""
    return w2c * w2c.new_tensor([[1.0], [-1.0], [-1.0]])


def make_roll(sine: float) -> Change:
    """Build a function that rolls camera poses by +90 or -90 degrees."""
    return lambda w2c: w2c.new_tensor([[0, sine, 0], [-sine, 0, 0], [0, 0, 1.0]]) @ w2c


def make_scaling(factor: float) -> Change:
    """Build a function that multiplies depth values, or the translations of camera poses, by a
    factor."""
    return lambda values: (
        values * (values.new_tensor([1, 1, 1, factor]) if values.shape[-2:] == (3, 4) else factor)
    )


def to_disparity(depth_m: Tensor) -> Tensor:
    """Convert depth to relative disparity from 0 to 1, as depth networks predict it."""
    inverse_depth = 1 / depth_m
    far_disparity, near_disparity = (
        inverse_depth.nanquantile(0.005),
        inverse_depth.nanquantile(0.995),
    )
    return ((inverse_depth - far_disparity) / (near_disparity - far_disparity)).clamp(1e-3, 1)


FILE_ERRORS: dict[str, tuple[dict[str, Change], str]] = {
    "poses camera-to-world": (dict.fromkeys(POSE_KINDS, invert), "poses that are camera-to-world"),
    "ego camera-to-world": ({"ego": invert}, "ego poses that are camera-to-world"),
    "exo camera-to-world": ({"exo": invert}, "exo poses that are camera-to-world"),
    "poses OpenGL": (dict.fromkeys(POSE_KINDS, to_opengl_axes), "poses in OpenGL's axes: negate"),
    "ego OpenGL": ({"ego": to_opengl_axes}, "ego poses in OpenGL's axes: negate"),
    "exo OpenGL": ({"exo": to_opengl_axes}, "exo poses in OpenGL's axes: negate"),
    "ego rolled": ({"ego": make_roll(1.0)}, "an upright picture"),
    "ego rolled back": ({"ego": make_roll(-1.0)}, "an upright picture"),
    "depth mm": ({"depth": make_scaling(1000)}, "depth in millimetres"),
    "depth cm": ({"depth": make_scaling(100)}, "depth in centimetres"),
    "poses mm": (dict.fromkeys(POSE_KINDS, make_scaling(1000)), "poses in millimetres"),
    "poses cm": (dict.fromkeys(POSE_KINDS, make_scaling(100)), "poses in centimetres"),
    "depth inverse": ({"depth": torch.reciprocal}, "depth that is inverse or disparity"),
    "disparity 0 to 1": ({"depth": to_disparity}, "depth that is inverse or disparity"),
    "depth x 2": ({"depth": make_scaling(2)}, "another unit or of another lens"),
    "depth / 2": ({"depth": make_scaling(0.5)}, "another unit or of another lens"),
    "depth 1/256 m": ({"depth": make_scaling(256)}, "depth in 1/256 m"),
    "depth 1/5000 m": ({"depth": make_scaling(5000)}, "or a smaller unit"),
    # 16-bit PNG files are read in millimetres
    "depth PNG of 1/256 m": ({"depth": make_scaling(0.256)}, "another unit or of another lens"),
    "depth PNG of 1/5000 m": ({"depth": make_scaling(5)}, "another unit or of another lens"),
    "depth feet": ({"depth": make_scaling(1 / 0.3048)}, "another unit or of another lens"),
    "focal length x 2": ({"focal": lambda focal: 2 * focal}, "another unit or of another lens"),
    "focal length / 2": ({"focal": lambda focal: focal / 2}, "another unit or of another lens"),
    "depth x 1.4": ({"depth": make_scaling(1.4)}, "nothing"),
}


TWO_PEOPLE_ERRORS = ("depth inverse", "poses OpenGL", "ego OpenGL", "ego rolled", "ego rolled back")


class TakeFiles(NamedTuple):
    """Store a take's input files in memory: exo depth, camera paths and the wearer's mask."""

    depth_m: Tensor  # [T, H, W]
    ego: CameraPath
    exo: CameraPath
    mask: Tensor | None  # [T, H, W] bool

    def with_changes(self, changes: dict[str, Change]) -> "TakeFiles":
        """Apply changes to the depth, the camera poses or the focal length, selected by name."""
        depth_m, ego_path, exo_path, _ = self
        if "focal" in changes:
            focal_px = changes["focal"](exo_path.camera.fx)
            exo_path = replace(exo_path, lens=replace(exo_path.camera, fx=focal_px, fy=focal_px))
        return self._replace(
            depth_m=changes.get("depth", torch.clone)(depth_m),
            ego=replace(ego_path, w2c=changes.get("ego", torch.clone)(ego_path.w2c)),
            exo=replace(exo_path, w2c=changes.get("exo", torch.clone)(exo_path.w2c)),
        )

    def points_in_ego_frame(self) -> Tensor:  # [T, H, W, 3]
        """Compute the points of the exo pictures in the ego camera's frame."""
        rays = self.exo.camera.depth_rays() * self.depth_m[..., None]
        ego_from_exo = compose(self.ego.w2c, invert(self.exo.w2c)).float()
        return transform(ego_from_exo[:, None], rays)


def correct_files(take: SyntheticTake, has_mask: bool) -> TakeFiles:
    """Build a synthetic take's input files without any error, with or without the wearer's mask."""
    world_from_drawn = torch.tensor(WORLD_FROM_DRAWN, dtype=torch.float64)
    mask = take.exo_dynamic if has_mask else None
    drawn_files = TakeFiles(take.exo_depth_m, take.ego.upright, take.exo, mask)
    return drawn_files.with_changes(
        dict.fromkeys(POSE_KINDS, lambda w2c: compose(w2c, invert(world_from_drawn)))
    )


def placement_remark(take: SyntheticTake, files: TakeFiles) -> str:
    """Render a take's ego prior, and return the warning about the ego camera's position, if any.

    The remark is "" if there is none, and "refused: ..." if the take is refused."""
    depth_m, ego_path, exo_path, mask = files
    depth = DepthVideo(depth_m=depth_m.clamp(max=1000), exo=exo_path, dynamic=mask)
    scene, _ = stages.scene(take.exo_rgb, depth)
    try:
        _, report = stages.prior(scene, CameraTrajectory(ego=ego_path, exo=exo_path))
    except EgoXInputError as refusal:
        return f"refused: {refusal}"
    remarks = [
        report_note
        for report_note in report.notes
        if report_note.kind in REMARK_KINDS and "ego camera" in report_note.text
    ]
    return remarks[0].text if remarks else ""


def remedies(remark_text: str) -> list[str]:
    """List the corrections that a warning's text proposes."""
    remedy_text = remark_text.partition("would be right with ")[2].partition("; draw_anyway")[0]
    return remedy_text.split("; if the prior is still wrong then, with ") if remedy_text else []


def apply_remedy(
    files: TakeFiles,
    remedy: str,
    # The metric one that disparity asks for. It tells the unit, too.
    true_depth_m: Tensor,
) -> TakeFiles:
    """Apply a correction that a warning proposes to a take's input files."""
    file_unit_m = float((true_depth_m / files.depth_m).nanmedian())
    scale_factor = float((re.findall(r"by (-?[\d.e-]+)", remedy) or ["nan"])[-1].rstrip("."))

    def fitted(video_depth: Tensor) -> Tensor:
        depth_triples = torch.stack(
            (video_depth, torch.ones_like(video_depth), 1 / true_depth_m), -1
        )
        depth_triples = depth_triples[depth_triples.isfinite().all(-1)].double()
        slope, shift = (
            torch.linalg.lstsq(depth_triples[:, :2], depth_triples[:, 2:])
            .solution.flatten()
            .tolist()
        )
        return 1 / (slope * video_depth + shift)

    named_changes: tuple[tuple[str, Change], ...] = (
        ("invert them, then negate", lambda w2c: to_opengl_axes(invert(w2c))),
        ("invert them", invert),
        ("negate rows", to_opengl_axes),
        ("they are turned by", make_roll(-scale_factor / 90)),
        ("or a smaller unit", make_scaling(min(scale_factor, file_unit_m))),
        ("scale", make_scaling(scale_factor)),
        ("as video depth", fitted),
    )
    (change, *_) = [
        change_function for change_name, change_function in named_changes if change_name in remedy
    ]
    file_name = remedy.split()[0]
    file_names = POSE_KINDS if file_name == "poses" else (file_name,)
    return files.with_changes(dict.fromkeys(file_names, change))


def describe_outcome(take: SyntheticTake, true_files: TakeFiles, files: TakeFiles) -> str:
    """Describe whether a take's 3D points are right after a correction, and whether a warning
    remains."""
    true_depth_m = true_files.depth_m
    relative_errors = (files.points_in_ego_frame() - true_files.points_in_ego_frame()).norm(
        dim=-1
    ) / true_depth_m
    if float(relative_errors.nanmedian()) <= MOST_RELATIVE_ERROR:
        return "right"
    return "cries" if placement_remark(take, files) else "silent"


def classify_remark(remark_text: str, right_cause: str) -> str:
    """Classify a warning as silent (absent), right (names the true cause), wrong (names another
    cause), or word (names no cause)."""
    if not remark_text:
        return "silent"
    named_causes = remark_text.partition("would be right with ")[2]
    if not named_causes:
        return "word"
    return "right" if right_cause in named_causes else "wrong"


def render_take(seed: int, **settings: str | bool | int) -> SyntheticTake:
    """Render one small frame of a synthetic take with default settings."""
    picture_settings = {
        "exo_width": 160,
        "exo_height": 96,
        "ego_size": 64,
        "frames": 1,
        "edge_samples": 1,
    }
    return make_take(
        SyntheticSpec(
            **{"seed": seed, "texture": "plain", "wearer": "drawn"} | picture_settings | settings
        )
    )


def render_unusual_takes(seeds: range) -> Iterator[tuple[str, SyntheticTake]]:
    """Render synthetic takes with unusual postures and exo camera positions, some with a hidden
    head or an upright picture."""
    posture_places = list(product(CHOICES["posture"], CHOICES["exo_place"]))
    for seed in seeds:
        posture, exo_place = posture_places[seed % len(posture_places)]
        extra_settings = {"exo_sees_head": False} if seed % 5 == 0 else {}
        extra_settings |= {"exo_width": 96, "exo_height": 160} if seed % 7 == 0 else {}
        yield (
            f"{posture}, {exo_place}",
            render_take(seed, posture=posture, exo_place=exo_place, **extra_settings),
        )


def estimate_of(take: SyntheticTake) -> Change:
    """Build a function that replaces a take's depth by one with a network's errors."""
    estimate = add_depth_errors(take.depth_video(), ESTIMATE_ERRORS, take.spec.seed)
    return lambda _: estimate.depth_m


def count_remarks(
    takes: list[SyntheticTake], has_mask: bool, changes: dict[str, Change], right_cause: str
) -> Counter:
    """Count the warnings about takes with one file error, and what following them leads to."""
    row = Counter()
    for take in takes:
        true_files = correct_files(take, has_mask)
        files = true_files.with_changes(changes)
        remark_text = placement_remark(take, files)
        row[classify_remark(remark_text, right_cause)] += 1
        outcomes = [
            describe_outcome(take, true_files, apply_remedy(files, remedy, true_files.depth_m))
            for remedy in remedies(remark_text)
        ]
        if "right" in outcomes:
            row[REMEDY_PLACES[outcomes.index("right")]] += 1
        elif outcomes:
            row[f"still wrong, {outcomes[-1]}"] += 1
    return row


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--takes", type=int, default=40)
    args = parser.parse_args(arguments)
    seeds = range(args.first_seed, args.first_seed + args.takes)
    takes = [render_take(seed) for seed in seeds]
    right_takes = {
        "right, usual": [("usual", take) for take in takes],
        "right, any posture and camera": list(render_unusual_takes(seeds)),
    }
    rows, false_alarms = {}, []
    for mask_name, has_mask in (("", True), (", no mask", False)):
        for (group, named_takes), is_estimated in product(right_takes.items(), (False, True)):
            name = group + (", estimated" if is_estimated else "") + mask_name
            row = rows[name] = Counter()
            for place_name, take in named_takes:
                changes = {"depth": estimate_of(take)} if is_estimated else {}
                remark_text = placement_remark(
                    take, correct_files(take, has_mask).with_changes(changes)
                )
                row[classify_remark(remark_text, "nothing")] += 1
                if remark_text:
                    false_alarms.append(f"{name}: {place_name}, {take.spec.seed}: {remark_text}")
        for error_name, (changes, right_cause) in FILE_ERRORS.items():
            rows[error_name + mask_name] = count_remarks(takes, has_mask, changes, right_cause)
    takes_of_two = [add_bystander(take) for take in takes]
    for error_name in ("right", *TWO_PEOPLE_ERRORS):
        changes, right_cause = FILE_ERRORS.get(error_name, ({}, "nothing"))
        rows[f"two people, {error_name}"] = count_remarks(takes_of_two, True, changes, right_cause)
    column_names = ("silent", "right", "word", "wrong", *REMEDY_PLACES)
    column_names += ("still wrong, cries", "still wrong, silent")
    lines = ["| files | " + " | ".join(column_names) + " |", "|---" * (len(column_names) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(str(row[key]) for key in column_names) + " |"
        for name, row in rows.items()
    ]
    lines += false_alarms
    result = {"first_seed": args.first_seed, "takes": args.takes, "rows": rows}
    return finish("alarms", result, args, "\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
