"""Make the animation at the top of the README: exo, prior, truth, and the ego view without a model.

python3 run.py make first_screen
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from egox_core.prior import iter_ego_preview
from egox_core.stages import prior, scene
from egox_core.take import load_take
from egox_core.video import picture_row
from egox_train.cli.progress_line import ProgressLine
from lab.drawn import SyntheticSpec, make_take, write_take

FILE = Path(__file__).resolve().parents[1] / "docs" / "img" / "first_screen.webp"
FPS = 8
SPEC = SyntheticSpec(
    seed=44,
    frames=3 * FPS + 1,  # 4n+1
    fps=FPS,
    exo_width=784,
    exo_height=448,
    ego_size=448,
    texture="soft",
    wearer="drawn",
    turning_deg=35,
)
SHOWN_FRAMES = 9
"""Later on the wearer looks at a wall that exo never sees."""
EXO_PX, PRIOR_PX, EGO_PX = 256, 222, 478
"""Heights that make the rows on the left equally wide, and as high together as the ego view."""


def main() -> int:
    progress = ProgressLine()
    drawn_take = make_take(SPEC, progress)
    with tempfile.TemporaryDirectory() as folder:
        write_take(drawn_take, Path(folder))
        take = load_take(Path(folder), frame_count=None, ego_size=SPEC.ego_size)
        exo_frames = take.read_exo()
        points, _ = scene(exo_frames, take.depth, progress=progress)
        ego_prior, _ = prior(points, take.trajectory, "exact", progress=progress)
    previews = iter_ego_preview(
        ego_prior.rgb,
        ~ego_prior.coverage,
        take.trajectory.ego.camera,
        depth_m=ego_prior.depth_m,
        shading="off",  # as the drawn glasses are
        progress=progress,
    )
    pictures = []
    for t, preview in enumerate(previews):
        prior_frame, ego_frame = (
            (frame * 255).round().byte().numpy() for frame in (ego_prior.rgb[t], preview)
        )
        upper_row = picture_row([exo_frames[t].numpy()], ["exo: the video that you have"], EXO_PX)
        true_frame = drawn_take.ego_rgb[t].numpy()
        lower_row = picture_row([prior_frame, true_frame], ["prior", "truth"], PRIOR_PX)
        ego_view = picture_row([ego_frame], ["ego: the prior, filled without a model"], EGO_PX)
        left = np.concatenate((upper_row, lower_row))[: len(ego_view)]
        pictures.append(Image.fromarray(np.concatenate((left, ego_view), axis=1)))
    pictures = pictures[:SHOWN_FRAMES]
    pictures += pictures[-2:0:-1]  # there and back
    pictures[0].save(
        FILE, save_all=True, append_images=pictures[1:], duration=1000 // FPS, loop=0, quality=55
    )
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
