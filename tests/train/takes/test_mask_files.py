"""Mask files in every form: found by name, checked before anything is decoded, read for the frames
in use."""

import cv2
import numpy as np
import pytest
import torch

from egox_core.types import FrameSelection
from egox_train.takes.mask_files import check_mask, find_mask, read_mask
from egox_train.video_writer import write_levels, write_video
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

T, H, W = 7, 24, 48


def moving() -> np.ndarray:
    """Draw a block that goes to the right, [T, H, W] bool."""
    mask = np.zeros((T, H, W), bool)
    for t in range(T):
        mask[t, 8:16, 4 * t : 4 * t + 12] = True
    return mask


def frames(
    indices: list[int],
    source: tuple[int, int] = (W, H),
    size: tuple[int, int] = (W, H),
    total: int | None = None,
) -> FrameSelection:
    return frames_in_use(indices, size, fps=30.0, source_size=source, total=total)


def write(folder, form: str, mask: np.ndarray):
    grey = mask.astype(np.uint8) * 255
    if form == "png":
        (folder / "room__cam").mkdir()
        for t, picture in enumerate(grey):
            cv2.imwrite(str(folder / "room__cam" / f"{t + 1:05d}.png"), picture)
    elif form == "mp4":
        write_video(folder / "room__cam.mp4", torch.from_numpy(grey), 30)
    elif form == "mkv":
        write_levels(folder / "room__cam.mkv", torch.from_numpy(grey), 30)
    else:
        save = np.savez if form == "npz stored" else np.savez_compressed
        save(folder / "room__cam.npz", mask=mask if form == "npz" else grey)
    return find_mask(folder, "room__cam")


@pytest.mark.parametrize("form", ["png", "mp4", "mkv", "npz", "npz stored"])
def test_every_form_says_the_same(tmp_path, form):
    mask = write(tmp_path, form, moving())
    assert (mask.numbering.count, mask.size) == (T, (W, H))
    check_mask(mask, frames([0]))
    read = read_mask(mask, frames([1, 4, 4, 6])).numpy()
    assert read.dtype == bool and np.array_equal(read, moving()[[1, 4, 4, 6]])


def test_a_mask_follows_the_crop_of_its_frames(tmp_path):
    mask = write(tmp_path, "png", moving())
    half = read_mask(mask, frames([0], size=(W // 2, H)))[0]
    assert half.shape == (H, W // 2) and np.array_equal(
        half.numpy(), moving()[0, :, W // 4 : 3 * W // 4]
    )
    large = read_mask(mask, frames([2], source=(2 * W, 2 * H), size=(2 * W, 2 * H)))[0]
    assert large.shape == (2 * H, 2 * W) and int(large.sum()) == 4 * moving()[2].sum()


def test_masks_of_another_video_are_refused(tmp_path):
    with refuses("room__cam.*mkv"):
        find_mask(tmp_path, "room__cam")
    mask = write(tmp_path, "npz", moving())
    with refuses("7 frames.*9"):
        check_mask(mask, frames([0], total=9))
    with refuses("aspect"):
        check_mask(mask, frames([0], source=(W, W), size=(W, W)))
    # As wide as the raw video: cropped where pictures stay as filmed, another camera's where they
    # are redrawn.
    check_mask(mask, frames([0], source=(W - 2, H), size=(W - 2, H)))
    with refuses("undistort"):
        check_mask(mask, frames([0], source=(W - 2, H), size=(W - 2, H)), redrawn=True)
    with refuses("at least 8"):
        read_mask(mask, frames([7]))


GREY = np.uint8(255) * moving()[0]
RIM = cv2.dilate(GREY, np.ones((3, 3), np.uint8)) > GREY
SOFT = np.where(RIM, np.random.default_rng(7).integers(50, 120, RIM.shape), GREY).astype(np.uint8)
DOTTED = np.where(np.arange(H * W).reshape(H, W) == 10 * W + 5, 0, GREY).astype(np.uint8)
SHADES = np.uint8(90) * np.roll(moving()[0], 20, 1) + GREY
PHOTO = np.random.default_rng(99).integers(20, 235, (H, W, 3), np.uint8)
TINTED = np.where(moving()[0][..., None], PHOTO // 2 + (0, 120, 0), PHOTO).astype(np.uint8)


@pytest.mark.parametrize(
    ("picture", "outcome"),
    [
        (np.dstack([np.full((H, W, 3), 255, np.uint8), GREY]), None),  # alpha alone varies
        (np.dstack([np.zeros((H, W, 3), np.uint8), GREY]), None),
        (np.dstack([GREY, GREY, GREY, GREY]), None),
        (np.dstack([GREY, GREY, GREY, np.full((H, W), 255, np.uint8)]), None),
        (GREY.astype(np.uint16) * 257, None),
        (np.dstack([PHOTO, GREY]), "transparent parts"),
        (np.dstack([GREY, GREY, GREY, 255 - GREY]), "transparent parts"),
        (TINTED, "colours in"),
        (np.dstack([0 * GREY, 0 * GREY, GREY]), None),  # one colour on black, of any share
        (np.dstack([0 * GREY, 0 * GREY, GREY // 2 + GREY // 255]), None),  # as DAVIS has it
        (np.uint8(200) * moving()[0], None),
        (np.dstack([0 * GREY, 0 * GREY, SOFT]), None),  # its shades are soft edges
        (np.dstack([0 * GREY, SOFT // 2, SOFT]), None),
        (np.dstack([DOTTED, DOTTED, GREY]), None),  # a red dot
        (np.dstack([0 * GREY, 0 * GREY, SHADES]), "2 colours, which may be labels"),
        (np.dstack([0 * GREY, np.roll(GREY, 9, 0), GREY]), "2 colours, which may be labels"),
        (np.dstack([np.full_like(GREY, 255), GREY, GREY]), "2 colours, which may be labels"),
        (PHOTO[..., 0], "neither black nor white"),
    ],
)
def test_the_mask_is_what_varies(tmp_path, picture, outcome):
    (tmp_path / "room__cam").mkdir()
    (tmp_path / "room__cam" / "._0.png").write_bytes(b"\0\5\x16\7")  # as macOS writes them
    cv2.imwrite(str(tmp_path / "room__cam" / "0.png"), picture)
    if outcome is None:
        read = read_mask(find_mask(tmp_path, "room__cam"), frames([0], total=1))
        assert np.array_equal(read[0].numpy(), moving()[0])
        return
    with refuses(outcome):
        find_mask(tmp_path, "room__cam")


def test_what_is_no_mask_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", other=moving())
    np.savez(tmp_path / "b.npz", mask=moving().astype(np.float32))
    (tmp_path / "c").mkdir()
    cv2.imwrite(str(tmp_path / "c" / "0.png"), moving()[0].astype(np.uint8))  # labels 0 and 1
    for name, words in (("a", "named mask"), ("b", "float32"), ("c", "up to 1")):
        with refuses(words):
            find_mask(tmp_path, name)
    mask = write(tmp_path, "npz stored", moving())
    content = mask.path.read_bytes()
    mask.path.write_bytes(content[:200] + bytes(len(content) - 400) + content[-200:])
    with refuses("mask"):
        read_mask(find_mask(tmp_path, "room__cam"), frames([0, 6]))
