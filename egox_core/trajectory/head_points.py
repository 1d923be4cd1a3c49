"""Choose one person among detected head points, follow that person over the clip, and check the
points."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arrays import as_tensor
from ..errors import EgoXInputError
from ..frozen import frozen
from .head_template import HEAD_POINTS, POINTS

MIN_SCORE = 0.1
"""Points with a lower score are guesses of the detector and count as not seen."""
LOST_SHARE = 0.25  # of the picture's height: a person does not move further from frame to frame


@frozen
class HeadPoints:
    """Head and shoulder points of one person over a clip, with score 0 where not found."""

    # [T, 8, 2] float64, stored pixels of the exo picture, in the order of head_template.POINTS
    uv: Tensor
    scores: Tensor  # [T, 8] float64, 0...1
    picture: tuple[int, int]  # (width, height) px that the pixels belong to
    # [T, 8, 3] float64, exo camera frame; the scale of the whole is not trusted; NaN in frames of
    # which only pixels are known
    metres: Tensor | None = None
    # [T, N, 3] of a body model, see head_solid.solid_heads; NaN where nobody is
    rigid: Tensor | None = None
    hands: Tensor | None = None  # [T, 2, 21, 3] as :class:`~egox_core.hands.HandTrack` has joints
    source: str = "keypoints"  # used in error messages and notes

    def __post_init__(self) -> None:
        count = len(self.uv)
        as_tensor(self.uv, f"uv of {self.source}", count, len(POINTS), 2)
        as_tensor(self.scores, f"scores of {self.source}", count, len(POINTS))
        if self.metres is not None:
            as_tensor(self.metres, f"metres of {self.source}", count, len(POINTS), 3)

    @property
    def seen(self) -> Tensor:  # [T, 8] bool
        """Mask of the points whose position is finite and whose score is high enough."""
        finite_mask = torch.isfinite(self.uv).all(-1) & torch.isfinite(self.scores)
        if self.metres is not None:
            has_metres = torch.isfinite(self.metres).all(-1) & (self.metres[..., 2] > 0)
            finite_mask &= has_metres | ~has_metres.any(1, keepdim=True)
        return finite_mask & (self.scores >= MIN_SCORE)

    def resized(self, picture: tuple[int, int]) -> HeadPoints:
        """Scale the points to the pixels of a resized picture (width, height)."""
        scale = torch.tensor(picture).double() / torch.tensor(self.picture)
        return replace(self, uv=(self.uv + 0.5) * scale - 0.5, picture=picture)


def check_points(points: HeadPoints, count: int, size: tuple[int, int]) -> HeadPoints:
    """Refuse head points of another clip length, and scale them to the picture's size.

    Raises:
        EgoXInputError: another number of frames, shares of the picture instead of pixels, a
            picture of another shape, no person in any frame.
    """
    if len(points.uv) != count:
        raise EgoXInputError(
            points.source,
            got=f"{len(points.uv)} frames",
            expected=f"{count}, the frames in use",
            fix="run the detector on the very frames of stages.load_clip",
        )
    seen_uv = points.uv[points.seen]
    if len(seen_uv) and bool(((seen_uv >= 0) & (seen_uv <= 1)).all()):
        raise EgoXInputError(
            points.source,
            got="points of 0 to 1, shares of the image's width and height",
            expected=f"pixels of a {size[0]}x{size[1]} px image",
            fix=f"multiply x by {size[0]} and y by {size[1]}, or let the detector write pixels",
        )
    width, height = points.picture
    if (width, height) != size:
        if abs(width * size[1] - height * size[0]) > 0.01 * width * size[1]:
            raise EgoXInputError(
                points.source,
                got=f"points of a {width}x{height} px image",
                expected=f"{size[0]}x{size[1]} px, the shape of the exo image",
                fix="run the detector on the cropped frames in use, not on the source video",
            )
        points = points.resized(size)
    seen_mask = points.seen
    if not bool(seen_mask[:, : len(HEAD_POINTS)].any()):
        raise EgoXInputError(
            points.source,
            got="no person in any frame",
            expected="eyes, ears or nose of the wearer in some frames",
            fix="lower the detector's threshold, look at "
            "its picture, or place the head in the pose editor",
        )
    relative_uv = points.uv / torch.tensor(size)
    outside = ((relative_uv < -0.5) | (relative_uv > 1.5)).any(-1) & seen_mask
    if float(outside.sum()) > 0.5 * float(seen_mask.sum()):
        raise EgoXInputError(
            points.source,
            got="most points far outside the image",
            expected=f"pixels of a {size[0]}x{size[1]} px image",
            fix="check which size the detector's points belong to",
        )
    return points


class Person(NamedTuple):
    """Points of one person in one frame."""

    uv: np.ndarray  # [8, 2] px
    scores: np.ndarray  # [8]
    metres: np.ndarray = np.full((len(POINTS), 3), np.nan)  # exo camera frame
    rigid: np.ndarray = np.empty((0, 3))  # see HeadPoints
    hands: np.ndarray = np.full((2, 21, 3), np.nan)  # exo camera frame

    @property
    def seen(self) -> np.ndarray:  # [8] bool
        return self.scores >= MIN_SCORE

    @property
    def place(self) -> np.ndarray:  # [2] px
        """Mean position of the person's points, weighted by their scores."""
        weights = np.where(self.seen, self.scores, 0)
        return (self.uv * weights[:, None]).sum(0) / max(weights.sum(), 1e-9)


