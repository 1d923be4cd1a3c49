"""The strip: the demo's ego video for every λ_g with every LoRA strength, as the picture that ships.

    python3 run.py make strip    # runs the small model eight times through the host, some minutes

What is written: ``docs/img/lambda_strip.jpg`` for the pages that are read, and ``web/js/previews/strip.webp``, which
the player on *Decode Ego Half* shows in the demo, under names of its own, until its user makes one.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.setup.api_client import ApiClient, read_prompt
from tools.setup.base_dir import BaseDir, make_base_dir
from tools.setup.environment import this_environment
from tools.setup.layout import REPO_ROOT, Layout, SetupError
from tools.setup.server import Server
from tools.setup.side_by_side import read_frames

LAMBDAS, STRENGTHS = (0, 1, 3, 10), (0.5, 1)
FOR_READING = REPO_ROOT / "docs" / "img" / "lambda_strip.jpg"
FOR_THE_PAGE = REPO_ROOT / "web" / "js" / "previews" / "strip.webp"
CELL, GAP, SIDE, HEAD = 200, 6, 92, 30  # px
PAPER, INK = (24, 24, 27), (235, 235, 235)
LETTERS = 17  # px
FRAME = -1  # of the clip: the last one has gone the farthest from what the exo video shows


def main() -> int:
    layout = Layout()
    environment = this_environment(layout)
    if environment is None:
        raise SetupError("there is no ComfyUI here: run `python3 run.py demo` once, or set COMFYUI_DIR")
    with tempfile.TemporaryDirectory() as folder:
        base = make_base_dir(Path(folder), layout)
        with Server(environment, base, Path(folder) / "server.log") as server:
            videos = run(server.client, base, strip_prompt(read_prompt("egox_demo")))
    pictures = [video[FRAME] for video in videos]
    for path, picture in ((FOR_READING, draw(pictures)), (FOR_THE_PAGE, cells(pictures))):
        picture.save(path, quality=88)
        print(f"{path.relative_to(REPO_ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


def strip_prompt(prompt: dict[str, Any]) -> dict[str, Any]:
    """The demo with a sweep over both values, as the player's own button asks for it; it saves each ego video."""
    prompt = copy.deepcopy(prompt)
    by_kind = {node["class_type"]: name for name, node in prompt.items()}
    lora, sampler, decoder = (by_kind[kind] for kind in ("EgoXLoadLora", "EgoXWanSampler", "EgoXDecodeEgoHalf"))
    kept = {name: node for name, node in prompt.items() if node["class_type"] not in ("CreateVideo", "SaveVideo")}
    kept["sweep"] = {"class_type": "EgoXSweep", "inputs": {"lambda_g": ", ".join(map(str, LAMBDAS)),
                                                           "strength": ", ".join(map(str, STRENGTHS))}}
    # The conditioning keeps the LoRA that it had: of the model it only reads what the LoRA says of itself.
    kept["lora"] = copy.deepcopy(kept[lora])
    kept["lora"]["inputs"]["strength"] = ["sweep", 1]
    kept[sampler]["inputs"] |= {"model": ["lora", 0], "lambda_g": ["sweep", 0]}
    kept["video"] = {"class_type": "CreateVideo", "inputs": {"images": [decoder, 0], "fps": 8.0}}
    kept["save"] = {"class_type": "SaveVideo", "inputs": {"video": ["video", 0], "filename_prefix": "strip",
                                                          "format": "mp4", "codec": "h264"}}
    return kept


def run(client: ApiClient, base: BaseDir, prompt: dict[str, Any]) -> list[np.ndarray]:  # of [T, H, W, 3] uint8
    """The videos, row by row.

    Raises:
        SetupError: the run failed.
    """
    outcome = client.run(prompt, timeout=3600)
    if outcome.status != "success":
        raise SetupError(outcome.error_text)
    entries = outcome.outputs["save"]["images"]
    return [read_frames(base.output / entry["subfolder"] / entry["filename"]) for entry in entries]


def draw(pictures: list[np.ndarray]) -> Image.Image:  # [H, W, 3] uint8 each, row by row
    """The table: λ_g across, LoRA strength down."""
    size = (SIDE + len(LAMBDAS) * (CELL + GAP), HEAD + len(STRENGTHS) * (CELL + GAP))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(LETTERS)  # of Pillow itself, the same everywhere; it has no Greek
    for column, value in enumerate(LAMBDAS):
        pen.text((SIDE + column * (CELL + GAP) + CELL / 2, HEAD / 2), f"lambda_g {value:g}", INK, font, "mm")
    for row, value in enumerate(STRENGTHS):
        pen.text((8, HEAD + row * (CELL + GAP) + CELL / 2), f"LoRA {value:g}", INK, font, "lm")
    for place, picture in enumerate(pictures):
        row, column = divmod(place, len(LAMBDAS))
        large = Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.BICUBIC)
        sheet.paste(large, (SIDE + column * (CELL + GAP), HEAD + row * (CELL + GAP)))
    return sheet


def cells(pictures: list[np.ndarray]) -> Image.Image:
    """The same without names and gaps, as large as they are."""
    rows = [np.concatenate(pictures[first:first + len(LAMBDAS)], 1) for first in range(0, len(pictures), len(LAMBDAS))]
    return Image.fromarray(np.concatenate(rows))


if __name__ == "__main__":
    raise SystemExit(main())
