"""exo | prior | ego [| ground truth] as one video, and a contact sheet of it. Run inside the environment: needs av.

    python -m devtools.side_by_side --exo exo.mp4 --prior prior.mp4 --ego ego.mp4 [--truth gt.mp4] --out FOLDER
"""

from __future__ import annotations

import argparse
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SHEET_ROWS = 5


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


def beside(clips: list[np.ndarray], height: int) -> np.ndarray:
    """Clips scaled to one height and put side by side; as many frames as the shortest has."""
    count = min(len(clip) for clip in clips)
    rows = []
    for index in range(count):
        parts = []
        for clip in clips:
            width = max(2, round(clip.shape[2] * height / clip.shape[1] / 2) * 2)
            parts.append(cv2.resize(clip[index], (width, height), interpolation=cv2.INTER_AREA))
        rows.append(np.concatenate(parts, axis=1))
    return np.stack(rows)


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


def contact_sheet(frames: np.ndarray, labels: list[tuple[str, int]], rows: int = SHEET_ROWS) -> np.ndarray:
    """Some frames of a side-by-side under each other, columns labelled; ``labels`` are (text, column's left edge)."""
    chosen = frames[np.linspace(0, len(frames) - 1, min(rows, len(frames))).round().astype(int)]
    head = np.full((28, frames.shape[2], 3), 32, np.uint8)
    for text, left in labels:
        cv2.putText(head, text, (left + 6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([head, *chosen], axis=0)


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
        clips["ego ground truth"] = read_frames(args.truth, args.start, len(ego), step)
    height = ego.shape[1]
    joined = beside(list(clips.values()), height)
    write_video(args.out / "side_by_side.mp4", joined, frame_rate(args.ego))
    labels, left = [], 0
    for name, clip in clips.items():
        labels.append((name, left))
        left += max(2, round(clip.shape[2] * height / clip.shape[1] / 2) * 2)
    sheet = contact_sheet(joined, labels)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    if not done:
        raise SystemExit("the contact sheet could not be encoded")
    part = args.out / ".part-contact_sheet.png"
    part.write_bytes(encoded.tobytes())
    os.replace(part, args.out / "contact_sheet.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
