"""Cuts in drawn videos are found and named, takes without one pass."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from egox_core import stages
from egox_core.types import FrameSelection
from egox_core.video.clip import open_clip
from egox_core.video.cuts import _alike, _pattern, find_cuts, refuse_cuts
from lab.drawn import SyntheticSpec, make_take
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

SMALL = SyntheticSpec(frames=9, exo_width=176, exo_height=100, ego_size=16, edge_samples=1)
"""A drawn picture's outlines are hard without sub-rays, as compression leaves them in a film."""
SIZE = {"width": 176, "height": 96}
OPTIONS = (
    {},
    {"exo_motion": 0.05},
    {"motion": 3.0},
    {"clutter": "calm", "texture": "plain"},
    {"exo_side": "behind", "motion": 2.0},
)


def rooms(seeds: range, **options) -> list[tuple[Tensor, Tensor]]:
    """Draw of each seed the clips of two cameras in one room, [T, H, W, 3] uint8."""
    takes = (make_take(replace(SMALL, seed=seed, exo_views=2, **options)) for seed in seeds)
    return [tuple(view.exo_rgb for view in take.views) for take in takes]


def flicker(frames: Tensor) -> Tensor:
    """Imitate a bad lamp, with every third frame at 60 % of the light."""
    gain = torch.ones(len(frames), 1, 1, 1)
    gain[::3] = 0.6
    return (frames * gain).to(torch.uint8)


def wandering(frames: Tensor) -> Tensor:
    """Imitate a lamp that is 30 % brighter, then 30 % darker, in less than a second."""
    gain = 1 + 0.3 * torch.linspace(0, 2 * torch.pi, len(frames)).sin()
    return (frames * gain[:, None, None, None]).clamp(max=255).to(torch.uint8)


def passer_by(frames: Tensor, body: Tensor) -> Tensor:
    """Let somebody walk past half a metre before the lens: 55 % of the picture, 12 % of it a frame."""
    frames, width = frames.clone(), frames.shape[2]
    wide = round(0.55 * width)
    for t in range(len(frames)):
        left = round((0.12 * t - 0.5) * width)
        begin, end = max(0, left), min(width, left + wide)
        if begin < end:
            frames[t, :, begin:end] = body[:, begin - left : end - left]
    return frames


def selection(indices: range, fps: float = 20.0, whole: int | None = None) -> FrameSelection:
    return frames_in_use(indices, (176, 100), fps=fps, total=whole)


@pytest.fixture(scope="module")
def two_rooms() -> list[tuple[Tensor, Tensor]]:
    return rooms(range(2))


def test_cuts_are_found_and_takes_pass(two_rooms):
    (here, there), (elsewhere, _) = two_rooms
    for place, second in ((4, there), (1, elsewhere), (8, there)):
        joined = torch.cat((here[:place], second[place:]))
        assert find_cuts(joined) == find_cuts(joined.float() / 255) == [place]
    assert find_cuts(torch.cat((here, there, elsewhere))) == [9, 18]
    for take in (here, there, flicker(elsewhere), passer_by(here, elsewhere[0])):
        assert find_cuts(take) == []


def test_no_cut_in_a_flash_a_damaged_frame_or_a_fast_pan(two_rooms):
    (here, there), (elsewhere, _) = two_rooms
    flash = here.clone()
    flash[4] = 255
    damaged = here.clone()
    damaged[4] = there[4]
    dark = torch.zeros_like(here)
    wide = torch.cat((here[0], elsewhere[0], there[0]), 1)
    pan = torch.stack([wide[:, 40 * t : 40 * t + 176] for t in range(9)])
    for frames in (flash, damaged, dark, pan, here[:1]):
        assert find_cuts(frames) == []


@pytest.mark.parametrize("texture", ["plain", "soft", "detailed"])
def test_a_camera_that_is_swung_once_is_no_cut(texture):
    """Both sides of the swing are steady, like those of a cut. A logo that stays doesn't make it
    one."""
    (first, *_) = rooms(range(3, 4), texture=texture, exo_path="pan", exo_turn_deg=12.0)[0]
    assert not _alike(_pattern(first[0]), _pattern(first[8]))
    swung = torch.cat((first[:1].repeat(4, 1, 1, 1), first[8:].repeat(4, 1, 1, 1)))
    assert find_cuts(swung) == find_cuts(swung.float() / 255) == []


