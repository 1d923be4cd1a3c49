"""Make the animation at the top of the README: exo video, ego prior and pose editor.

python3 run.py make first_screen
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from egox_core.stages import prior, scene
from egox_core.take import load_take
from egox_train.cli.progress_line import ProgressLine
from lab.drawn import SyntheticSpec, make_take, write_take

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "img"
FPS = 10
SPEC = SyntheticSpec(
    seed=44,
    frames=5 * FPS - 1,  # 4n+1
    fps=FPS,
    exo_width=448,
    exo_height=256,
    ego_size=256,
    texture="soft",
    wearer="drawn",
    turning_deg=35,
)


def main() -> int:
    progress = ProgressLine()
    with tempfile.TemporaryDirectory() as folder:
        write_take(make_take(SPEC, progress), Path(folder))
        take = load_take(Path(folder), frame_count=None, ego_size=SPEC.ego_size)
        exo_frames = take.read_exo()
        points, _ = scene(exo_frames, take.depth, progress=progress)
        drawn_prior, _ = prior(points, take.trajectory, "clean", progress=progress)
        ego_frames = (drawn_prior.rgb * 255).round().byte().numpy()
    with Image.open(IMAGES / "editor_dark.jpg") as screenshot:
        width = round(screenshot.width * SPEC.exo_height / screenshot.height)
        editor_picture = np.asarray(
            screenshot.resize((width, SPEC.exo_height), Image.Resampling.LANCZOS)
        )
    pictures = [
        Image.fromarray(np.concatenate((np.asarray(frame), ego_frame, editor_picture), axis=1))
        for frame, ego_frame in zip(exo_frames, ego_frames, strict=True)
    ]
    file = IMAGES / "first_screen.webp"
    pictures[0].save(
        file, save_all=True, append_images=pictures[1:], duration=1000 // FPS, loop=0, quality=55
    )
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
