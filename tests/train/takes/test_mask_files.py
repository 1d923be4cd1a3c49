"""Test how mask files of every format are found, checked and read."""

import cv2
import numpy as np
import pytest
import torch

from egox_core.depth import check_no_labels, fit_host_mask
from egox_core.types import FrameSelection
from egox_train.takes.mask_files import check_mask_file, find_mask, read_mask
from egox_train.video_writer import write_levels, write_video
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

FRAME_COUNT, HEIGHT, WIDTH = 7, 24, 48


def moving_block() -> np.ndarray:
    """Draw a mask [T, H, W] of a block that moves to the right."""
    mask = np.zeros((FRAME_COUNT, HEIGHT, WIDTH), bool)
    for t in range(FRAME_COUNT):
        mask[t, 8:16, 4 * t : 4 * t + 12] = True
    return mask


def select_frames(
    indices: list[int],
    source: tuple[int, int] = (WIDTH, HEIGHT),
    size: tuple[int, int] = (WIDTH, HEIGHT),
    total: int | None = None,
) -> FrameSelection:
    return frames_in_use(indices, size, fps=30.0, source_size=source, total=total)


def write_mask(folder, form: str, mask: np.ndarray):
    grey_pictures = mask.astype(np.uint8) * 255
    if form == "png":
        (folder / "room__cam").mkdir()
        for t, picture in enumerate(grey_pictures):
            cv2.imwrite(str(folder / "room__cam" / f"{t + 1:05d}.png"), picture)
    elif form == "mp4":
        write_video(folder / "room__cam.mp4", torch.from_numpy(grey_pictures), 30)
    elif form == "mkv":
        write_levels(folder / "room__cam.mkv", torch.from_numpy(grey_pictures), 30)
    else:
        save_arrays = np.savez if form == "npz stored" else np.savez_compressed
        save_arrays(folder / "room__cam.npz", mask=mask if form == "npz" else grey_pictures)
    return find_mask(folder, "room__cam")


@pytest.mark.parametrize("form", ["png", "mp4", "mkv", "npz", "npz stored"])
def test_every_mask_format_is_read_equally(tmp_path, form):
    mask_file = write_mask(tmp_path, form, moving_block())
    assert (mask_file.numbering.count, mask_file.size) == (FRAME_COUNT, (WIDTH, HEIGHT))
    check_mask_file(mask_file, select_frames([0]))
    read_masks = read_mask(mask_file, select_frames([1, 4, 4, 6])).numpy()
    assert read_masks.dtype == bool and np.array_equal(read_masks, moving_block()[[1, 4, 4, 6]])


