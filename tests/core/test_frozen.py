"""The digest of payloads: whatever a payload holds, now or later, is part of it."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.frames import Frames
from egox_core.frozen import content_digest, frozen
from egox_core.types import CameraTrajectory, DepthVideo, TakeNotes
from tests.poses import path_of

LENS = CameraModel(
    lens="pinhole", width=8, height=6, fx=4.0, fy=5.0, cx=3.5, cy=2.5, max_angle_deg=70.0
)


def payloads() -> tuple[Any, ...]:
    frames, pose = 3, torch.eye(3, 4).double()
    mask = torch.zeros(frames, 6, 8, dtype=torch.bool)
    exo = CameraPath(
        lens=LENS,
        w2c=pose,
        frames=replace(Frames.timed(torch.arange(frames).double()), total=9),
        world="take",
        part=((16, 12), (0, 0, 16, 12)),
    )
    depth = DepthVideo(
        depth_m=torch.ones(frames, 6, 8),
        exo=exo,
        dynamic=mask,
        sky=mask.clone(),
        trust=torch.ones(frames, 6, 8),
    )
    guessed = torch.zeros(frames, dtype=torch.bool)
    path = path_of(pose.repeat(frames, 1, 1), LENS, 1.0, exo_w2c=pose, guessed=guessed)
    notes = TakeNotes(prompt="a", meta_intrinsics=torch.eye(3).double(), source="b", placed="c")
    return depth, path, notes


def leaves(value: Any, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """List the places of all values below a payload."""
    if not is_dataclass(value):
        return [place]
    return [
        leaf
        for each in fields(value)
        for leaf in leaves(getattr(value, each.name), (*place, each.name))
    ]


def changed(value: Any, place: tuple[str, ...]) -> Any:
    """Copy the payload with another value at one place."""
    if place:
        name, *rest = place
        return altered(value, name, changed(getattr(value, name), tuple(rest)))
    if isinstance(value, torch.Tensor):
        flat = value.clone().reshape(-1)
        flat[-1] = ~flat[-1] if value.dtype == torch.bool else flat[-1] + 1
        return flat.reshape(value.shape)
    if isinstance(value, bool):
        return not value
    others = {str: "another", int: 7, float: 7.5, tuple: (1.5,), type(None): 5}
    return others[type(value)]


def altered(payload: Any, name: str, value: Any) -> Any:
    """Replace a field as :func:`replace`, past the checks of what such a payload may hold."""
    copy = object.__new__(type(payload))
    for each in fields(payload):
        field_value = value if each.name == name else getattr(payload, each.name)
        object.__setattr__(copy, each.name, field_value)
    return copy


@pytest.mark.parametrize("number", range(3), ids=["depth", "path", "notes"])
def test_every_field_of_a_payload_is_in_its_digest(number):
    payload, again = (payloads()[number] for _ in range(2))
    digest = content_digest(payload)
    assert content_digest(again) == digest, "content, not identity"
    places = leaves(payload)
    others = [content_digest(changed(payload, place)) for place in places]
    assert len({digest, *others}) == 1 + len(places) > 4


def test_a_field_that_a_later_version_adds_is_in_it_too():
    @dataclass(frozen=True, kw_only=True)
    class Depth(DepthVideo):
        shutter_s: float | None = None

    @dataclass(frozen=True, kw_only=True)
    class Path(CameraTrajectory):
        notes: TakeNotes

    depth, path, notes = payloads()
    of_later = [
        Depth(**{each.name: getattr(depth, each.name) for each in fields(depth)}, shutter_s=s)
        for s in (None, 0.01, 0.02)
    ]
    old_fields = {each.name: getattr(path, each.name) for each in fields(path)}
    with_notes = [
        Path(**old_fields, notes=each)
        for each in (notes, replace(notes, meta_intrinsics=torch.eye(3)))
    ]
    assert len({content_digest(each) for each in (depth, path, *of_later, *with_notes)}) == 7


def test_what_is_near_is_not_the_same():
    pairs = [
        (("ab", "c"), ("a", "bc")),
        ([1, 2], [12]),
        ((1,), (True,)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2), np.zeros(2, np.float32)),
        (torch.tensor(1.0), torch.tensor([1.0])),
        ({"a": 1}, {"a": 2}),
        (None, "None"),
        ([[], [1]], [[1], []]),
    ]
    for one, other in pairs:
        assert content_digest(one) != content_digest(other)
    transposed = torch.arange(6.0).reshape(2, 3).t()
    assert content_digest(transposed) == content_digest(transposed.contiguous())
    assert content_digest(torch.ones(3).bfloat16()) != content_digest(torch.ones(3).half())


def test_what_is_made_of_the_rest_is_left_out_and_the_unknown_is_refused():
    @frozen
    class Odd:
        callback: Any

    with pytest.raises(TypeError, match="the content of a object isn't known"):
        content_digest(Odd(callback=object()))
