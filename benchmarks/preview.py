"""Compare Preview Ego View with the wearer's true ego video, beside what it is to be judged by.

    python3 run.py bench preview TAKE [TAKE ...] [--also NAME=FILE ...] [--shading off] [--save]
    python3 run.py bench preview TAKE --cost take|video

For whoever changes the prior, its fill or the shading, and for whoever wants to know what a preview
of takes like their own is worth. A take is a folder with ``ego_ground_truth.mp4``. FILE is a video
of another method, in which {take} stands for the folder's name; its rightmost square is the ego
view, and where it is shorter all else is as it was. Columns:

- PSNR: mean of all frames. SSIM: of every 6th frame.
- Detail: correlation with the true video where exo saw the pixel, after a blur of 16 px was
  removed, on every 8th frame.

``--cost`` measures CPU seconds and memory instead, with one thread: from a take's depth and path
to the saved preview, or from its video alone, on ComfyUI with a stand-in for MoGe-2 ViT-S (its
shape, random weights).
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.file_names import EXO, TRUTH
from egox_core.metrics import psnr, ssim_map
from egox_core.prior import SHADING_CHOICES, iter_ego_preview
from egox_core.types import UNOBSERVED
from egox_core.video import decode_frames, probe_video, resize_picture
from egox_train.cli.prior import Laps, add_rendering_arguments, read_take, render_prior

SSIM_STEP, DETAIL_STEP = 6, 8
BLUR_PX = 16.0


def fill_by_telea(picture: Tensor, holes: Tensor) -> Tensor:
    """Fill holes as the preview did until 1.6: Telea's fast marching, as OpenCV has it."""
    levels = (picture * 255).round().byte().numpy()
    filled = cv2.inpaint(levels, holes.byte().numpy(), 3.0, cv2.INPAINT_TELEA)
    return torch.where(holes[..., None], torch.from_numpy(filled).float() / 255, picture)


def read_square(file: Path, count: int, side: int) -> Tensor:  # [T, side, side, 3] float 0...1
    """Read the ego view of a video: its rightmost square."""
    info = probe_video(file)
    frames = range(min(count, info.frame_count))
    pictures = (picture for _, picture in decode_frames(file, info, frames))
    squares = [resize_picture(p[:, -p.shape[0] :], side, side) for p in pictures]
    return torch.from_numpy(np.stack(squares)).float() / 255


def detail(picture: Tensor) -> Tensor:  # [H, W, 3] -> [H, W]
    """Compute what a picture's blur lacks."""
    grey = picture.mean(-1).numpy()
    return torch.from_numpy(grey - cv2.GaussianBlur(grey, (0, 0), BLUR_PX))


def compare(video: Tensor, truth: Tensor, seen_mask: Tensor) -> dict[str, float]:
    """Compute the three figures of a video, on the frames that it has."""
    truth = truth[: len(video)]
    correlations = []
    for t in range(0, len(video), DETAIL_STEP):
        if seen_mask[t].any():
            pair = [detail(clip[t])[seen_mask[t]] for clip in (video, truth)]
            correlations.append(float(torch.corrcoef(torch.stack(pair))[0, 1].nan_to_num(0)))
    return {
        "frames": len(video),
        "psnr": float(psnr(video, truth).mean()),
        "ssim": float(ssim_map(video[::SSIM_STEP], truth[::SSIM_STEP]).mean()),
        "detail": float(np.mean(correlations)),
    }


def videos_of(args, rendered) -> Iterator[tuple[str, Tensor]]:
    """Make the videos of one take that are to be compared, one after the other."""
    prior, camera = rendered.prior.rgb[...].float(), rendered.prior.trajectory.ego.camera
    exo, holes = rendered.exo_frames, ~rendered.prior.coverage[...]
    for name, file in (words.split("=", 1) for words in args.also):
        if (path := Path(file.format(take=args.take.name))).is_file():
            yield name, read_square(path, len(prior), prior.shape[1])

    def preview(pictures: Tensor, hole_masks: Tensor, shading: str) -> Tensor:
        frames = iter_ego_preview(
            pictures,
            hole_masks,
            camera,
            depth_m=rendered.prior.depth_m[...],
            shading=shading,
        )
        return torch.stack(list(frames))

    nowhere = torch.zeros_like(holes)
    yield "prior", prior
    filled = torch.stack([fill_by_telea(*pair) for pair in zip(prior, holes, strict=True)])
    yield "Telea, shaded", preview(filled, nowhere, args.shading)
    yield "preview", preview(prior, holes, args.shading)
    mean = exo.float().mean((0, 1, 2)) / 255
    yield (
        "shading alone, on exo's mean colour",
        preview(mean.expand_as(prior), nowhere, args.shading),
    )


def table(result: dict[str, dict]) -> str:
    """Format the figures as a table of Markdown."""
    names = list(dict.fromkeys(name for rows in result.values() for name in rows))
    lines = [f"| | {' | '.join(result)} |", "|---" * (len(result) + 1) + "|"]
    for name in names:
        cells = [
            "{psnr:.2f}, {ssim:.3f}, {detail:.3f}".format(**rows[name]) if name in rows else "–"
            for rows in result.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
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
        side = rendered.prior.rgb.shape[1]
        truth = read_square(folder / TRUTH, len(rendered.prior.rgb), side)
        seen_mask = rendered.prior.seen[...] != UNOBSERVED
        result[folder.name] = {
            name: compare(video, truth, seen_mask) for name, video in videos_of(args, rendered)
        }
    return finish("preview", {"takes": result}, args, table(result))


if __name__ == "__main__":
    raise SystemExit(main())
