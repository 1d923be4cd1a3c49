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

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.file_names import EXO, TRUTH
from egox_core.metrics import psnr, ssim_map
from egox_core.prior import SHADING_CHOICES, inpaint_holes, iter_ego_preview
from egox_core.types import UNOBSERVED
from egox_core.video import decode_frames, probe_video, resize_picture
from egox_train.cli.prior import Laps, add_rendering_arguments, read_take, render_prior

SSIM_STEP, DETAIL_STEP = 6, 8
BLUR_PX = 16.0
Fill = Callable[[Tensor, Tensor], Tensor]
"""(picture [H, W, 3] float 0...1, holes [H, W] bool) -> picture without holes."""


def fill_navier_stokes(picture: Tensor, holes: Tensor) -> Tensor:
    """Fill holes by the other method that OpenCV has."""
    levels = (picture * 255).round().byte().numpy()
    filled = cv2.inpaint(levels, holes.byte().numpy(), 3.0, cv2.INPAINT_NS)
    return torch.where(holes[..., None], torch.from_numpy(filled).float() / 255, picture)


def fill_pyramid(picture: Tensor, holes: Tensor) -> Tensor:
    """Fill holes from coarser and coarser averages of what is known (push and pull)."""
    weights = (~holes).float().numpy()
    filled = push_and_pull(picture.numpy() * weights[..., None], weights)
    return torch.where(holes[..., None], torch.from_numpy(filled), picture)


def push_and_pull(colours: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Complete colours [H, W, 3], which are multiplied by their weights [H, W] 0...1."""
    height, width = weights.shape
    if min(height, width) == 1:
        return colours / np.maximum(weights, 1e-6)[..., None]
    size = width // 2, height // 2
    coarser = (
        cv2.resize(values, size, interpolation=cv2.INTER_AREA) for values in (colours, weights)
    )
    coarse_colours, coarse_weights = coarser
    gain = 1 / np.maximum(coarse_weights, 0.25)  # a quarter of four pixels is enough to be known
    coarse = push_and_pull(coarse_colours * gain[..., None], coarse_weights * gain)
    around = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return colours + (1 - weights)[..., None] * around


def fill_mean(picture: Tensor, holes: Tensor) -> Tensor:
    """Fill holes by the mean colour of the rest."""
    mean = picture[~holes].mean(0) if not holes.all() else torch.zeros(3)
    return torch.where(holes[..., None], mean, picture)


OTHER_FILLS: dict[str, Fill] = {
    "filled by Navier-Stokes": fill_navier_stokes,
    "filled by a pyramid": fill_pyramid,
    "filled by the mean colour": fill_mean,
}


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
        return torch.stack(list(iter_ego_preview(pictures, hole_masks, camera, shading=shading)))

    nowhere = torch.zeros_like(holes)
    yield "prior", prior
    filled = torch.stack([inpaint_holes(*pair) for pair in zip(prior, holes, strict=True)])
    yield "prior, filled by Telea", filled
    yield "**preview: filled by Telea, shaded**", preview(prior, holes, args.shading)
    for name, fill in OTHER_FILLS.items():
        filled = torch.stack([fill(*pair) for pair in zip(prior, holes, strict=True)])
        yield f"{name}, shaded", preview(filled, nowhere, args.shading)
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
