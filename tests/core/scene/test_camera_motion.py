"""A camera that is given one pose and moves."""

import cv2
import numpy as np
import pytest
import torch

from egox_core.arrays import as_uint8
from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.scene.build import build_scene
from egox_core.scene.camera_motion import camera_motion
from egox_core.take import load_take
from egox_core.types import DepthVideo

FRAMES, SIZE = 13, (448, 252)  # each of them is looked at


def moved(pictures: np.ndarray, pan_px: float = 0.0, zoom: float = 0.0) -> torch.Tensor:
    """Film ``pictures`` [T, H, W, 3] uint8 with a camera that pans or zooms evenly over the clip."""
    height, width = pictures.shape[1:3]
    result = []
    for share, picture in zip(np.linspace(0, 1, len(pictures)), pictures, strict=True):
        warp = cv2.getRotationMatrix2D((width / 2, height / 2), 0, 1 + zoom * share)
        warp[0, 2] += pan_px * share
        result.append(cv2.warpAffine(picture, warp, (width, height), borderMode=cv2.BORDER_REFLECT))
    return torch.from_numpy(np.stack(result))


@pytest.fixture(scope="module")
def standing() -> np.ndarray:
    """Draw a room of blotches [T, H, W, 3], and somebody who walks through a fifth of the picture."""
    rng = np.random.default_rng(0)
    room = cv2.GaussianBlur(rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8), (0, 0), 4)
    room = cv2.normalize(room, None, 0, 255, cv2.NORM_MINMAX)
    walker = np.ascontiguousarray(room[:200, :100, ::-1])
    pictures = np.repeat(room[None], FRAMES, 0)
    for t, picture in enumerate(pictures):
        picture[40:240, 20 + 16 * t : 120 + 16 * t] = walker
    return pictures


@pytest.mark.parametrize("pan_px, zoom, pixels", [(11.0, 0.0, 11.0), (0.0, 0.06, 15.4)])
def test_pans_and_zooms_are_noticed(standing, pan_px, zoom, pixels):
    motion = camera_motion(moved(standing, pan_px, zoom), None)
    assert motion.pixels == pytest.approx(pixels, abs=1.0) and motion.frame == FRAMES - 1
    assert motion.zoom == pytest.approx(1 + zoom, abs=0.005)
    assert ("lens zooms" in motion.text()) == (zoom != 0)


def walked(standing: np.ndarray) -> torch.Tensor:
    """Film ``standing`` with a camera that is carried: near things go by faster than far ones."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    near = 1 + np.sin(columns / 40) * np.sin(rows / 30)
    result = [
        cv2.remap(picture, columns + np.float32(60 * share) * near, rows, cv2.INTER_LINEAR)
        for share, picture in zip(np.linspace(0, 1, FRAMES), standing, strict=True)
    ]
    return torch.from_numpy(np.stack(result))


def test_what_goes_too_far_to_be_followed_moves_too(standing):
    for pictures in (walked(standing), moved(standing, 600.0)):
        motion = camera_motion(pictures, None)
        assert motion.pixels is None and 0 < motion.frame < FRAMES / 2
    hidden = torch.from_numpy(standing.copy())
    hidden[3:6] = hidden[3:6].flip(2)  # three of twelve looks: somebody passes close by
    assert camera_motion(hidden, None) is None


def test_the_scene_says_it(standing):
    """Its notes are those of *Build Scene* and of a prepared clip (``train/data/test_masks.py``)."""
    camera = CameraModel.pinhole(*SIZE, 400.0)
    depth = DepthVideo(
        depth_m=torch.full((FRAMES, *SIZE[::-1]), 3.0), exo=CameraPath.of_exo(camera)
    )
    notes = " ".join(map(str, build_scene(moved(standing, 11.0), depth).notes))
    assert f"moved by 11 px from frame 0 to frame {FRAMES - 1}" in notes
    assert "how far isn't known" in " ".join(map(str, build_scene(walked(standing), depth).notes))
    assert "one pose" not in " ".join(
        map(str, build_scene(torch.from_numpy(standing), depth).notes)
    )


def test_who_walks_through_is_not_the_camera(standing):
    assert camera_motion(torch.from_numpy(standing), None) is None
    assert camera_motion(torch.zeros(FRAMES, 40, 60, 3), None) is None


def test_the_mask_is_left_out(standing):
    """Nearly everything walks: what stands is told by the mask alone."""
    crowd = moved(standing, 30.0).numpy()
    crowd[:, :, :150] = standing[0][:, :150]
    mask = torch.zeros(FRAMES, *crowd.shape[1:3], dtype=torch.bool)
    mask[:, :, 140:] = True
    assert camera_motion(torch.from_numpy(crowd), list(mask)) is None


@pytest.mark.parametrize("name", ["sfu_covid_009_4_2000_2048", "cmu_soccer06_6_877_925", "joker"])
def test_real_takes(shared_dir, name):
    """Those of fixed cameras stand. Their inner parts, cropped ever further aside or ever smaller,
    do not."""
    folder = shared_dir / "data" / "takes" / name
    if not (folder / "exo.mp4").is_file():
        pytest.skip("needs ../shared/data/takes")
    pictures = as_uint8(load_take(folder).read_exo())
    assert camera_motion(pictures, None) is None
    looks = pictures[:: len(pictures) // 12].numpy()
    for change in ({"pan_px": 11.0}, {"zoom": 0.06}):
        assert camera_motion(moved(looks, **change)[:, 20:-20, 20:-20], None) is not None
