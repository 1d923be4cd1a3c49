"""Measure the authors' published outputs: how far they are from the truth, turned and tinted.

    python3 run.py bench real_outputs [--data ../shared/data] [--pairs] [--save]

For whoever changes straighten, tint or the measured turn. The research data isn't in the
repository: DATA/real_outputs/authors holds mp4 files of exo, true ego and drawn video side by side
(or exo and drawn), DATA/takes the takes of some of them. Columns: PSNR of RGB and luma and SSIM;
drawn minus true colour; the lens' shading alone (the mean picture of other sites); dB within .9 of
the disk and the error of the mean colour in Lab, with gains of other sites. Takes: the turn of
truth and output, and what turning back gains. --pairs: all other clips with each take's scene.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras import CameraModel, preset_camera
from egox_core.metrics import PathViews, psnr, ssim_map, straighten_picture
from egox_core.scene import build_scene
from egox_core.take import load_take
from egox_core.video import Tint, decode_frames, probe_video, recolour

SIDE, EXO_WIDTH, FRAMES, STEP = 448, 784, 49, 8
LUMA = torch.tensor([0.299, 0.587, 0.114])
DISK = preset_camera("aria_released", SIDE).axis_distance_px() < 200


def read_parts(file: Path, step: int) -> tuple[Tensor | None, Tensor]:
    """Read every ``step``-th frame of the true video, if there is one, and of the drawn one.

    The last frame of a short video is repeated.
    """
    info, numbers = probe_video(file), range(0, FRAMES, step)
    held_numbers = [number for number in numbers if number < info.frame_count]
    frames = [picture for _, picture in decode_frames(file, info, held_numbers)]
    frames += frames[-1:] * (len(numbers) - len(frames))
    video = torch.from_numpy(np.stack(frames)).float() / 255
    has_truth = video.shape[2] > EXO_WIDTH + SIDE
    return video[:, :, EXO_WIDTH:-SIDE] if has_truth else None, video[:, :, -SIDE:]


def disk_db(video: Tensor, truth: Tensor) -> float:
    errors = (video - truth)[:, DISK].square().mean((1, 2))
    return float(-10 * errors.log10().mean())


def lab_error(video: Tensor, truth: Tensor) -> float:
    """Compute the distance in a and b of the mean colours within the disk."""
    means = [
        cv2.cvtColor(v[:, DISK].numpy(), cv2.COLOR_RGB2LAB).mean((0, 1)) for v in (video, truth)
    ]
    return float(np.linalg.norm((means[0] - means[1])[1:]))


def clip_rows(files: list[Path]) -> dict[str, dict]:
    """Compute the row of each clip with a true video."""
    clips: dict[str, tuple[Tensor, Tensor]] = {}
    for file in files:
        truth, drawn = read_parts(file, STEP)
        if truth is not None:
            clips[file.stem] = truth, drawn
    means = {n: [video[:, DISK].mean((0, 1)) for video in pair] for n, pair in clips.items()}
    rows = {}
    for name, (truth, drawn) in clips.items():
        others = [n for n in clips if n.split("_")[0] != name.split("_")[0]]
        true_means, drawn_means = (torch.stack([means[n][k] for n in others]) for k in (0, 1))
        tint = Tint.fit(drawn_means, true_means, len({n.split("_")[0] for n in others}))
        untinted = recolour(drawn, "tint", tint=tint)
        shading = torch.stack([clips[n][0].mean(0) for n in others]).mean(0).expand_as(truth)
        luma = [(video @ LUMA)[..., None].expand_as(video) for video in (drawn, truth)]
        colour = 255 * (means[name][1] - means[name][0])
        rows[name] = {
            "rgb": float(psnr(drawn, truth).mean()),
            "luma": float(psnr(*luma).mean()),
            "ssim": float(ssim_map(drawn, truth).mean()),
            **dict(zip(("red", "green", "blue"), colour.tolist(), strict=True)),
            "shading": float(psnr(shading, truth).mean()),
            "tint_db": disk_db(untinted, truth) - disk_db(drawn, truth),
            "lab": lab_error(drawn, truth),
            "lab_after": lab_error(untinted, truth),
        }
    return rows


def scene_row(file: Path, take_folder: Path, _: list[Path]) -> dict[str, dict[str, object]]:
    """Measure, straighten and recolour an output whose take has depth and poses."""
    (truth, drawn), (views, camera) = read_parts(file, 1), views_of(take_folder)
    turn = views.clip_turn(drawn)
    straight, words = straighten_picture(drawn, turn, camera)[:2]
    again = straighten_picture(straight, views.clip_turn(straight), camera)[0]
    row: dict[str, object] = {"drawn": turn.text(), "done": words, "again": again is straight}
    if truth is not None:
        true_turn = views.clip_turn(truth)
        base = disk_db(drawn, truth)
        row |= {
            "truth": true_turn.text(),
            "straight_db": disk_db(straight, truth) - base,
            "coloured_db": disk_db(recolour(straight, "tint"), truth) - base,
        }
    return {f"scene of {file.stem}": row}


def views_of(take_folder: Path) -> tuple[PathViews, CameraModel]:
    """Draw what a take's path should show, by the exact geometry where it is known."""
    take = load_take(take_folder)
    exo = take.read_exo().float() / 255
    exact = PathViews.exact(exo, take.depth_with_raw_scale(), take.trajectory)
    views = exact[0] if exact else PathViews.of(build_scene(exo, take.depth), take.trajectory)
    return views, take.trajectory.ego.camera


def pair_rows(file: Path, take_folder: Path, files: list[Path]) -> dict[str, dict[str, object]]:
    """Measure all other clips' videos against a take's scene."""
    (views, _), rows = views_of(take_folder), {}
    for other in files:
        for kind, video in zip(("truth", "drawn"), read_parts(other, 1), strict=True):
            if other != file and video is not None:
                turn = views.clip_turn(video)
                row = {"judged": turn.judged, "score": turn.score, "turn": turn.text()}
                rows[f"{other.stem} {kind} in {file.stem}"] = row
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pairs", action="store_true", help="only other clips with each scene")
    args = parser.parse_args(arguments)
    files = sorted((args.data / "real_outputs" / "authors").glob("*.mp4"))
    if not files:
        print(f"skipped: no mp4 in {args.data / 'real_outputs' / 'authors'} (research data)")
        return 0
    rows = {} if args.pairs else clip_rows(files)
    for file in files:
        take_folder = args.data / "takes" / file.stem.removesuffix("_infer")
        if take_folder.is_dir():
            measure = pair_rows if args.pairs else scene_row
            rows |= measure(file, take_folder, files)
    lines = [f"{name}: {row}" for name, row in rows.items()]
    return finish("wrong_pairs" if args.pairs else "real_outputs", rows, args, "\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
