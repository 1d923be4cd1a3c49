"""Compare the fills of Preview Ego View with the wearer's true ego video.

    python3 run.py bench preview TAKE [TAKE ...] [--also NAME=FILE ...] [--shading off] [--save]
    python3 run.py bench preview TAKE --cost take|video

For whoever changes the prior, its fill or the shading, and for whoever wants to know what a preview
of takes like their own is worth. A take is a folder with ``ego_ground_truth.mp4``, and those whose
names are alike up to the last _ have a mean of their own. FILE is a video of another method, in
which {take} stands for the folder's name; its rightmost square is the ego view, and where it is
shorter all else is as it was. Columns:

- whole: PSNR, mean of all frames. holes, seen: PSNR of all pixels that exo didn't see, or did.
- SSIM, FLIP: in the holes of every 6th frame. FLIP (Andersson et al. 2020) is 0 where an eye sees
  no difference; without `pip install flip-evaluator` it is nan.
- flicker: mean change from frame to frame in what is a hole in both, over that of the true video.

``--cost`` measures CPU seconds and memory instead, with one thread: from a take's depth and path
to the saved preview, or from its video alone, on ComfyUI with a stand-in for MoGe-2 ViT-S (its
shape, random weights).
"""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.file_names import EXO, TRUTH
from egox_core.metrics import psnr, region_psnr, ssim_map
from egox_core.prior import SHADING_CHOICES, RoomGuess, iter_ego_preview
from egox_core.video import decode_frames, probe_video, resize_picture
from egox_train.cli.prior import (
    Laps,
    RenderedTake,
    add_rendering_arguments,
    read_take,
    render_prior,
)

STEP = 6
COLUMNS = {"whole": 2, "holes": 2, "seen": 2, "ssim": 3, "flip": 3, "flicker": 2}
"""Digits of each."""


def read_square(file: Path, count: int, side: int) -> Tensor:  # [T, side, side, 3] float 0...1
    """Read the ego view of a video: its rightmost square."""
    info = probe_video(file)
    frames = range(min(count, info.frame_count))
    pictures = (picture for _, picture in decode_frames(file, info, frames))
    squares = [resize_picture(p[:, -p.shape[0] :], side, side) for p in pictures]
    return torch.from_numpy(np.stack(squares)).float() / 255


def flip(video: Tensor, truth: Tensor, holes: Tensor) -> float:
    """Compute the mean FLIP of the holes."""
    if find_spec("flip_evaluator") is None:
        return float("nan")
    from flip_evaluator import evaluate

    pairs = zip(truth.numpy(), video.numpy(), strict=True)
    maps = np.stack([evaluate(*pair, "LDR", applyMagma=False)[0][..., 0] for pair in pairs])
    return float(maps[holes.numpy()].mean())


def compare(
    video: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T or more, H, W, 3]
    holes: Tensor,  # [T or more, H, W] bool
) -> dict[str, float]:
    """Compute the figures of a video, on the frames that it has."""
    truth, holes = truth[: len(video)], holes[: len(video)]
    error = (video - truth).square().mean(-1)
    nearness = ssim_map(video[::STEP], truth[::STEP])
    in_both = holes[1:] & holes[:-1]
    changes = [clip.diff(dim=0).abs().mean(-1)[in_both].mean() for clip in (video, truth)]
    return {
        "whole": float(psnr(video, truth).mean()),
        "holes": region_psnr(error, holes) or 0.0,
        "seen": region_psnr(error, ~holes) or 0.0,
        "ssim": float(nearness[holes[::STEP]].mean()),
        "flip": flip(video[::STEP], truth[::STEP], holes[::STEP]),
        "flicker": float(changes[0] / changes[1]),
    }


def videos_of(args, rendered: RenderedTake) -> Iterator[tuple[str, Tensor]]:
    """Make the videos of one take that are to be compared, one after the other."""
    prior, ego = rendered.prior.rgb[...].float(), rendered.prior.trajectory.ego
    holes, depth_m = ~rendered.prior.coverage[...], rendered.prior.depth_m[...]
    for name, file in (words.split("=", 1) for words in args.also):
        if (path := Path(file.format(take=args.take.name))).is_file():
            yield name, read_square(path, len(prior), prior.shape[1])

    settings = {"shading": args.shading, "lens_guessed": ego.lens_guessed, "depth_m": depth_m}
    for name, room in {"far side": None, "room": RoomGuess(rendered.scene, ego)}.items():
        frames = iter_ego_preview(prior, holes, ego.camera, room=room, **settings)
        yield name, torch.stack(list(frames))


def table(result: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Format the figures, and the means of takes of one kind, as a table of Markdown."""
    rows = {take: [take] for take in result}
    for take in result:
        rows.setdefault(f"mean of {take.rpartition('_')[0]}", []).append(take)
    lines = [f"| take | fill | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for label, takes in rows.items():
        for fill in result[takes[0]] if label in result or len(takes) > 1 else ():
            means = {c: np.mean([result[take][fill][c] for take in takes]) for c in COLUMNS}
            cells = [f"{means[column]:.{digits}f}" for column, digits in COLUMNS.items()]
            lines.append(f"| {label} | {fill} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("takes", type=Path, nargs="+", metavar="TAKE")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--shading", choices=SHADING_CHOICES, default="auto")
    parser.add_argument("--cost", choices=("take", "video"))
    add_rendering_arguments(parser, preset="exact")
    args = parser.parse_args(arguments)
    if args.cost:
        from benchmarks.support.preview_cost import cost_of_take, cost_of_video, cost_text

        measure = cost_of_take if args.cost == "take" else cost_of_video
        costs = {
            folder.name: measure(folder if args.cost == "take" else folder / EXO)
            for folder in args.takes
        }
        return finish(f"preview_cost_{args.cost}", {"takes": costs}, args, cost_text(costs))
    result = {}
    for folder in args.takes:
        args.take, laps = folder, Laps()
        rendered = render_prior(args, read_take(args, laps.progress), laps)
        holes = ~rendered.prior.coverage[...] & rendered.take.trajectory.ego.camera.pixel_rays()[1]
        truth = read_square(folder / TRUTH, len(holes), holes.shape[1])
        videos = videos_of(args, rendered)
        result[folder.name] = {name: compare(video, truth, holes) for name, video in videos}
    return finish("preview", {"takes": result}, args, table(result))


if __name__ == "__main__":
    raise SystemExit(main())
