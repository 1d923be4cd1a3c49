"""Test finding cuts in drawn videos."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from egox_core.types import FrameSelection
from egox_core.video.clip import open_clip
from egox_core.video.cuts import _are_similar, _cell_pattern, find_cuts, refuse_cuts
from lab.drawn import SyntheticSpec, make_take
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

SMALL_TAKE = SyntheticSpec(frames=9, exo_width=176, exo_height=100, ego_size=16, edge_samples=1)
"""A drawn picture's outlines are hard without sub-rays, as compression leaves them in a film."""
OUTPUT_SIZE = {"width": 176, "height": 96}


@cache
def draw_room(seed: int, **options) -> tuple[Tensor, ...]:
    """Draw the videos [T, H, W, 3] of a room's exo cameras."""
    return tuple(
        view.exo_rgb for view in make_take(replace(SMALL_TAKE, seed=seed, **options)).views
    )


def add_flicker(frames: Tensor) -> Tensor:
    """Darken every third frame of a video to 60 %, as a flickering lamp does."""
    brightness = torch.ones(len(frames), 1, 1, 1)
    brightness[::3] = 0.6
    return (frames * brightness).to(torch.uint8)


def add_passer_by(frames: Tensor, body_frame: Tensor) -> Tensor:
    """Draw a person who walks close to the lens and covers 55 % of the picture."""
    frames, width = frames.clone(), frames.shape[2]
    body_width = round(0.55 * width)
    for t in range(len(frames)):
        left_column = round((0.12 * t - 0.5) * width)
        begin_column = max(0, left_column)
        end_column = min(width, left_column + body_width)
        if begin_column < end_column:
            frames[t, :, begin_column:end_column] = body_frame[
                :, begin_column - left_column : end_column - left_column
            ]
    return frames


def select_frames(indices: range, fps: float = 20.0, total: int | None = None) -> FrameSelection:
    return frames_in_use(indices, (176, 100), fps=fps, total=total)


@pytest.fixture(scope="module")
def two_rooms() -> list[tuple[Tensor, ...]]:
    return [draw_room(seed, exo_views=2) for seed in range(2)]


def test_cuts_are_found_only_where_clips_are_joined(two_rooms):
    (first_clip, second_clip), (other_room_clip, _) = two_rooms
    for cut_frame, following_clip in ((4, second_clip), (1, other_room_clip), (8, second_clip)):
        joined_clip = torch.cat((first_clip[:cut_frame], following_clip[cut_frame:]))
        assert find_cuts(joined_clip) == [cut_frame]
    joined_clip = torch.cat((first_clip, second_clip, other_room_clip))
    assert find_cuts(joined_clip) == find_cuts(joined_clip.float() / 255) == [9, 18]
    for take in (
        first_clip,
        second_clip,
        add_flicker(other_room_clip),
        add_passer_by(first_clip, other_room_clip[0]),
    ):
        assert find_cuts(take) == []


def test_flashes_damaged_frames_and_fast_pans_are_no_cuts(two_rooms):
    (first_clip, second_clip), (other_room_clip, _) = two_rooms
    flash_clip = first_clip.clone()
    flash_clip[4] = 255
    damaged_clip = first_clip.clone()
    damaged_clip[4] = second_clip[4]
    dark_clip = torch.zeros_like(first_clip)
    wide_picture = torch.cat((first_clip[0], other_room_clip[0], second_clip[0]), 1)
    pan_clip = torch.stack([wide_picture[:, 40 * t : 40 * t + 176] for t in range(9)])
    for frames in (flash_clip, damaged_clip, dark_clip, pan_clip, first_clip[:1]):
        assert find_cuts(frames) == []


@pytest.mark.parametrize("texture", ["plain", "detailed"])
def test_single_swing_of_the_camera_is_no_cut(texture):
    """Check that a fast camera swing between two steady views is not reported as a cut."""
    (views,) = draw_room(3, frames=2, texture=texture, exo_path="pan", exo_turn_deg=12.0)
    assert not _are_similar(*map(_cell_pattern, views))
    swung_clip = views.repeat_interleave(4, 0)
    assert find_cuts(swung_clip) == find_cuts(swung_clip.float() / 255) == []


def test_cut_is_found_despite_a_logo_or_a_mirrored_picture(two_rooms):
    (first_clip, second_clip), (other_room_clip, _) = two_rooms
    joined_clip = torch.cat((first_clip[:4], second_clip[4:]))
    joined_clip[:, 4:20, 8:40] = other_room_clip[0, 30:46, 60:92]
    assert find_cuts(joined_clip) == [4]
    for mirrored_clip in (first_clip.flip(2), first_clip.flip(1, 2)):  # mirrored, upside down
        assert find_cuts(torch.cat((first_clip, mirrored_clip))) == [9]


def test_refused_cut_names_both_parts(two_rooms):
    (first_clip, second_clip), _ = two_rooms
    joined_clip = torch.cat((first_clip[:7], second_clip))
    open_clip(joined_clip, frame_count=5, **OUTPUT_SIZE).read()
    with refuses(r"frame 7 .*start at frame 3, 1 frame\) or .* at frame 7, 9"):
        open_clip(joined_clip, start_frame=3, frame_count=9, **OUTPUT_SIZE).read()
    with refuses(r"exo.mp4: got a cut at frame 37 \(1.85 s\)") as refusal:
        refuse_cuts(joined_clip, select_frames(range(30, 46), total=90), "exo.mp4")
    expected_text = (
        "start at frame 30, 5 frames) or the part after it (start at frame 37, 13 frames)"
    )
    assert expected_text in str(refusal.value)
    with refuses(r"start at frame 37, 9 frames"):
        refuse_cuts(
            joined_clip, select_frames(range(30, 46), total=47), "exo.mp4"
        )  # 10 frames are left
    expected_text = r"frame 34 .*start at frame 20, 5 .*start at frame 34, 9 frames"
    with refuses(expected_text):
        refuse_cuts(joined_clip, select_frames(range(20, 52, 2)), "exo.mp4")  # every second one
    twice_cut_clip = torch.cat((joined_clip[:11], first_clip))
    with refuses(r"frame 7 .* and 1 more.*at frame 7, 1 frame\)"):
        refuse_cuts(twice_cut_clip, select_frames(range(105, 125)), "exo.mp4", first=105)


@pytest.mark.parametrize(
    ("turn_deg", "zoom", "across", "down"),
    [(0.0, 1.3, 0.5, 0.5), (8.0, 1.6, 0.2, 0.9), (8.0, 2.0, 1, 0)],
)
def test_sudden_zoom_to_any_part_is_a_cut_both_ways(turn_deg, zoom, across, down):
    (wide_clip,) = draw_room(0, frames=7, exo_path="pan", exo_turn_deg=turn_deg)
    height, width = wide_clip.shape[1:3]
    part_height, part_width = (round(side / zoom) for side in (height, width))
    top_row, left_column = (
        round(down * (height - part_height)),
        round(across * (width - part_width)),
    )
    cropped_clip = wide_clip[
        :, top_row : top_row + part_height, left_column : left_column + part_width
    ]
    cropped_clip = cropped_clip.permute(0, 3, 1, 2).float()
    zoomed_clip = torch.nn.functional.interpolate(cropped_clip, (height, width), mode="bilinear")
    zoomed_clip = zoomed_clip.permute(0, 2, 3, 1).round().byte()
    assert find_cuts(torch.cat((wide_clip[:4], zoomed_clip[4:]))) == [4]
    assert find_cuts(torch.cat((zoomed_clip[:4], wide_clip[4:]))) == [4]
