"""Make the sample takes that ship with the pack.

    python3 run.py make sample synthetic_room              # detailed enough for the geometry
    python3 run.py make sample calm_room                   # the small model's: its first test scene
    python3 run.py make sample four_cameras                # the same room from four sides
    python3 run.py make sample synthetic_room --out DIR --seed 33    # another room

Where the wearer has a person's proportions, head_keypoints.json holds the points that a detector
would see, with a detector's errors, for ``train_egox.py headpose``. The same spec gives the same
arrays on one machine; the videos' bytes also depend on the encoder's version."""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from egox_core.file_names import HEAD_KEYPOINTS, META
from egox_core.frozen import frozen
from egox_core.safe_files import write_json
from egox_train.cli.progress_line import ProgressLine
from egox_train.video_writer import QUALITY
from lab.drawn import SyntheticSpec, make_take, write_take
from lab.drawn.detected import detect_person, openpose_content, project_person
from lab.drawn.layout import draw_layout
from lab.small_model.clips import clip_spec
from lab.small_model.settings import FIRST_SEED, ClipSettings

REPO_ROOT = Path(__file__).resolve().parents[1]

MOST_SAMPLE_BYTES = 3_000_000


@frozen
class Sample:
    spec: SyntheticSpec
    quality: int = QUALITY  # x264 rate factor


def samples() -> Mapping[str, Sample]:
    """List the specifications of the sample takes by folder."""
    first_spec = clip_spec(FIRST_SEED["test"], ClipSettings())
    return {
        "synthetic_room": Sample(spec=SyntheticSpec(seed=44, texture="soft")),
        # What is shrunk to a few pixels must not bring its blocks along: stored finer than usual.
        "calm_room": Sample(quality=12, spec=first_spec),
        "four_cameras": Sample(quality=12, spec=replace(first_spec, exo_views=4)),
    }


def write_keypoints(spec: SyntheticSpec, file: Path) -> None:
    """Write the detected body points of a take's wearer to a file."""
    scene_layout = draw_layout(spec)
    camera = scene_layout.scene.exo.camera
    detected_people = detect_person(
        project_person(scene_layout), camera, spec.fps, np.random.default_rng(0)
    )
    write_json(file, openpose_content(detected_people, camera.stored_size))


def main() -> int:
    takes = samples()
    parser = argparse.ArgumentParser(
        prog="run.py make sample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=tuple(takes))
    parser.add_argument("--out", type=Path, help="instead of its place under sample/")
    parser.add_argument("--seed", type=int, help="another room")
    options = parser.parse_args()
    chosen_sample = takes[options.name]
    take_spec = (
        chosen_sample.spec
        if options.seed is None
        else replace(chosen_sample.spec, seed=options.seed)
    )
    folder = options.out or REPO_ROOT / "sample" / options.name

    write_take(make_take(take_spec, ProgressLine()), folder, quality=chosen_sample.quality)
    for meta_file in folder.rglob(META):
        # Poses and depth are of one make: no wearer tells the scale of an exact depth better.
        write_json(
            meta_file, {**json.loads(meta_file.read_text("utf-8")), "pose_source": "drawing"}
        )
    if take_spec.wearer == "drawn" and take_spec.exo_views == 1:
        write_keypoints(take_spec, folder / HEAD_KEYPOINTS)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file_sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    for name, size in file_sizes.items():
        print(f"{name:24s} {size / 1000:8.0f} kB")
    print(f"{'together':24s} {sum(file_sizes.values()) / 1000:8.0f} kB in {folder}")
    if sum(file_sizes.values()) > MOST_SAMPLE_BYTES:
        print(
            f"more than the sample's limit of {MOST_SAMPLE_BYTES / 1e6:.0f} MB: draw it smaller",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