def test_neither_a_logo_nor_a_turned_picture_hides_a_cut(two_rooms):
    (here, there), (elsewhere, _) = two_rooms
    joined = torch.cat((here[:4], there[4:]))
    joined[:, 4:20, 8:40] = elsewhere[0, 30:46, 60:92]
    assert find_cuts(joined) == [4]
    for other in (here.flip(2), here.flip(1, 2)):  # mirrored, upside down
        assert find_cuts(torch.cat((here, other))) == [9]


def test_the_refusal_offers_both_parts(two_rooms):
    (here, there), _ = two_rooms
    joined = torch.cat((here[:7], there))
    open_clip(joined, frame_count=5, **SIZE).read()
    with refuses(r"frame 7 .*start at frame 3, 1 frame\) or .* at frame 7, 9"):
        open_clip(joined, start_frame=3, frame_count=9, **SIZE).read()
    with refuses(r"exo.mp4: got a cut at frame 37 \(1.85 s\)") as error:
        refuse_cuts(joined, selection(range(30, 46), whole=90), "exo.mp4")
    parts = "start at frame 30, 5 frames) or the part after it (start at frame 37, 13 frames)"
    assert parts in str(error.value)
    with refuses(r"start at frame 37, 9 frames"):
        refuse_cuts(joined, selection(range(30, 46), whole=47), "exo.mp4")  # 10 frames are left
    parts = r"frame 34 .*start at frame 20, 5 .*start at frame 34, 9 frames"
    with refuses(parts):
        refuse_cuts(joined, selection(range(20, 52, 2)), "exo.mp4")  # every second one
    twice = torch.cat((joined[:11], here))
    with refuses(r"frame 7 .* and 1 more.*at frame 7, 1 frame\)"):
        refuse_cuts(twice, selection(range(105, 125)), "exo.mp4", first=105)


@pytest.mark.slow
def test_twenty_of_twenty_and_none_of_forty():
    pairs = rooms(range(20, 30), texture="soft")
    joins = [torch.cat((a[:5], b[5:])) for a, b in pairs]
    joins += [torch.cat((pairs[i][0][:5], pairs[i - 1][0][5:])) for i in range(10)]
    assert [find_cuts(join) for join in joins] == [[5]] * 20
    uncut = [view for pair in pairs for view in pair]
    specs = [replace(SMALL, seed=i, fps=10, **OPTIONS[i % len(OPTIONS)]) for i in range(12)]
    takes = [make_take(spec).exo_rgb for spec in specs]
    uncut += [take if i % 3 else wandering(take) for i, take in enumerate(takes)]
    uncut += [flicker(uncut[i]) for i in range(4)]
    uncut += [passer_by(uncut[i], uncut[i + 2][0]) for i in range(4, 8)]
    assert [find_cuts(take) for take in uncut] == [[]] * 40


@pytest.mark.parametrize("zoom", [1.3, 1.6, 2.0])
def test_a_punch_in_is_a_cut(two_rooms, zoom):
    here = two_rooms[0][0][:8]
    height, width = here.shape[1:3]
    top, left = (round(side * (1 - 1 / zoom) / 2) for side in (height, width))
    part = here[:, top : height - top, left : width - left].permute(0, 3, 1, 2).float()
    closer = torch.nn.functional.interpolate(part, (height, width), mode="bilinear")
    joined = torch.cat((here, closer.permute(0, 2, 3, 1).round().byte()))
    assert find_cuts(joined) == [8]


def test_what_is_said_to_be_one_shot_is_read(two_rooms):
    joined = torch.cat((two_rooms[0][0][:5], two_rooms[1][0][:4]))
    with refuses("one_shot"):
        stages.load_clip(joined, frame_count=9, size=(176, 96))
    clip, _ = stages.load_clip(joined, frame_count=9, one_shot=True, size=(176, 96))
    assert len(clip.exo) == 9
