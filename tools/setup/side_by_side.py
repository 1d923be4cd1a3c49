"""exo | prior | ego [| ground truth] as one video, and a contact sheet of it. Run inside the environment: needs av.

    python -m tools.setup.side_by_side --exo exo.mp4 --prior prior.mp4 --ego ego.mp4 [--truth gt.mp4] --out FOLDER
"""

from __future__ import annotations

import argparse
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SHEET_ROWS, SHEET_HEIGHT = 5, 224


def read_frames(path: Path, start: int = 0, count: int | None = None, step: float = 1.0) -> np.ndarray:
    """Frames [T, H, W, 3] uint8 RGB of a video: ``start``, ``start + step``, ... rounded down, at most ``count``."""
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if count is not None and len(frames) == count:
                break
            while index == start + int(len(frames) * step) and (count is None or len(frames) < count):
                frames.append(frame.to_ndarray(format="rgb24"))
    if not frames:
        raise SystemExit(f"{path} holds no frames from {start} on")
    return np.stack(frames)


def frame_rate(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        return Fraction(container.streams.video[0].average_rate or 20)


def width_at(clip: np.ndarray, height: int) -> int:
    """Width of a clip scaled to a height; even, as the encoder wants it."""
    return max(2, round(clip.shape[2] * height / clip.shape[1] / 2) * 2)


def beside(clips: list[np.ndarray], height: int) -> np.ndarray:
    """Clips scaled to one height and put side by side; as many frames as the shortest has."""
    count = min(len(clip) for clip in clips)
    rows = []
    for index in range(count):
        parts = []
        for clip in clips:
            grows = clip.shape[1] < height
            parts.append(cv2.resize(clip[index], (width_at(clip, height), height),
                                    interpolation=cv2.INTER_NEAREST if grows else cv2.INTER_AREA))
        rows.append(np.concatenate(parts, axis=1))
    return np.stack(rows)


def psnr(video: np.ndarray, truth: np.ndarray) -> float:
    """dB over all frames that both have; the truth is scaled to the video's size."""
    height, width = video.shape[1:3]
    errors = [np.square(frame.astype(np.float64) - cv2.resize(true, (width, height), interpolation=cv2.INTER_AREA))
              for frame, true in zip(video, truth, strict=False)]
    return float(10 * np.log10(255**2 / max(np.mean(errors), 1e-12)))


def write_video(path: Path, frames: np.ndarray, rate: Fraction) -> None:
    """H.264 with square pixels; the file appears when it is complete."""
    part = path.with_name(f".part-{path.name}")
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": "18"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    os.replace(part, path)


def contact_sheet(clips: dict[str, np.ndarray], rows: int = SHEET_ROWS) -> np.ndarray:
    """Some moments of the clips under each other, each clip a column under its name."""
    shown = min(len(clip) for clip in clips.values())
    chosen = np.linspace(0, shown - 1, min(rows, shown)).round().astype(int)
    height = SHEET_HEIGHT  # small clips are enlarged, for the names' sake
    pictures = beside([clip[chosen] for clip in clips.values()], height)
    head, left = np.full((28, pictures.shape[2], 3), 32, np.uint8), 0
    for name, clip in clips.items():
        cv2.putText(head, name, (left + 6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
        left += width_at(clip, height)
    return np.concatenate([head, *pictures], axis=0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("exo", "prior", "ego"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--start", type=int, default=0, help="first frame of the exo video that was used")
    parser.add_argument("--fps", type=float, default=0.0, help="frames a second that were taken of it; 0: every frame")
    parser.add_argument("--label", default="", help="said beside the word ego on the sheet, for instance: stand-in")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    ego, prior = read_frames(args.ego), read_frames(args.prior)
    step = float(frame_rate(args.exo)) / args.fps if args.fps > 0 else 1.0
    clips = {"exo": read_frames(args.exo, args.start, len(ego), step), "prior": prior,
             f"ego {args.label}".strip(): ego}
    if args.truth is not None:
        truth = read_frames(args.truth, args.start, len(ego), step)
        clips["ego ground truth"] = truth
        if not args.label:
            print(f"The ego video against the truth: PSNR {psnr(ego, truth):.2f} dB", flush=True)
    height = ego.shape[1]
    joined = beside(list(clips.values()), height)
    write_video(args.out / "side_by_side.mp4", joined, frame_rate(args.ego))
    sheet = contact_sheet(clips)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    if not done:
        raise SystemExit("the contact sheet could not be encoded")
    part = args.out / ".part-contact_sheet.png"
    part.write_bytes(encoded.tobytes())
    os.replace(part, args.out / "contact_sheet.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
