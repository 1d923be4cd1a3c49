"""Small synthetic takes in the take layout, and an altered copy of the real raw take's poses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from egox_core.synthetic import SyntheticSpec, make_take, write_take

FRAMES = 5


def write_synthetic(folder: Path, count: int, *, frames: int = FRAMES, height: int = 32, first_seed: int = 0) -> Path:
    """``count`` takes of a few frames; exo is twice as wide as high."""
    for seed in range(first_seed, first_seed + count):
        spec = SyntheticSpec(seed=seed, frames=frames, exo_width=2 * height, exo_height=height, ego_size=height,
                             texture="plain", clutter="calm", edge_samples=1)
        write_take(make_take(spec), folder / f"synthetic_{seed:03d}")
    return folder


def copy_raw(source: Path, target: Path, alter: Callable[[dict], None]) -> Path:
    """The raw layout with altered annotations; videos are links where the system has them."""
    for file in sorted(p for p in source.rglob("*") if p.is_file()):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.parent.name == "camera_pose":
            content = json.loads(file.read_text(encoding="utf-8"))
            alter(content)
            copy.write_text(json.dumps(content), encoding="utf-8")
        else:
            try:
                copy.symlink_to(file)
            except OSError:
                shutil.copyfile(file, copy)
    return target