@frozen
class People:
    """All persons that a detector found in a clip, numbered anew in every frame."""

    frames: tuple[tuple[Person, ...], ...]  # one per frame
    picture: tuple[int, int]  # (width, height) px that the pixels belong to
    source: str  # used in error messages and notes

    @property
    def most(self) -> int:
        """Largest number of persons in any one frame."""
        return max((len(frame) for frame in self.frames), default=0)


def choose_person(
    people: People,
    *,
    index: int | None = None,  # of the person in the first frame that shows so many
    mask: Tensor | None = None,  # [T, h, w] bool, whose; any size of the picture's shape
    like: HeadPoints | None = None,  # the same person's by another detector
) -> HeadPoints:
    """Choose the wearer among the persons that a detector found.

    It is the mask's, the one who is seen ``like`` that by another detector, or the one that has
    ``index``, followed from there by place. Where nobody is chosen and no frame shows two,
    whoever is there.

    Raises:
        EgoXInputError: several and none chosen, an index that nobody has, nobody in any frame; a
            mask, or points of the other detector, of another number of frames.
    """
    source = people.source
    count = len(people.frames)
    if people.most == 0:
        raise EgoXInputError(
            source,
            got="no person in any frame",
            expected="the wearer in some frames",
            fix="lower the detector's threshold, or place the head in the pose editor",
        )
    for name, entries in (
        ("mask of the wearer", mask),
        ("other keypoints", None if like is None else like.uv),
    ):
        if entries is not None and len(entries) != count:
            raise EgoXInputError(
                name,
                got=f"{len(entries)} frames",
                expected=f"{count}, as {source}",
                fix="make both from the frames in use",
            )
    if mask is not None:
        persons = _persons_in_mask(people, mask)
    elif like is not None:
        persons = _persons_like(people, like.resized(people.picture))
    elif index is not None:
        persons = _follow_person(people, index)
    elif people.most == 1:  # a cut may put the one anywhere
        persons = [frame[0] if frame else None for frame in people.frames]
    else:
        crowded_frames = sum(len(frame) > 1 for frame in people.frames)
        raise EgoXInputError(
            source,
            got=f"up to {people.most} people, several in {crowded_frames} of {count} frames",
            expected="one person, or a choice of the wearer",
            fix="choose a person by number (0 is the first), or give a mask of the wearer",
        )
    shared_points = min((len(person.rigid) for person in persons if person), default=0)
    no_person = Person(
        np.zeros((len(POINTS), 2)), np.zeros(len(POINTS)), rigid=np.full((shared_points, 3), np.nan)
    )
    persons_or_none = [
        each_person._replace(rigid=each_person.rigid[:shared_points]) if each_person else no_person
        for each_person in persons
    ]
    uv, scores, *optional = (
        torch.from_numpy(np.stack(column)) for column in zip(*persons_or_none, strict=True)
    )
    metres, rigid, hands = (
        column if bool(column.isfinite().any()) else None for column in optional
    )
    return HeadPoints(
        uv=uv,
        scores=scores,
        picture=people.picture,
        source=source,
        metres=metres,
        rigid=rigid,
        hands=hands,
    )