def test_masks_are_cropped_like_their_frames(tmp_path):
    mask_file, drawn = write_mask(tmp_path, "png", moving_block()), moving_block()
    cropped = read_mask(mask_file, select_frames([0], size=(WIDTH // 2, HEIGHT)))
    assert np.array_equal(cropped[0], drawn[0, :, WIDTH // 4 : 3 * WIDTH // 4])
    double = (2 * WIDTH, 2 * HEIGHT)
    enlarged = read_mask(mask_file, select_frames([2], source=double, size=double))
    assert np.array_equal(enlarged[0], drawn[2].repeat(2, 0).repeat(2, 1))


def test_masks_of_another_video_are_refused(tmp_path):
    with refuses("room__cam.*mkv"):
        find_mask(tmp_path, "room__cam")
    mask_file = write_mask(tmp_path, "npz", moving_block())
    square, raw = ({"source": size, "size": size} for size in ((WIDTH, WIDTH), (WIDTH - 2, HEIGHT)))
    # As wide as the raw video: cropped where pictures stay as filmed, another camera's where they
    # are redrawn.
    check_mask_file(mask_file, select_frames([0], **raw))
    for frames, redrawn, message in (
        (select_frames([0], total=9), False, "7 frames.*9"),
        (select_frames([0], **square), False, "aspect"),
        (select_frames([0], **raw), True, "undistort"),
    ):
        with refuses(message):
            check_mask_file(mask_file, frames, redrawn=redrawn)
    with refuses("at least 8"):
        read_mask(mask_file, select_frames([7]))


GREY = np.uint8(255) * moving_block()[0]
EDGE_MASK = cv2.dilate(GREY, np.ones((3, 3), np.uint8)) > GREY
SOFT_EDGED = np.where(
    EDGE_MASK, np.random.default_rng(7).integers(50, 120, EDGE_MASK.shape), GREY
).astype(np.uint8)
DOTTED = np.where(
    np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) == 10 * WIDTH + 5, 0, GREY
).astype(np.uint8)
PHOTO = np.random.default_rng(99).integers(20, 235, (HEIGHT, WIDTH, 3), np.uint8)
TINTED = np.where(moving_block()[0][..., None], PHOTO // 2 + (0, 120, 0), PHOTO).astype(np.uint8)


@pytest.mark.parametrize(
    ("picture", "outcome"),
    [
        (np.dstack([np.zeros((HEIGHT, WIDTH, 3), np.uint8), GREY]), None),
        (np.dstack([GREY, GREY, GREY, GREY]), None),
        (GREY.astype(np.uint16) * 257, None),
        (np.dstack([PHOTO, GREY]), "transparent parts"),
        (TINTED, "colours in"),
        (np.dstack([0 * GREY, 0 * GREY, GREY]), None),  # one colour on black, of any share
        (np.dstack([0 * GREY, 0 * GREY, GREY // 2 + GREY // 255]), None),  # as DAVIS has it
        (np.uint8(200) * moving_block()[0], None),
        (np.dstack([0 * GREY, 0 * GREY, SOFT_EDGED]), None),  # its shades are soft edges
        (np.dstack([DOTTED, DOTTED, GREY]), None),  # a red dot
        (np.dstack([0 * GREY, np.roll(GREY, 9, 0), GREY]), "2 colours, which may be labels"),
        (np.dstack([np.full_like(GREY, 255), GREY, GREY]), "2 colours, which may be labels"),
        (PHOTO[..., 0], "neither black nor white"),
    ],
)
def test_varying_channel_of_a_picture_is_the_mask(tmp_path, picture, outcome):
    (tmp_path / "room__cam").mkdir()
    (tmp_path / "room__cam" / "._0.png").write_bytes(b"\0\5\x16\7")  # as macOS writes them
    cv2.imwrite(str(tmp_path / "room__cam" / "0.png"), picture)
    if outcome is None:
        read_masks = read_mask(find_mask(tmp_path, "room__cam"), select_frames([0], total=1))
        assert np.array_equal(read_masks[0].numpy(), moving_block()[0])
        return
    with refuses(outcome):
        find_mask(tmp_path, "room__cam")


def test_files_without_a_mask_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", other=moving_block())
    np.savez(tmp_path / "b.npz", mask=moving_block().astype(np.float32))
    (tmp_path / "c").mkdir()
    cv2.imwrite(str(tmp_path / "c" / "0.png"), moving_block()[0].astype(np.uint8))  # labels 0 and 1
    for name, message_pattern in (("a", "named mask"), ("b", "float32"), ("c", "up to 1")):
        with refuses(message_pattern):
            find_mask(tmp_path, name)
    mask_file = write_mask(tmp_path, "npz stored", moving_block())
    file_bytes = mask_file.path.read_bytes()
    mask_file.path.write_bytes(file_bytes[:200] + bytes(len(file_bytes) - 400) + file_bytes[-200:])
    with refuses("mask"):
        read_mask(find_mask(tmp_path, "room__cam"), select_frames([0, 6]))


def test_two_greys_that_fill_areas_are_labels(tmp_path):
    """Check that a map of labels is refused as file and socket, and is read once it is a mask."""
    drawn = moving_block()
    labels = np.where(drawn, 255, 0).astype(np.uint8)
    for level in (90, 30):
        labels[:, 2:6, 30:44] = level
        labels[:, 2:6, 2:14] = 180  # a third one, larger, which counts
        folder = tmp_path / f"room__cam{level}"
        folder.mkdir()
        for t, picture in enumerate(labels):
            cv2.imwrite(str(folder / f"{t:05d}.png"), picture)
        with refuses(f"areas of grey {level} and 255 .*write the labels that move as 255"):
            read_mask(find_mask(tmp_path, folder.name), select_frames([0, 3]))
        with refuses(f"areas of grey {level} and 255"):
            socket = torch.from_numpy(labels / 255.0)
            fit_host_mask(socket, select_frames([*range(FRAME_COUNT)]), HEIGHT, WIDTH, "x")
        for t, picture in enumerate(labels):
            cv2.imwrite(str(folder / f"{t:05d}.png"), np.where(picture == level, 0, picture))
        masks = read_mask(find_mask(tmp_path, folder.name), select_frames([0, 3])).numpy()
        assert np.array_equal(masks, (labels >= 180)[[0, 3]])


@pytest.mark.parametrize("level", [128, 180])
def test_two_greys_that_both_count_mark_what_moves(tmp_path, level):
    """Check two objects of one picture, or the unknown band of a trimap."""
    drawn = moving_block()
    greys = np.where(drawn, 255, 0).astype(np.uint8)
    greys[:, 2:6, 30:44] = level
    (tmp_path / "room__cam").mkdir()
    for t, picture in enumerate(greys):
        cv2.imwrite(str(tmp_path / "room__cam" / f"{t:05d}.png"), picture)
    masks = read_mask(find_mask(tmp_path, "room__cam"), select_frames([0, 3])).numpy()
    assert np.array_equal(masks, (greys > 0)[[0, 3]])
    socket, used_frames = torch.from_numpy(greys / 255.0), select_frames([*range(FRAME_COUNT)])
    fitted_mask, _ = fit_host_mask(socket, used_frames, HEIGHT, WIDTH, "x")
    assert np.array_equal(fitted_mask.numpy(), greys > 0)


@pytest.mark.parametrize("sigma", [2, 6])
@pytest.mark.parametrize("form", ["raw", "mp4"])
def test_soft_edges_and_lossy_videos_have_no_labels(tmp_path, sigma, form):
    square = np.zeros((180, 320), np.uint8)
    square[30:90, 40:120] = square[110:170, 180:310] = 255
    soft = cv2.GaussianBlur(square, (0, 0), sigma)
    pictures = torch.from_numpy(np.stack([soft] * 3))
    if form == "raw":
        check_no_labels(soft, "x")
        check_no_labels((soft / 255).astype(np.float32), "x")
        return
    write_video(tmp_path / "room__cam.mp4", pictures, 30, quality=1)
    masks = read_mask(find_mask(tmp_path, "room__cam"), frames_in_use([0, 1, 2], (320, 180)))
    assert (masks.numpy() == (soft >= 128)).mean() > 0.99


def test_a_mask_for_each_person_is_told_by_that(tmp_path):
    folder = tmp_path / "room__cam"
    folder.mkdir()
    drawn = moving_block()
    for t, mask in enumerate(drawn):
        for person, part in enumerate((mask[:12], mask[12:])):
            picture = np.zeros((HEIGHT, WIDTH), np.uint8)
            picture[12 * person : 12 * person + 12] = 255 * part
            cv2.imwrite(str(folder / f"frame_{t:04d}_person{person}.png"), picture)
    with refuses("several files a frame, as one for each person.*join those of each frame"):
        find_mask(tmp_path, "room__cam")
    for t in range(FRAME_COUNT):
        files = sorted(folder.glob(f"frame_{t:04d}_*"))
        joined = np.maximum(*(cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files))
        for file in files:
            file.unlink()
        cv2.imwrite(str(folder / f"frame_{t:04d}.png"), joined)
    masks = read_mask(find_mask(tmp_path, "room__cam"), select_frames([1, 5])).numpy()
    assert np.array_equal(masks, drawn[[1, 5]])


def test_blocks_of_a_lossy_ramp_are_no_labels():
    ramp = np.repeat(np.arange(0, 256, 12, dtype=np.uint8), 16)
    picture = np.full((60, len(ramp)), 255, np.uint8)
    picture[:40] = ramp
    check_no_labels(picture, "x")
    picture[:], picture[10:30, 10:30], picture[40:, 10:30] = 0, 134, 120  # one grey, in two areas
    check_no_labels(picture, "x")


def test_files_of_one_number_that_are_no_persons_are_two_takes(tmp_path):
    (tmp_path / "room__cam").mkdir()
    for name in ("f_1", "f_01", "f_2"):
        cv2.imwrite(str(tmp_path / "room__cam" / f"{name}.png"), np.zeros((8, 8), np.uint8))
    with refuses("of one number; .*keep one take a folder"):
        find_mask(tmp_path, "room__cam")
