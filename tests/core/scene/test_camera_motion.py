"""Test the detection of a moving exo camera that has only one pose."""

import cv2
import numpy as np
import pytest
import torch

from egox_core.scene.camera_motion import camera_motion

FRAMES, PICTURE_SIZE = 13, (448, 252)  # each of them is looked at


def film_moving(pictures: np.ndarray, pan_px: float = 0.0, zoom: float = 0.0) -> torch.Tensor:
    """Crop pictures [T, H, W, 3] out of a video as a camera that pans or zooms evenly would."""
    height, width = pictures.shape[1:3]
    filmed_pictures = []
    for time_share, picture in zip(np.linspace(0, 1, len(pictures)), pictures, strict=True):
        warp = cv2.getRotationMatrix2D((width / 2, height / 2), 0, 1 + zoom * time_share)
        warp[0, 2] += pan_px * time_share
        filmed_pictures.append(
            cv2.warpAffine(picture, warp, (width, height), borderMode=cv2.BORDER_REFLECT)
        )
    return torch.from_numpy(np.stack(filmed_pictures))


@pytest.fixture(scope="module")
def still_video() -> np.ndarray:
    """Draw a video [T, H, W, 3] of a still room with a person who walks through it."""
    rng = np.random.default_rng(0)
    room_picture = cv2.GaussianBlur(
        rng.integers(0, 256, (PICTURE_SIZE[1], PICTURE_SIZE[0], 3), dtype=np.uint8), (0, 0), 4
    )
    room_picture = cv2.normalize(room_picture, None, 0, 255, cv2.NORM_MINMAX)
    walker = np.ascontiguousarray(room_picture[:200, :100, ::-1])
    pictures = np.repeat(room_picture[None], FRAMES, 0)
    for t, picture in enumerate(pictures):
        picture[40:240, 20 + 16 * t : 120 + 16 * t] = walker
    return pictures


@pytest.mark.parametrize("pan_px, zoom, pixels", [(11.0, 0.0, 11.0), (0.0, 0.06, 15.4)])
def test_pans_and_zooms_are_measured(still_video, pan_px, zoom, pixels):
    motion = camera_motion(film_moving(still_video, pan_px, zoom), None)
    assert motion.pixels == pytest.approx(pixels, abs=1.0)
    assert motion.frame == FRAMES - 1
    assert motion.zoom == pytest.approx(1 + zoom, abs=0.005)
    assert ("lens zooms" in motion.text()) == (zoom != 0)


def film_walking(still_frames: np.ndarray) -> torch.Tensor:
    """Shift pictures as a walking camera would, near objects more than far ones."""
    rows, columns = np.mgrid[: PICTURE_SIZE[1], : PICTURE_SIZE[0]].astype(np.float32)
    nearness = 1 + np.sin(columns / 40) * np.sin(rows / 30)
    filmed_pictures = [
        cv2.remap(picture, columns + np.float32(60 * time_share) * nearness, rows, cv2.INTER_LINEAR)
        for time_share, picture in zip(np.linspace(0, 1, FRAMES), still_frames, strict=True)
    ]
    return torch.from_numpy(np.stack(filmed_pictures))


def test_large_motion_is_detected_without_a_measure(still_video):
    for pictures in (film_walking(still_video), film_moving(still_video, 600.0)):
        motion = camera_motion(pictures, None)
        assert motion.pixels is None
        assert 0 < motion.frame < FRAMES / 2
    hidden_video = torch.from_numpy(still_video.copy())
    hidden_video[3:6] = hidden_video[3:6].flip(2)  # three of twelve looks: somebody passes close by
    assert camera_motion(hidden_video, None) is None


def test_walking_person_is_not_taken_for_camera_motion(still_video):
    assert camera_motion(torch.from_numpy(still_video), None) is None
    assert camera_motion(torch.zeros(FRAMES, 40, 60, 3), None) is None
