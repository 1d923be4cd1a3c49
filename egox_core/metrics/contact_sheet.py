"""A picture to look at: exo, prior, generated and true ego frame of some clips, each at its true size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data.manifest import ClipRecord
from ..errors import EgoXInputError
from ..file_names import EXO, PRIOR, TRUTH
from ..safe_files import write_whole
from ..video.reader import decode_frames, probe_video, resize_picture

NAMES = ("exo", "prior", "generated", "truth")
LABEL_PX = 16
TEXT = 0.33


def write_contact_sheet(file: Path, root: Path, records: Sequence[ClipRecord], generated: Path, count: int) -> None:
    """``count`` clips spread evenly over ``records``, one row each, their middle frames; PNG. Exo is scaled to the ego
    picture's height, the others are shown pixel by pixel.

    Raises:
        EgoXInputError: a video that can't be read.
    """
    picked = records if len(records) <= count else [records[i * len(records) // count] for i in range(count)]
    rows = [_row(root, record, generated) for record in picked]
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
    ok, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    if not ok:
        raise EgoXInputError("contact sheet", got="a picture that can't be encoded", expected="a PNG",
                             fix="show fewer clips")
    with write_whole(file) as temporary:
        temporary.write_bytes(data.tobytes())


def _row(root: Path, record: ClipRecord, generated: Path) -> np.ndarray:
    folder = root / record.folder
    files = (folder / EXO, folder / PRIOR, generated / f"{record.clip}.mp4", folder / TRUTH)
    exo, *ego = (_middle(file, record.frames // 2) for file in files)
    height = ego[0].shape[0]
    pictures = [resize_picture(exo, round(exo.shape[1] * height / exo.shape[0]), height), *ego]
    row = np.concatenate(pictures, axis=1)
    label = np.full((LABEL_PX, row.shape[1], 3), 40, np.uint8)
    left = 0
    for name, picture in zip((f"{record.clip[-28:]} {NAMES[0]}", *NAMES[1:]), pictures, strict=True):
        part = label[:, left : left + picture.shape[1]].copy()  # so that a long name is cut at its own picture
        cv2.putText(part, name, (2, LABEL_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, TEXT, (255, 255, 255), 1, cv2.LINE_AA)
        label[:, left : left + picture.shape[1]] = part
        left += picture.shape[1]
    return np.concatenate((label, row))


def _middle(file: Path, index: int) -> np.ndarray:
    _, picture = next(decode_frames(file, probe_video(file), [index]))
    return picture