def _persons_like(people: People, other: HeadPoints) -> list[Person | None]:
    """Find the person in each frame who is nearest to another detector's points of the wearer."""
    seen_mask, uv = other.seen.numpy(), other.uv.numpy()
    frames_seen = np.nonzero(seen_mask.any(1))[0]
    if not len(frames_seen):
        return [None] * len(people.frames)
    centres = np.array([uv[t][seen_mask[t]].mean(0) for t in frames_seen])
    sizes = np.array([np.ptp(uv[t][seen_mask[t]], axis=0).max() for t in frames_seen])
    size = max(float(np.median(sizes)), 0.02 * people.picture[1])
    persons: list[Person | None] = []
    for t, frame in enumerate(people.frames):
        place = np.array([np.interp(t, frames_seen, centres[:, axis]) for axis in range(2)])

        def distance_to(person: Person, t: int = t, place: np.ndarray = place) -> float:
            shared_mask = seen_mask[t] & person.seen
            steps = (
                person.uv[shared_mask] - uv[t][shared_mask]
                if shared_mask.any()
                else (person.place - place)[None]
            )
            return float(np.linalg.norm(steps, axis=-1).mean())

        nearest_person = min(
            (candidate for candidate in frame if candidate.seen.any()),
            key=distance_to,
            default=None,
        )
        persons.append(
            nearest_person
            if nearest_person is not None and distance_to(nearest_person) < 0.5 * size
            else None
        )
    return persons


def _persons_in_mask(people: People, mask: Tensor) -> list[Person | None]:
    """Find the person in each frame who has most points inside the wearer's mask."""
    size = np.array(mask.shape[:0:-1])

    def share_inside(person: Person, t: int) -> float:  # share of the points that are seen
        pixels = ((person.uv + 0.5) * size / people.picture).astype(int)
        inside_mask = person.seen & (pixels >= 0).all(1) & (pixels < size).all(1)
        inside_mask[inside_mask] = mask[t].numpy()[pixels[inside_mask, 1], pixels[inside_mask, 0]]
        return inside_mask.sum() / max(person.seen.sum(), 1)

    persons: list[Person | None] = []
    for t, frame in enumerate(people.frames):
        share, best_number = max(
            ((share_inside(candidate, t), number) for number, candidate in enumerate(frame)),
            default=(0.0, 0),
        )
        persons.append(frame[best_number] if share > 0.3 else None)
    return persons


def _follow_person(people: People, index: int) -> list[Person | None]:
    """Follow a person through the clip by position, from the first frame that has a person
    ``index``."""
    frames = people.frames
    start = next((t for t, frame in enumerate(frames) if len(frame) > index), None)
    if start is None or index < 0:
        raise EgoXInputError(
            f"person of {people.source}",
            got=index,
            expected=f"0 to {people.most - 1}",
            fix="choose the number of a person that the detector found",
        )
    persons: list[Person | None] = [None] * len(frames)
    for frame_order in (range(start, len(frames)), range(start, -1, -1)):
        last_position = frames[start][index].place
        lost_count = 0
        for t in frame_order:
            candidates = (
                (np.linalg.norm(person.place - last_position), number, person)
                for number, person in enumerate(frames[t])
                if person.seen.any()
            )
            distance, _, nearest_person = min(candidates, default=(np.inf, 0, None))
            # Who was out of sight may come back further off.
            if nearest_person is None or distance > LOST_SHARE * people.picture[1] * (
                1 + lost_count / 10
            ):
                lost_count += 1
            else:
                persons[t] = nearest_person
                last_position = nearest_person.place
                lost_count = 0
    return persons
