"""exo | prior | ego [| ground truth] as one video, and a contact sheet of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from egox_core.errors import EgoXInputError
from egox_core.metrics.image import region_psnr, squared_error
from egox_core.video.reader import decode_frames, probe_video, resize_picture
from egox_train.contact_sheet import SheetRow, beside, make_contact_sheet, spread, write_png
from egox_train.video_writer import write_video

SHEET_ROWS, SHEET_HEIGHT = 5, 224


def read_frames(
    path: Path, start: int = 0, count: int | None = None, step: float = 1.0
) -> np.ndarray:
    """Frames [T, H, W, 3] uint8 RGB of a video: ``start``, ``start + step``, ... rounded down, at
    most ``count``.

    Raises:
        EgoXInputError: no video, or no frame from ``start`` on.
    """
    info = probe_video(path)
    indices = (start + np.arange(info.frame_count / step) * step).astype(int)[:count]
    indices = indices[indices < info.frame_count]
    if not len(indices):
        raise EgoXInputError(
            f"video {path.name}",
            got=f"{info.frame_count} frames",
            expected=f"more than {start}",
            fix="start earlier",
        )
    pictures = dict(decode_frames(path, info, np.unique(indices).tolist()))
    return np.stack([pictures[index] for index in indices.tolist()])


def psnr(video: np.ndarray, truth: np.ndarray) -> float:  # [T, H, W, 3] uint8 each
    """dB over all frames that both have; the truth is scaled to the video's size."""
    count, (height, width) = min(len(video), len(truth)), video.shape[1:3]
    scaled = np.stack([resize_picture(picture, width, height) for picture in truth[:count]])
    error = squared_error(
        *(torch.from_numpy(frames).float() / 255 for frames in (video[:count], scaled))
    )
    return region_psnr(error, torch.ones_like(error, dtype=torch.bool))


def rows_of(clips: dict[str, np.ndarray], most: int = SHEET_ROWS) -> list[SheetRow]:
    """Some moments of the clips, each clip a column under its name."""
    moments = spread(min(len(clip) for clip in clips.values()), most)
    return [
        SheetRow(
            pictures=[clip[moment] for clip in clips.values()], labels=() if place else tuple(clips)
        )
        for place, moment in enumerate(moments)
    ]


def join(
    results: Path,
    exo: Path,
    truth: Path | None,
    *,
    start: int = 0,
    fps: float = 0.0,
    label: str = "",
) -> None:
    """Write side_by_side.mp4 and contact_sheet.png; print the ego video's PSNR where it can be
    known.

    Args:
        results: folder with ego.mp4 and prior.mp4. start, fps: first frame of the exo video that
            was used, and frames per second taken of it (0: every frame).
        label: said beside the word ego on the sheet, for instance: stand-in; there is no PSNR then.

    Raises:
        EgoXInputError: no video, or too short.
    """
    ego, prior = read_frames(results / "ego.mp4"), read_frames(results / "prior.mp4")
    step = probe_video(exo).fps / fps if fps > 0 else 1.0
    clips = {
        "exo": read_frames(exo, start, len(ego), step),
        "prior": prior,
        f"ego {label}".strip(): ego,
    }
    if truth is not None:
        clips["ego ground truth"] = read_frames(truth, start, len(ego), step)
        if not label:
            print(
                f"The ego video against the truth: PSNR {psnr(ego, clips['ego ground truth']):.2f} dB",
                flush=True,
            )
    joined = (
        torch.from_numpy(beside(pictures, ego.shape[1]))
        for pictures in zip(*clips.values(), strict=False)
    )
    write_video(results / "side_by_side.mp4", joined, probe_video(results / "ego.mp4").fps)
    write_png(results / "contact_sheet.png", make_contact_sheet(rows_of(clips), SHEET_HEIGHT))
