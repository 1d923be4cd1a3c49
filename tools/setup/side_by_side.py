"""exo | prior | ego [| ground truth] as one video, and a contact sheet of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from egox_core.metrics import region_psnr, squared_error
from egox_core.video import decode_frames, picture_row, probe_video, resize_picture
from egox_train.contact_sheet import SheetRow, make_contact_sheet, spread, write_png
from egox_train.video_writer import write_video

SHEET_ROWS, SHEET_HEIGHT = 5, 224


def read_frames(path: Path, indices: Sequence[int] | None = None) -> np.ndarray:
    """Frames [T, H, W, 3] uint8 RGB of a video, all or those of some indices.

    Raises:
        EgoXInputError: no video.
    """
    info = probe_video(path)
    wanted = range(info.frame_count) if indices is None else indices
    pictures = dict(decode_frames(path, info, sorted(set(wanted))))
    return np.stack([pictures[index] for index in wanted])


def psnr(video: np.ndarray, truth: np.ndarray) -> float:  # [T, H, W, 3] uint8 each
    """dB over all frames that both have; the truth is scaled to the video's size."""
    count, (height, width) = min(len(video), len(truth)), video.shape[1:3]
    scaled = np.stack([resize_picture(picture, width, height) for picture in truth[:count]])
    error = squared_error(
        *(torch.from_numpy(frames).float() / 255 for frames in (video[:count], scaled))
    )
    return region_psnr(error, torch.ones_like(error, dtype=torch.bool))


def join(results: Path, exo: Path, truth: Path | None, used: Sequence[int], label: str) -> None:
    """Write side_by_side.mp4 and contact_sheet.png; print the ego video's PSNR where it can be
    known.

    Args:
        results: folder with ego.mp4 and prior.mp4. used: the exo video's frames that it was made of.
        label: said beside the word ego on the sheet, for instance: stand-in; there is no PSNR then.
    """
    ego = read_frames(results / "ego.mp4")
    clips = {
        "exo": read_frames(exo, used),
        "prior": read_frames(results / "prior.mp4"),
        f"ego {label}".strip(): ego,
    }
    if truth is not None:
        clips["ego ground truth"] = known = read_frames(truth, used)
        if not label:
            print(f"The ego video against the truth: PSNR {psnr(ego, known):.2f} dB", flush=True)
    moments = list(zip(*clips.values(), strict=False))
    joined = (torch.from_numpy(picture_row(row, (), ego.shape[1])) for row in moments)
    write_video(results / "side_by_side.mp4", joined, probe_video(results / "ego.mp4").fps)
    rows = [
        SheetRow(pictures=moments[moment], labels=() if moment else tuple(clips))
        for moment in spread(len(moments), SHEET_ROWS)
    ]
    write_png(results / "contact_sheet.png", make_contact_sheet(rows, SHEET_HEIGHT))
