"""Count how often cuts and zooms in synthetic videos are detected, and how often videos without any
are reported wrongly.

    python3 run.py bench cuts [--first-seed 0] [--rooms 50] [--save]

To be run again after a change of ``egox_core/video/cuts.py``, with seeds that nobody has seen. Each
room has two cameras. Videos are joined from two shots; cropped and enlarged within one frame, as
editors do, by 1.3 to 2.5; zoomed by the lens over 10 to 24 frames, by 1.15 to 2. A zoom's sharpness
is that of the drawn picture.
"""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core import stages
from egox_core.errors import EgoXInputError
from egox_core.scene import camera_motion
from egox_core.video import find_cuts
from lab.drawn import SyntheticSpec, make_take

TAKE_SPEC = SyntheticSpec(frames=24, exo_width=320, exo_height=176, ego_size=16, edge_samples=1)
CUT_FRAME = 12
PUNCH_IN_RANGE, ZOOM_RANGE, ZOOM_FRAME_RANGE = (1.3, 2.5), (1.15, 2.0), (10, 24)
MOST_MIDDLE_OFFSET = 0.5
"""Share of the way to the rim of the picture that the middle of a crop may be off."""
TAKE_OPTIONS = (
    {},
    {"exo_motion": 0.05},
    {"motion": 3.0},
    {"clutter": "calm", "texture": "plain"},
    {"exo_path": "pan", "exo_turn_deg": 20.0},
    {"posture": "lying", "exo_place": "ceiling"},
)


def zoom_in(frame: Tensor, zoom: float, middle_offset: np.ndarray) -> Tensor:
    """Crop a part of a picture [H, W, 3] and enlarge it to the original size."""
    height, width = frame.shape[:2]
    half_size = np.array([width, height]) / 2
    middle_px = half_size + middle_offset * half_size * (1 - 1 / zoom)
    affine_matrix = np.array([[zoom, 0, 0], [0, zoom, 0]], dtype=np.float64)
    affine_matrix[:, 2] = half_size - zoom * middle_px
    return torch.from_numpy(
        cv2.warpAffine(
            frame.numpy(), affine_matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
    )


def classify_clip(frames: Tensor) -> str:
    """Classify how the pipeline treats a clip: accepted, accepted as a moving camera or a zoom, or
    refused as a cut."""
    if not find_cuts(frames):
        motion_report = camera_motion(frames, None)
        return "passes" if motion_report is None else "zoom" if motion_report.zoom != 1 else "moves"
    settings = {"frame_count": None, "size": (frames.shape[2], frames.shape[1])}
    try:
        stages.load_clip(frames, **settings)
    except EgoXInputError as refusal:
        stages.load_clip(frames, one_shot=True, **settings)
        return "cut" if "one_shot" in str(refusal) else "dead end"
    return "passes"


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rooms", type=int, default=50)
    args = parser.parse_args(arguments)
    rows: dict[str, Counter[str]] = {}

    def count(name: str, frames: Tensor) -> None:
        rows.setdefault(name, Counter())[classify_clip(frames)] += 1

    earlier_shot: Tensor | None = None
    for seed in range(args.first_seed, args.first_seed + args.rooms):
        rng = np.random.default_rng(seed)
        take_options = TAKE_OPTIONS[seed % len(TAKE_OPTIONS)]
        drawn_take = make_take(replace(TAKE_SPEC, seed=seed, exo_views=2, **take_options))
        first_view, second_view = (view.exo_rgb for view in drawn_take.views)
        camera_words = "moving" if drawn_take.spec.exo_moves else "standing"
        for shot_frames in (first_view, second_view):
            count(f"one shot, {camera_words} camera", shot_frames)
            middle_offset = rng.uniform(-MOST_MIDDLE_OFFSET, MOST_MIDDLE_OFFSET, 2)
            for name, offset in (*[("", np.zeros(2))] * 4, (" beside the middle", middle_offset)):
                zoom = rng.uniform(*PUNCH_IN_RANGE)
                enlarged_frames = torch.stack(
                    [zoom_in(frame, zoom, offset) for frame in shot_frames[CUT_FRAME:]]
                )
                count(f"punch-in{name}", torch.cat((shot_frames[:CUT_FRAME], enlarged_frames)))
            if not drawn_take.spec.exo_moves:
                zoom_frames, zoom = rng.integers(*ZOOM_FRAME_RANGE), rng.uniform(*ZOOM_RANGE)
                zoom_share = np.clip(np.arange(len(shot_frames)) / zoom_frames, 0, 1)
                zoomed_frames = [
                    zoom_in(frame, zoom**s, np.zeros(2))
                    for frame, s in zip(shot_frames, zoom_share, strict=True)
                ]
                count("zoom by the lens", torch.stack(zoomed_frames))
        for first_shot, second_shot in ((first_view, second_view), (second_view, first_view)):
            count(
                "another camera of the room",
                torch.cat((first_shot[:CUT_FRAME], second_shot[CUT_FRAME:])),
            )
        if earlier_shot is not None:
            for first_shot, second_shot in (
                (earlier_shot, first_view),
                (second_view, earlier_shot),
            ):
                count("another room", torch.cat((first_shot[:CUT_FRAME], second_shot[CUT_FRAME:])))
        earlier_shot = first_view
    column_names = ("passes", "moves", "zoom", "cut", "dead end")
    lines = ["| video | " + " | ".join(column_names) + " |", "|---" * (len(column_names) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(str(row[key]) for key in column_names) + " |"
        for name, row in sorted(rows.items())
    ]
    result = {"first_seed": args.first_seed, "rooms": args.rooms, "rows": rows}
    return finish("cuts", result, args, "\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
