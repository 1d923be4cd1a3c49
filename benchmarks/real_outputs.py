"""Measure the authors' published outputs: how far they are from the truth, turned and tinted.

    python3 run.py bench real_outputs [--data ../shared/data] [--pairs] [--save]

For whoever changes straighten, tint or the measured turn. The clips are research data and not in
the repository: DATA/real_outputs/authors holds mp4 files with exo, the true ego video and the
drawn one side by side (or exo and drawn), DATA/takes the takes of some of them. Columns: PSNR of
RGB and luma and SSIM of the whole picture; the turn that fits the truth best (OpenCV's ECC) and
the dB that it gains; drawn minus true colour; the mean picture of other sites, which is the lens'
shading alone; dB and the error of the mean colour in Lab with gains that were fitted on other
sites; how much near-white pixels turn yellow. dB but the first are inside .9 of the disk.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras import CameraModel, preset_camera
from egox_core.metrics import PathViews, psnr, ssim_map, straighten_picture
from egox_core.scene import build_scene
from egox_core.take import Take, load_take
from egox_core.video import Tint, decode_frames, probe_video, recolour

SIDE, EXO_WIDTH, STEP = 448, 784, 8
LUMA = torch.tensor([0.299, 0.587, 0.114])
CAMERA = preset_camera("aria_released", SIDE)
DISK = torch.hypot(*(CAMERA.pixel_grid() - (SIDE - 1) / 2).unbind(-1)) < 200
WHITE_L, WHITE_AB = 90, 12


def read_parts(file: Path, step: int) -> tuple[Tensor | None, Tensor]:
    """Read every ``step``-th frame of the true video, if there is one, and of the drawn one."""
    info = probe_video(file)
    frames = [p for _, p in decode_frames(file, info, range(0, min(49, info.frame_count), step))]
    video = torch.from_numpy(np.stack(frames)).float() / 255
    has_truth = video.shape[2] > EXO_WIDTH + SIDE
    return video[:, :, EXO_WIDTH:-SIDE] if has_truth else None, video[:, :, -SIDE:]


def disk_db(video: Tensor, truth: Tensor) -> float:
    errors = (video - truth)[:, DISK].square().mean((1, 2))
    return float(-10 * errors.log10().mean())


def turn_to_truth(drawn: Tensor, truth: Tensor) -> tuple[float, float]:
    """Find the turn, degrees, that fits the truth best, and the dB that turning by it gains."""
    found = []
    for drawn_frame, true_frame in zip(drawn.numpy(), truth.numpy(), strict=True):
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (true_frame, drawn_frame)]
        grey = [(picture - picture.mean()) / picture.std() for picture in grey]
        warp, mask = np.eye(2, 3, dtype=np.float32), DISK.numpy().astype(np.uint8) * 255
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
        try:
            _, warp = cv2.findTransformECC(*grey, warp, cv2.MOTION_EUCLIDEAN, stop, mask, 17)
        except cv2.error:  # it doesn't converge
            continue
        centre = warp @ (SIDE / 2, SIDE / 2, 1) - SIDE / 2
        degrees = np.degrees([*(centre / CAMERA.fx), np.arctan2(warp[1, 0], warp[0, 0])])
        turned = cv2.warpAffine(
            *(drawn_frame, warp, (SIDE, SIDE)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        pictures = [torch.from_numpy(p)[None] for p in (turned, drawn_frame, true_frame)]
        gain = disk_db(pictures[0], pictures[2]) - disk_db(pictures[1], pictures[2])
        found.append((float(np.linalg.norm(degrees)), gain))
    return tuple(np.mean(found, 0)) if found else (np.nan, 0.0)


def lab(video: Tensor) -> np.ndarray:  # [N, 3] of the disk's pixels
    return cv2.cvtColor(video[:, DISK].numpy(), cv2.COLOR_RGB2LAB).reshape(-1, 3)


def tint_row(drawn: Tensor, truth: Tensor, tint: Tint) -> dict[str, float]:
    """Compute what taking a tint back changes."""
    untinted = recolour(drawn, "tint", tint=tint)
    drawn_lab, untinted_lab, true_lab = map(lab, (drawn, untinted, truth))
    is_white = (drawn_lab[:, 0] > WHITE_L) & (np.hypot(*drawn_lab[:, 1:].T) < WHITE_AB)
    yellow = float((untinted_lab - drawn_lab)[is_white, 2].mean()) if is_white.any() else 0.0
    errors = [
        float(np.linalg.norm((each - true_lab).mean(0)[1:])) for each in (drawn_lab, untinted_lab)
    ]
    gain = disk_db(untinted, truth) - disk_db(drawn, truth)
    return {"tint_db": gain, "lab": errors[0], "lab_after": errors[1], "white_b": yellow}


def clip_rows(files: list[Path]) -> dict[str, dict]:
    """Compute the row of each clip with a true video."""
    clips = {file.stem: read_parts(file, STEP) for file in files}
    clips = {name: pair for name, pair in clips.items() if pair[0] is not None}
    means = {n: [video[:, DISK].mean((0, 1)) for video in pair] for n, pair in clips.items()}
    rows = {}
    for name, (truth, drawn) in clips.items():
        others = [n for n in clips if n.split("_")[0] != name.split("_")[0]]
        true_means, drawn_means = (torch.stack([means[n][k] for n in others]) for k in (0, 1))
        tint = Tint.fit(drawn_means, true_means, len({n.split("_")[0] for n in others}))
        shading = torch.stack([clips[n][0].mean(0) for n in others]).mean(0).expand_as(truth)
        turn_deg, turn_db = turn_to_truth(drawn, truth)
        luma = [(video @ LUMA)[..., None].expand_as(video) for video in (drawn, truth)]
        colour = 255 * (means[name][1] - means[name][0])
        rows[name] = {
            "rgb": float(psnr(drawn, truth).mean()),
            "luma": float(psnr(*luma).mean()),
            "ssim": float(ssim_map(drawn, truth).mean()),
            **dict(zip(("red", "green", "blue"), colour.tolist(), strict=True)),
            "turn_deg": float(turn_deg),
            "turn_db": float(turn_db),
            "shading": float(psnr(shading, truth).mean()),
            **tint_row(drawn, truth, tint),
        }
        print(name, *(f"{value:.2f}" for value in rows[name].values()), file=sys.stderr)
    return rows


def views_of(take: Take) -> PathViews:
    """Draw what a take's path should show, by the exact geometry where it is known."""
    exo = take.read_exo().float() / 255
    exact = PathViews.exact(exo, take.depth, take.trajectory)
    return exact[0] if exact else PathViews.of(build_scene(exo, take.depth), take.trajectory)


