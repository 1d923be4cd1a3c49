"""Make the demo's shipped pictures and videos.

python3 run.py make pictures    # runs the small model nine times through the host, some minutes

Files written: ``docs/img/demo.webp`` for the pages that are read, ``workflows/egox_demo.jpg`` for
the template's card, and ``web/js/previews/strip.webp``, which the player on *Decode Ego Half* shows
in the demo, under names of its own, until its user makes one.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from egox_core.file_names import EXO, TRUTH
from egox_core.video import decode_frames, picture_row, probe_video
from tools.setup.api_client import read_prompt
from tools.setup.base_dir import make_base_dir
from tools.setup.demo import DemoOptions, run_demo
from tools.setup.environment import this_environment
from tools.setup.layout import REPO_ROOT, Layout, SetupError
from tools.setup.server import Server

# As web/js/previews/strip.mjs cuts the picture.
LAMBDAS = (0, 1, 3, 10)
STRENGTHS = (0.5, 1)
DEMO_FILE = REPO_ROOT / "docs" / "img" / "demo.webp"
STRIP_FILE = REPO_ROOT / "web" / "js" / "previews" / "strip.webp"
CARD_FILE = REPO_ROOT / "workflows" / "egox_demo.jpg"
CARD_PX, CARD_GREY = 512, 32
UPPER_PX, LOWER_PX = 184, 254
"""Heights of the card's pictures, which make both rows as wide as the card."""
SAMPLE = REPO_ROOT / "sample" / "calm_room"
FPS = 8


def main() -> int:
    layout = Layout()
    environment = this_environment(layout)
    if environment is None:
        raise SetupError("There is no ComfyUI here: run `python3 run.py demo` once.")
    run_demo(environment, DemoOptions())
    demo_folder = layout.output / "egox_demo"
    Image.fromarray(draw_card(demo_folder)).save(CARD_FILE, quality=88)
    side_by_side = read_frames(demo_folder / "side_by_side.mp4")
    first_picture, *other_pictures = [Image.fromarray(picture) for picture in side_by_side]
    first_picture.save(
        DEMO_FILE,
        save_all=True,
        append_images=other_pictures,
        duration=1000 // FPS,
        loop=0,
        quality=60,
    )
    print(f"{DEMO_FILE.relative_to(REPO_ROOT)}: {DEMO_FILE.stat().st_size / 1000:.0f} kB")
    with tempfile.TemporaryDirectory() as folder:
        base_dir = make_base_dir(Path(folder), layout)
        with Server(environment, base_dir, Path(folder) / "server.log") as server:
            outcome = server.client.run(strip_prompt(read_prompt("egox_demo")), timeout=3600)
            if outcome.status != "success":
                raise SetupError(outcome.error_text)
            videos = [
                read_frames(base_dir.output / entry["subfolder"] / entry["filename"])
                for entry in outcome.outputs["save"]["images"]
            ]
    # The last frame has gone the farthest from what the exo video shows.
    pictures = [video[-1] for video in videos]
    strip_rows = [
        np.concatenate(pictures[: len(LAMBDAS)], 1),
        np.concatenate(pictures[len(LAMBDAS) :], 1),
    ]
    Image.fromarray(np.concatenate(strip_rows)).save(STRIP_FILE, quality=88)
    print(f"{STRIP_FILE.relative_to(REPO_ROOT)}: {STRIP_FILE.stat().st_size / 1000:.0f} kB")
    return 0


def draw_card(folder: Path) -> np.ndarray:  # [CARD_PX, CARD_PX, 3] uint8
    """Arrange the first frames of the demo's exo, prior, ego and true video as a template's card.

    Its lowest rows stay empty, since a narrow page cuts them off."""
    files = (SAMPLE / EXO, folder / "prior.mp4", folder / "ego.mp4", SAMPLE / TRUTH)
    exo, prior, ego, truth = (read_frames(file)[0] for file in files)
    card = np.full((CARD_PX, CARD_PX, 3), CARD_GREY, np.uint8)
    top = 0
    for parts, labels, height in (
        ((exo, prior), ("exo video", "ego prior"), UPPER_PX),
        ((ego, truth), ("ego video", "truth"), LOWER_PX),
    ):
        row = picture_row(parts, labels, height)[:, :CARD_PX]
        card[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    return card


def read_frames(path: Path) -> np.ndarray:
    """Read the frames [T, H, W, 3] uint8 RGB of a video."""
    info = probe_video(path)
    return np.stack([picture for _, picture in decode_frames(path, info, range(info.frame_count))])


def strip_prompt(prompt: dict[str, Any]) -> dict[str, Any]:
    """Change the demo's graph to a sweep that saves each ego video."""
    id_by_class = {node["class_type"]: name for name, node in prompt.items()}
    nodes = {
        name: node
        for name, node in prompt.items()
        if node["class_type"] not in ("CreateVideo", "SaveVideo")
    }
    sweep_inputs = {
        "lambda_g": ", ".join(map(str, LAMBDAS)),
        "strength": ", ".join(map(str, STRENGTHS)),
    }
    # The conditioning keeps the LoRA that it had: of the model it reads what the LoRA says of
    # itself.
    lora_node = nodes[id_by_class["EgoXLoadLora"]]
    sampler_node = nodes[id_by_class["EgoXWanSampler"]]
    sampler_node["inputs"] |= {"model": ["lora", 0], "lambda_g": ["sweep", 0]}
    save_inputs = {
        "filename_prefix": "strip",
        "format": "mp4",
        "codec": "h264",
        "video": ["video", 0],
    }
    video_inputs = {"images": [id_by_class["EgoXDecodeEgoHalf"], 0], "fps": float(FPS)}
    return nodes | {
        "sweep": {"class_type": "EgoXSweep", "inputs": sweep_inputs},
        "lora": {**lora_node, "inputs": {**lora_node["inputs"], "strength": ["sweep", 1]}},
        "video": {"class_type": "CreateVideo", "inputs": video_inputs},
        "save": {"class_type": "SaveVideo", "inputs": save_inputs},
    }


if __name__ == "__main__":
    raise SystemExit(main())
