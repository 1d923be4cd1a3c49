"""Count how often the prior's remarks on the head's place are right, on synthetic takes: correct
files, and files with a wrong unit, axes or direction.

    python3 run.py bench alarms [--first-seed 0] [--takes 40] [--save]

To be run again after a change of ``egox_core/prior/placement.py``, with seeds that nobody has seen. A
wrong reading is silent, named rightly (alone or as one of two), or named as something else; a word alone
offers no reading. Right takes have usual persons, and then all postures and places of exo."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core import stages
from egox_core.cameras import CameraPath, compose, invert
from egox_core.errors import EgoXInputError
from egox_core.remarks import RemarkKind
from egox_core.types import CameraTrajectory, DepthVideo
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.drawn.spec import CHOICES

Change = Callable[[Tensor], Tensor]
POSES = ("ego", "exo")
KINDS = (RemarkKind.STRANGE_PLACE, RemarkKind.WARNING)
TURNED = [[0.6, 0.0, 0.8, 0.5], [0.0, 1.0, 0.0, -0.4], [-0.8, 0.0, 0.6, 0.7]]
"""The take's world against the drawn one."""


def flipped(w2c: Tensor) -> Tensor:
    """Convert camera poses from OpenCV's axes to OpenGL's."""
    return w2c * w2c.new_tensor([[1.0], [-1.0], [-1.0]])


def rolled(sine: float) -> Change:
    """Build a function that rolls camera poses by 90 degrees, to the side given by the sign of
    ``sine``."""
    return lambda w2c: w2c.new_tensor([[0, sine, 0], [-sine, 0, 0], [0, 0, 1.0]]) @ w2c


def times(factor: float) -> Change:
    """Build a function that multiplies depth, or the translations of poses, by a factor, as a wrong
    unit does."""
    return lambda values: (
        values * (values.new_tensor([1, 1, 1, factor]) if values.shape[-2:] == (3, 4) else factor)
    )


def disparity(depth_m: Tensor) -> Tensor:
    """Convert depth to disparity from 0 to 1, as depth networks predict it."""
    inverse = 1 / depth_m
    far, near = inverse.nanquantile(0.005), inverse.nanquantile(0.995)
    return ((inverse - far) / (near - far)).clamp(1e-3, 1)


WRONG: dict[str, tuple[dict[str, Change], str]] = {
    "poses camera-to-world": (dict.fromkeys(POSES, invert), "poses that are camera-to-world"),
    "ego camera-to-world": ({"ego": invert}, "ego poses that are camera-to-world"),
    "exo camera-to-world": ({"exo": invert}, "exo poses that are camera-to-world"),
    "poses OpenGL": (dict.fromkeys(POSES, flipped), "poses in OpenGL's axes: negate"),
    "ego OpenGL": ({"ego": flipped}, "ego poses in OpenGL's axes: negate"),
    "exo OpenGL": ({"exo": flipped}, "exo poses in OpenGL's axes: negate"),
    "ego rolled": ({"ego": rolled(1.0)}, "an upright picture"),
    "ego rolled back": ({"ego": rolled(-1.0)}, "an upright picture"),
    "depth mm": ({"depth": times(1000)}, "depth in millimetres"),
    "depth cm": ({"depth": times(100)}, "depth in centimetres"),
    "poses mm": (dict.fromkeys(POSES, times(1000)), "poses in millimetres"),
    "poses cm": (dict.fromkeys(POSES, times(100)), "poses in centimetres"),
    "depth inverse": ({"depth": torch.reciprocal}, "depth that is inverse"),
    "disparity 0 to 1": ({"depth": disparity}, "depth that is disparity"),
    "depth x 2": ({"depth": times(2)}, "another unit or of another lens"),
    "depth / 2": ({"depth": times(0.5)}, "another unit or of another lens"),
    "depth feet": ({"depth": times(1 / 0.3048)}, "another unit or of another lens"),
    "focal length x 2": ({"focal": lambda focal: 2 * focal}, "another unit or of another lens"),
    "focal length / 2": ({"focal": lambda focal: focal / 2}, "another unit or of another lens"),
    "depth x 1.4": ({"depth": times(1.4)}, "nothing"),
}


