"""Make the preview's pictures: README's animation, the template's card, the node's help page.

python3 run.py make first_screen

Exo sees a picture on the wall that the wearer sees, too.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from egox_core.prior import RoomGuess, iter_ego_preview
from egox_core.stages import prior, scene
from egox_core.take import load_take
from egox_core.video import picture_row
from egox_train.cli.progress_line import ProgressLine
from lab.drawn import SyntheticSpec, make_take, write_take

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "img" / "first_screen.webp"
CARD_FILE = ROOT / "workflows" / "egox_preview.jpg"
HELP_FILE = ROOT / "web" / "js" / "docs" / "img" / "EgoXPreviewEgoView.webp"
FPS = 8
SPEC = SyntheticSpec(
    seed=45,
    frames=9,
    fps=FPS,
    exo_width=784,
    exo_height=448,
    ego_size=448,
    texture="soft",
    wearer="drawn",
    turning_deg=35,
)
EXO_PX, PRIOR_PX, EGO_PX = 256, 222, 478
"""Heights that make the rows on the left equally wide, and as high together as the ego view."""
CARD_PX, CARD_GREY, CARD_EXO_PX, CARD_EGO_PX = 512, 32, 216, 216
"""The card's lowest rows stay empty, since a narrow page cuts them off."""
HELP_PX = 173


def main() -> int:
    progress = ProgressLine()
    drawn_take = make_take(SPEC, progress)
    with tempfile.TemporaryDirectory() as folder:
        write_take(drawn_take, Path(folder))
        take = load_take(Path(folder), frame_count=None, ego_size=SPEC.ego_size)
        exo_frames = take.read_exo()
        points, _ = scene(exo_frames, take.depth, progress=progress)
        ego_prior, _ = prior(points, take.trajectory, "exact", progress=progress)
    ego = ego_prior.trajectory.ego
    previews = iter_ego_preview(
        ego_prior.rgb,
        ~ego_prior.coverage,
        ego.camera,
        depth_m=ego_prior.depth_m,
        room=RoomGuess(points, ego),
        shading="off",  # as the drawn glasses are
        progress=progress,
    )
    pictures = []
    for t, preview in enumerate(previews):
        prior_frame, ego_frame = (
            (frame * 255).round().byte().numpy() for frame in (ego_prior.rgb[t], preview)
        )
        exo_frame, true_frame = exo_frames[t].numpy(), drawn_take.ego_rgb[t].numpy()
        upper_row = picture_row([exo_frame], ["exo: the video that you have"], EXO_PX)
        lower_row = picture_row([prior_frame, true_frame], ["prior", "truth"], PRIOR_PX)
        ego_view = picture_row([ego_frame], ["ego: the prior, filled without a model"], EGO_PX)
        left = np.concatenate((upper_row, lower_row))[: len(ego_view)]
        pictures.append(Image.fromarray(np.concatenate((left, ego_view), axis=1)))
        if t == 0:
            draw_card(exo_frame, prior_frame, ego_frame).save(CARD_FILE, quality=88)
            Image.fromarray(picture_row([prior_frame, ego_frame, true_frame], [], HELP_PX)).save(
                HELP_FILE, quality=80
            )
    pictures += pictures[-2:0:-1]  # there and back
    pictures[0].save(
        FILE, save_all=True, append_images=pictures[1:], duration=1000 // FPS, loop=0, quality=55
    )
    for file in (FILE, CARD_FILE, HELP_FILE):
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")
    return 0


def draw_card(exo: np.ndarray, prior: np.ndarray, ego: np.ndarray) -> Image.Image:
    """Arrange a template's card: the exo video, and what becomes of it."""
    card = np.full((CARD_PX, CARD_PX, 3), CARD_GREY, np.uint8)
    rows = (
        picture_row([exo], ["your video"], CARD_EXO_PX),
        picture_row([prior, ego], ["what exo saw", "first-person preview"], CARD_EGO_PX),
    )
    top = 0
    for row in rows:
        left = (CARD_PX - row.shape[1]) // 2
        card[top : top + len(row), left : left + row.shape[1]] = row
        top += len(row)
    return Image.fromarray(card)


if __name__ == "__main__":
    raise SystemExit(main())