def judged_pairs(file: Path, take_folder: Path, files: list[Path]) -> tuple[int, list[str]]:
    """Measure all other clips' videos against a take's scene: how many, and which are judged."""
    views, count, judged = views_of(load_take(take_folder)), 0, []
    for other in files:
        for kind, video in zip(("truth", "drawn"), read_parts(other, 1), strict=True):
            if other == file or video is None:
                continue
            missing_count = max(0, len(views.frames) - len(video))
            video = torch.cat((video, video[-1:].expand(missing_count, -1, -1, -1)))
            turn, count = views.clip_turn(video[: len(views.frames)]), count + 1
            judged += [f"{other.stem} {kind}"] * turn.judged
            print(file.stem, other.stem, kind, turn.judged, f"{turn.score:.2f}", file=sys.stderr)
    return count, judged


def scene_row(file: Path, take_folder: Path) -> dict[str, object]:
    """Measure, straighten and recolour an output whose take has depth and poses."""
    take, (truth, drawn) = load_take(take_folder), read_parts(file, 1)
    views = views_of(take)
    camera: CameraModel = take.trajectory.ego.camera
    turn = views.clip_turn(drawn)
    straight, words, _ = straighten_picture(drawn, turn, camera)
    again = straighten_picture(straight, views.clip_turn(straight), camera)[0]
    row = {"drawn": turn.text(), "done": words, "second_pass_equal": again is straight}
    if truth is not None:
        true_turn = views.clip_turn(truth)
        base = disk_db(drawn, truth)
        row |= {
            "truth": true_turn.text(),
            "truth_stays": straighten_picture(truth, true_turn, camera)[0] is truth,
            "straight_db": disk_db(straight, truth) - base,
            "coloured_db": disk_db(recolour(straight, "tint"), truth) - base,
        }
    print(file.stem, row, file=sys.stderr)
    return row


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pairs", action="store_true", help="only other clips with each scene")
    args = parser.parse_args(arguments)
    files = sorted((args.data / "real_outputs" / "authors").glob("*.mp4"))
    if not files:
        print(f"skipped: no mp4 in {args.data / 'real_outputs' / 'authors'} (research data)")
        return 0
    takes = {file: args.data / "takes" / file.stem.removesuffix("_infer") for file in files}
    if args.pairs:
        pairs = {f.stem: judged_pairs(f, t, files) for f, t in takes.items() if t.is_dir()}
        lines = [f"{name}: {len(n[1])} of {n[0]} judged {n[1]}" for name, n in pairs.items()]
        return finish("wrong_pairs", pairs, args, "\n".join(lines))
    rows = clip_rows(files)
    scenes = {file.stem: scene_row(file, t) for file, t in takes.items() if t.is_dir()}
    lines = [f"| clip | {' | '.join(next(iter(rows.values())))} |"]
    lines.append("|---" * lines[0].count(" | ") + "|---|")
    means = {key: np.mean([row[key] for row in rows.values()]) for key in next(iter(rows.values()))}
    for name, row in {**rows, "mean": means}.items():
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in row.values())} |")
    for name, row in scenes.items():
        lines.append(f"\n{name}: " + "; ".join(f"{key} {value}" for key, value in row.items()))
    return finish("real_outputs", {"clips": rows, "scenes": scenes}, args, "\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
