"""Test exo pictures of upright videos, and the memory that decoding uses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_train.data.clip_files import read_clip
from tests.train.prepared_takes import SMALL_OPTIONS, prepare_and_read

SIZE = (224, 128)
PREPARE_OPTIONS = replace(SMALL_OPTIONS, exo_size=SIZE, ego_size=SIZE[1], depth="plane")


def lamps_in(
    picture: np.ndarray,
) -> list[tuple[float, float]]:  # [H, W, 3] -> (u, v) of each white disc
    import cv2

    count, _, stats, centres = cv2.connectedComponentsWithStats(
        (picture.min(axis=2) > 160).astype(np.uint8)
    )
    return [tuple(centres[i]) for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= 2]


@pytest.mark.parametrize("exo_lens", ["raw", "as given"])
def test_upright_video_is_fitted_with_black_bars(take_writers, tmp_path, exo_lens):
    """Check that an upright video gets black bars without depth, and a lens that fits the
    picture."""
    source_folder = take_writers.write_egoexo4d(
        tmp_path / "raw",
        "upenn_boulder_2",
        frames=5,
        cameras={"cam01": (144, 256), "cam02": (256, 144)},
    )
    records, report = prepare_and_read(
        source_folder, tmp_path / "set", replace(PREPARE_OPTIONS, exo_lens=exo_lens)
    )
    records = {r.exo_camera: r for r in records}
    notes = " ".join(report["notes"]["upenn_boulder_2"])
    assert "cam01: its picture of 144x256 is fitted whole" in notes and "cam02: its" not in notes
    for name, has_bars in (("cam01", True), ("cam02", False)):
        clip = read_clip(tmp_path / "set", records[name])
        picture = clip.exo[2].numpy()
        left_columns = picture[:, :70].astype(int)
        assert (
            left_columns.max() < 20
        ) == has_bars  # 72 of 224 columns hold the picture, in the middle
        assert int(picture[:, 80:144].mean(axis=2).min()) > 30
        depth_video = clip.take.depth
        assert bool(torch.isfinite(depth_video.depth_m[0, :, :70]).any()) != has_bars
        if exo_lens == "raw":
            uv, _ = depth_video.exo.camera.project(
                torch.tensor(take_writers.LAMP_POINTS, dtype=torch.float64)
            )
            lamp_pixels = lamps_in(picture)
            assert len(lamp_pixels) == len(take_writers.LAMP_POINTS)
            assert (
                max(min(((uv - torch.tensor(lamp)).norm(dim=-1)).tolist()) for lamp in lamp_pixels)
                < 1.0
            )
