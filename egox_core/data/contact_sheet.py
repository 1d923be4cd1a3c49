"""A picture to look at before training: exo, prior and truth of clips, with what is stand-in written on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import EgoXInputError
from ..file_names import EXO, PRIOR, TRUTH
from ..safe_files import write_whole
from ..video.reader import decode_frames, probe_video
from .manifest import ClipRecord

ROWS = 24  # clips shown, spread evenly over the set
HEIGHT = 112
LABEL = 18


def write_contact_sheet(file: Path, root: Path, records: Sequence[ClipRecord]) -> None:
    """One row a clip, its middle frame: exo, rendered prior, the wearer's own picture. PNG."""
    picked = records if len(records) <= ROWS else [records[i * len(records) // ROWS] for i in range(ROWS)]
    rows = [_row(root, record) for record in picked]
    width = max(r.shape[1] for r in rows)
    rows = [np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0))) for r in rows]
    ok, data = cv2.imencode(".png", np.concatenate(rows)[..., ::-1])
    if not ok:
        raise EgoXInputError("contact sheet", got="a picture that can't be encoded", expected="a PNG",
                             fix="report this with the manifest")
    with write_whole(file) as temporary:
        temporary.write_bytes(data.tobytes())


def _row(root: Path, record: ClipRecord) -> np.ndarray:
    folder = root / record.folder
    names = [EXO, PRIOR] + ([TRUTH] if record.ground_truth else [])
    pictures = [_middle(folder / name, record.frames // 2) for name in names]
    row = np.concatenate(pictures, axis=1)
    label = np.full((LABEL, row.shape[1], 3), 40, np.uint8)
    text = f"{record.clip}  prior covers {record.coverage:.0%}, depth: {record.depth}"
    cv2.putText(label, text, (3, LABEL - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate((label, row))


def _middle(file: Path, index: int) -> np.ndarray:
    _, picture = next(decode_frames(file, probe_video(file), [index]))
    width = round(picture.shape[1] * HEIGHT / picture.shape[0])
    return cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA)