def placement_remark(take: SyntheticTake, changes: dict[str, Change]) -> str:
    """Compute the prior of a take and find its remark on the head's place, "" if there is none,
    "refused: ..." if the take is refused.

    Args:
        changes: of the take's depth_m, ego and exo poses, and focal length; {} is the right take.
    """
    take_from_drawn = torch.tensor(TURNED, dtype=torch.float64)
    change = {name: changes.get(name, torch.clone) for name in ("depth", "ego", "exo")}

    def pose(path: CameraPath, name: str) -> CameraPath:
        return replace(path, w2c=change[name](compose(path.w2c, invert(take_from_drawn))))

    exo, ego = pose(take.exo, "exo"), pose(take.ego.upright, "ego")
    if "focal" in changes:
        focal = changes["focal"](exo.camera.fx)
        exo = replace(exo, lens=replace(exo.camera, fx=focal, fy=focal))
    depth = DepthVideo(
        depth_m=change["depth"](take.exo_depth_m).clamp(max=1000), exo=exo, dynamic=take.exo_dynamic
    )
    scene, _ = stages.scene(take.exo_rgb, depth)
    try:
        _, report = stages.prior(scene, CameraTrajectory(ego=ego, exo=exo))
    except EgoXInputError as refusal:
        return f"refused: {refusal}"
    remarks = [note for note in report.notes if note.kind in KINDS and "ego camera" in note.text]
    return remarks[0].text if remarks else ""


def verdict(words: str, right: str) -> str:
    """Classify a remark: silent, naming the right cause, naming a wrong cause, or naming none."""
    if not words:
        return "silent"
    named = words.partition("would be right with ")[2]
    if not named:
        return "word"
    return "right" if right in named else "wrong"


def usual(seed: int, **settings: str | bool | int) -> SyntheticTake:
    """Render one small frame of a synthetic take."""
    size = {"exo_width": 160, "exo_height": 96, "ego_size": 64, "frames": 1, "edge_samples": 1}
    return make_take(
        SyntheticSpec(**{"seed": seed, "texture": "plain", "wearer": "drawn"} | size | settings)
    )


def unusual(seeds: range) -> Iterator[tuple[str, SyntheticTake]]:
    """Render takes with all postures and exo camera places, some with a hidden head or an upright
    picture."""
    kinds = list(product(CHOICES["posture"], CHOICES["exo_place"]))
    for seed in seeds:
        posture, place = kinds[seed % len(kinds)]
        more = {"exo_sees_head": False} if seed % 5 == 0 else {}
        more |= {"exo_width": 96, "exo_height": 160} if seed % 7 == 0 else {}
        yield f"{posture}, {place}", usual(seed, posture=posture, exo_place=place, **more)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--takes", type=int, default=40)
    args = parser.parse_args(arguments)
    seeds = range(args.first_seed, args.first_seed + args.takes)
    takes = [usual(seed) for seed in seeds]
    rows = {
        "right, usual": Counter(verdict(placement_remark(take, {}), "nothing") for take in takes)
    }
    odd = [(name, placement_remark(take, {})) for name, take in unusual(seeds)]
    rows["right, any posture and camera"] = Counter(verdict(words, "nothing") for _, words in odd)
    for name, (changes, right) in WRONG.items():
        rows[name] = Counter(verdict(placement_remark(take, changes), right) for take in takes)
    names = ("silent", "right", "word", "wrong")
    lines = ["| files | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(str(row[key]) for key in names) + " |"
        for name, row in rows.items()
    ]
    lines += [f"{name}: {words}" for name, words in odd if words]
    result = {"first_seed": args.first_seed, "takes": args.takes, "rows": rows}
    return finish("alarms", result, args, "\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
