"""Test object metrics on small masks."""

import numpy as np
import pytest
import torch

from egox_train.data.object_masks import ObjectMasks, read_masks, write_masks
from egox_train.metrics.objects import (
    contour_accuracy,
    iou,
    location_error_px,
    mask_boundary,
    object_rows,
)
from tests.refusals import refuses

SIZE = 60
EMPTY = np.zeros((SIZE, SIZE), bool)


def square_mask(row: int, column: int, side: int = 10) -> np.ndarray:
    mask = EMPTY.copy()
    mask[row : row + side, column : column + side] = True
    return mask


def object_masks(truth: list[np.ndarray], generated: list[np.ndarray]) -> ObjectMasks:
    """Build the true and generated masks of one object."""
    return ObjectMasks(ids=("a",), truth=np.stack(truth)[None], generated=np.stack(generated)[None])


def grey_video(frames: int) -> torch.Tensor:
    return torch.full((frames, SIZE, SIZE, 3), 0.5)


def test_iou_equals_counted_values():
    assert iou(square_mask(0, 0), square_mask(0, 0)) == 1
    assert iou(square_mask(0, 0), square_mask(0, 5)) == pytest.approx(50 / 150)
    assert iou(square_mask(0, 0), square_mask(30, 30)) == 0
    assert iou(EMPTY, EMPTY) == 1


def test_location_error_is_the_distance_between_outlines():
    assert location_error_px(square_mask(5, 5), square_mask(5, 5)) == 0
    assert location_error_px(square_mask(5, 5), square_mask(9, 8)) == pytest.approx(5)
    # A speck far away is not the largest outline.
    speck_mask = square_mask(5, 5) | square_mask(55, 55, 1)
    assert location_error_px(square_mask(5, 5), speck_mask) == 0


def test_boundary_follows_the_davis_definition():
    """Check that a mask's boundary is the set of pixels that differ from a right or lower
    neighbour."""
    random_mask = np.random.default_rng(0).random((9, 7)) > 0.5
    expected_boundary = np.zeros_like(random_mask)
    for r, c in np.ndindex(9, 7):
        expected_boundary[r, c] = (random_mask[r : r + 2, c : c + 2] != random_mask[r, c]).any()
    assert (mask_boundary(random_mask) == expected_boundary).all()


def test_contour_accuracy_tolerates_one_pixel():
    assert int(np.ceil(0.008 * np.hypot(SIZE, SIZE))) == 1
    assert contour_accuracy(square_mask(5, 5), square_mask(5, 5)) == 1
    assert contour_accuracy(square_mask(20, 20), square_mask(20, 21)) == 1  # one pixel aside
    assert contour_accuracy(square_mask(20, 20), square_mask(40, 40)) == 0
    assert contour_accuracy(square_mask(5, 5), EMPTY) == 0
    assert contour_accuracy(EMPTY, EMPTY) == 1
    # Outlines of 40 pixels, 4 aside: 8 match on the top line, 8 on the bottom line, 2 on the side
    # between them.
    assert contour_accuracy(square_mask(20, 20), square_mask(20, 24)) == pytest.approx(18 / 40)


def test_missing_masks_are_counted_but_not_averaged():
    true_masks = [square_mask(5, 5), square_mask(5, 5), square_mask(5, 5), EMPTY]
    generated_masks = [square_mask(5, 5), square_mask(8, 9), EMPTY, square_mask(5, 5)]
    object_rows_by_name = object_rows(object_masks(true_masks, generated_masks), grey_video(4))
    assert object_rows_by_name["missing_masks"] == 1
    assert object_rows_by_name["location_error_px"] == pytest.approx(
        2.5
    )  # (0 + 5) / 2, the missing one has none
    assert object_rows_by_name["iou"] == pytest.approx(
        (1 + iou(true_masks[1], generated_masks[1]) + 0) / 3
    )
    object_rows_by_name = object_rows(object_masks([square_mask(5, 5)], [EMPTY]), grey_video(1))
    assert (
        object_rows_by_name["location_error_px"] is None
        and object_rows_by_name["iou"] == 0
        and object_rows_by_name["missing_masks"] == 1
    )


def test_masks_are_matched_by_id_or_kept_in_order(tmp_path):
    npz_file = tmp_path / "clip.npz"
    two_masks = np.stack([square_mask(5, 5), square_mask(30, 30)])[:, None]
    write_masks(npz_file, "clip", two_masks, ["cup", "box"], two_masks[1:], ["box"])
    objects = read_masks(npz_file, "clip")
    assert objects.ids == ("box", "cup")
    assert (objects.truth[1, 0] == square_mask(5, 5)).all() and not objects.generated[1].any()
    assert (objects.generated[0] == objects.truth[0]).all()
    # Something else matches them.
    write_masks(npz_file, "clip", two_masks[:1], ["cup"], two_masks[::-1], ["1", "2"])
    objects = read_masks(npz_file, "clip", by_id=False)
    assert objects.ids == ("cup",) and (objects.generated == two_masks[::-1]).all()


def test_unfitting_mask_files_are_refused(tmp_path):
    one_mask = square_mask(5, 5)[None, None]
    content_by_message = {
        "of clip": ("other", one_mask, ["a"], one_mask, ["a"]),
        "ids in common": ("clip", one_mask, ["a"], one_mask, ["b"]),
        "one size": ("clip", one_mask, ["a"], one_mask[..., :40], ["a"]),
        "with 2 ids": ("clip", one_mask, ["a", "b"], one_mask, ["a"]),
        "an id twice": ("clip", np.concatenate([one_mask, one_mask]), ["a", "a"], one_mask, ["a"]),
    }
    for number, (message, content) in enumerate(content_by_message.items()):
        write_masks(tmp_path / f"{number}.npz", *content)
        with refuses(message):
            read_masks(tmp_path / f"{number}.npz", "clip")
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    np.savez(tmp_path / "few.npz", clip="clip")
    mask_fields = {
        "clip": "clip",
        "truth_ids": ["a"],
        "generated": one_mask,
        "generated_ids": ["a"],
    }
    np.savez(tmp_path / "objects.npz", truth=np.array([None]), **mask_fields)
    for name in ("broken", "few", "objects", "absent"):
        with refuses():
            read_masks(tmp_path / f"{name}.npz", "clip")
    write_masks(tmp_path / "fits.npz", "clip", one_mask, ["a"], one_mask, ["a"])
    with refuses("object masks"):
        object_rows(read_masks(tmp_path / "fits.npz", "clip"), grey_video(2))
