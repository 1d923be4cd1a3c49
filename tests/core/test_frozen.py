"""Test that the digest of a payload includes all of its values."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.frames import Frames
from egox_core.frozen import content_digest, frozen
from egox_core.types import DepthVideo, TakeNotes
from tests.poses import make_path

LENS = CameraModel(
    lens="pinhole", width=8, height=6, fx=4.0, fy=5.0, cx=3.5, cy=2.5, max_angle_deg=70.0
)


def make_payloads() -> tuple[Any, ...]:
    frame_count = 3
    pose = torch.eye(3, 4).double()
    mask = torch.zeros(frame_count, 6, 8, dtype=torch.bool)
    exo = CameraPath(
        lens=LENS,
        w2c=pose,
        frames=replace(Frames.timed(torch.arange(frame_count).double()), total=9),
        world="take",
        part=((16, 12), (0, 0, 16, 12)),
    )
    depth = DepthVideo(
        depth_m=torch.ones(frame_count, 6, 8),
        exo=exo,
        dynamic=mask,
        sky=mask.clone(),
        trust=torch.ones(frame_count, 6, 8),
    )
    guessed_mask = torch.zeros(frame_count, dtype=torch.bool)
    path = make_path(pose.repeat(frame_count, 1, 1), LENS, 1.0, exo_w2c=pose, guessed=guessed_mask)
    notes = TakeNotes(prompt="a", meta_intrinsics=torch.eye(3).double(), source="b", placed="c")
    return depth, path, notes


def list_value_paths(value: Any, field_path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """List the field paths of all values in a nested payload."""
    if not is_dataclass(value):
        return [field_path]
    return [
        path
        for field in fields(value)
        if field.compare  # such as the end of the video, which the frames' own video decides
        for path in list_value_paths(getattr(value, field.name), (*field_path, field.name))
    ]


def change_value(value: Any, field_path: tuple[str, ...]) -> Any:
    """Copy a payload, and change the value at one field path."""
    if field_path:
        field_name, *inner_path = field_path
        return replace_unchecked(
            value, field_name, change_value(getattr(value, field_name), tuple(inner_path))
        )
    if isinstance(value, torch.Tensor):
        flat_value = value.clone().reshape(-1)
        flat_value[-1] = ~flat_value[-1] if value.dtype == torch.bool else flat_value[-1] + 1
        return flat_value.reshape(value.shape)
    if isinstance(value, bool):
        return not value
    other_values = {str: "another", int: 7, float: 7.5, tuple: (1.5,), type(None): 5}
    return other_values[type(value)]


def replace_unchecked(payload: Any, name: str, value: Any) -> Any:
    """Replace one field of a payload without running the checks of its class."""
    payload_copy = object.__new__(type(payload))
    for field in fields(payload):
        field_value = value if field.name == name else getattr(payload, field.name)
        object.__setattr__(payload_copy, field.name, field_value)
    return payload_copy


@pytest.mark.parametrize("number", range(3), ids=["depth", "path", "notes"])
def test_every_field_of_a_payload_is_in_its_digest(number):
    payload, equal_payload = (make_payloads()[number] for _ in range(2))
    digest = content_digest(payload)
    assert content_digest(equal_payload) == digest, "content, not identity"
    field_paths = list_value_paths(payload)
    other_digests = [
        content_digest(change_value(payload, field_path)) for field_path in field_paths
    ]
    assert len({digest, *other_digests}) == 1 + len(field_paths) > 4


def test_similar_values_have_different_digests():
    value_pairs = [
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
    for first_value, second_value in value_pairs:
        assert content_digest(first_value) != content_digest(second_value)
    transposed_tensor = torch.arange(6.0).reshape(2, 3).t()
    assert content_digest(transposed_tensor) == content_digest(transposed_tensor.contiguous())
    assert content_digest(torch.ones(3).bfloat16()) != content_digest(torch.ones(3).half())


def test_values_of_unknown_type_are_refused():
    @frozen
    class UnknownPayload:
        callback: Any

    with pytest.raises(TypeError, match="the content of a object isn't known"):
        content_digest(UnknownPayload(callback=object()))
