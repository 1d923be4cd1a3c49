"""Fill short gaps in tracked hands, and split a clip at long ones.

A policy reads every number of state and action, and no mask beside them. So a label is a hand that
moves as the person's did, or the clip ends there.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..choices import MIN_HAND_SHARE
from ..frozen import frozen

LONGEST_GAP_S = 0.5
"""Seconds over which a hand is taken to move evenly from its last valid pose to the next one. Over
a longer gap a straight line is a guess, which would be a label."""

WRIST_AT_REST = (0.15, 0.35, 0.3)
"""The right wrist's place in the head's frame, metres (x right, y down, z forward): hands at the
sides of a lap, below what the head looks at."""
TIPS_AT_REST = (
    (0.10, 0.07, -0.02),
    (0.17, 0.035, 0.0),
    (0.18, 0.01, 0.0),
    (0.165, -0.015, 0.0),
    (0.14, -0.04, 0.0),
)
"""The right hand's finger tips in its wrist's frame, metres, thumb to little finger, of a flat
hand."""


@frozen
class HandGaps:
    """Pieces of a clip in which the hands are known, without the long gaps."""

    MIN_SHARE: ClassVar[float] = MIN_HAND_SHARE
    """Share of a clip's frames below which a hand counts as never seen: cutting its gaps out would
    leave less than half of the clip."""

    labelled: Tensor  # [2] bool, hands whose poses are labels, others are at rest all along
    pieces: tuple[Tensor, ...]  # frame numbers [N] int64 of each piece, without the longer gaps

    @classmethod
    def of(
        cls,
        valid: Tensor,  # [T, 2] bool
        fps: int,
        min_hand_share: float = MIN_SHARE,
    ) -> HandGaps:
        """Split a clip at gaps that are too long to be bridged in any labelled hand.

        Where two hands leave no piece, because one is seen only while the other isn't, the one that
        is seen less is not labelled.
        """
        shares = valid.double().mean(0)
        labelled_hands = (shares >= min_hand_share) & valid.any(0)
        longest_gap = max(int(LONGEST_GAP_S * fps), 1)
        pieces = _split_at_gaps(valid[:, labelled_hands], longest_gap)
        if not pieces:
            labelled_hands = labelled_hands & (shares == shares.max())
            labelled_hands[1] &= ~labelled_hands[0]
            pieces = _split_at_gaps(valid[:, labelled_hands], longest_gap)
        return cls(labelled=labelled_hands, pieces=tuple(pieces))

    def text(self, frame_count: int) -> str:
        """Describe which frames and hands are left out, or return "" if none are."""
        frames_left_out = frame_count - sum(map(len, self.pieces))
        sentences = []
        if frames_left_out:
            sentences.append(
                f"{frames_left_out} of {frame_count} frames are left out: a hand is unknown there "
                f"for over {LONGEST_GAP_S:g} s; {len(self.pieces)} episodes"
            )
        for side, is_labelled in zip(("left", "right"), self.labelled.tolist(), strict=True):
            if not is_labelled:
                sentences.append(
                    f"the {side} hand is seen too seldom: it is at rest, and not valid"
                )
        return ". ".join(sentences)


def bridge_gaps(
    world_from_wrist: Tensor,  # [T, 2, 3, 4] of valid hands, anything elsewhere
    tips: Tensor,  # [T, 2, 5, 3] metres, in the wrist's frame
    valid: Tensor,  # [T, 2] bool
    times_s: Tensor,  # [T] float64, rising
) -> tuple[Tensor, Tensor]:
    """Move each hand on a straight line, with slerp, between the last and the next valid pose.

    Before the first valid pose that one holds, and after the last one that. A hand that is never
    valid keeps its numbers. The world's frame is the one in which a hand that waits stands still:
    the head turns meanwhile.
    """
    from scipy.spatial.transform import Rotation

    frames = torch.arange(len(valid))[:, None].expand_as(valid)
    first_valid = valid.int().argmax(0)
    last_valid = len(valid) - 1 - valid.flip(0).int().argmax(0)
    before = torch.where(valid, frames, first_valid).cummax(0).values
    after = torch.where(valid, frames, last_valid).flip(0).cummin(0).values.flip(0)
    duration_s = times_s[after] - times_s[before]
    share = ((times_s[:, None] - times_s[before]) / duration_s).nan_to_num(0.0).clamp(0.0, 1.0)
    gap_mask = valid.any(0) & ~valid
    hand = torch.arange(valid.shape[1]).expand_as(valid)[gap_mask]
    before, after, share = before[gap_mask], after[gap_mask], share[gap_mask, None, None]
    first_pose, next_pose = world_from_wrist[before, hand], world_from_wrist[after, hand]
    turn = Rotation.from_matrix((first_pose[..., :3].mT @ next_pose[..., :3]).numpy()).as_rotvec()
    part_of_turn = Rotation.from_rotvec(share[:, 0].numpy() * turn).as_matrix()
    place = first_pose[..., 3:].lerp(next_pose[..., 3:], share)
    bridged_pose = torch.cat((first_pose[..., :3] @ torch.from_numpy(part_of_turn), place), -1)
    world_from_wrist, tips = world_from_wrist.clone(), tips.clone()
    world_from_wrist[gap_mask] = bridged_pose
    tips[gap_mask] = tips[before, hand].lerp(tips[after, hand], share)
    return world_from_wrist, tips


def hands_at_rest() -> Tensor:  # [2, 24] float64
    """Compute the state of two hands at rest, left first: flat, palms down, fingers forward."""
    wrist, tips = (
        torch.tensor(values, dtype=torch.float64) for values in (WRIST_AT_REST, TIPS_AT_REST)
    )
    # Columns: the wrist's x ahead, y to the left, z up, in the head's frame.
    wrist_rotation = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]], dtype=torch.float64)
    mirror_x = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    hand_states = []
    for mirror in (mirror_x, torch.ones(3, dtype=torch.float64)):
        tips_in_head = (wrist + tips @ wrist_rotation.T) * mirror
        hand_states.append(
            torch.cat((wrist * mirror, wrist_rotation[:, :2].T.flatten(), tips_in_head.flatten()))
        )
    return torch.stack(hand_states)


def _split_at_gaps(valid: Tensor, longest_gap: int) -> list[Tensor]:
    """List the frame numbers of each run between gaps longer than ``longest_gap`` frames."""
    is_kept = torch.ones(len(valid), dtype=torch.bool)
    for hand_valid in valid.unbind(1):
        for gap in _true_runs(~hand_valid):
            if len(gap) > longest_gap:
                is_kept[gap] = False
    # A run as short as a bridged gap shows no movement.
    runs = _true_runs(is_kept)
    return [run for run in runs if len(run) > longest_gap] or (runs if len(runs) == 1 else [])


def _true_runs(mask: Tensor) -> list[Tensor]:
    """List the indices of each run of True values."""
    numbers = mask.nonzero().flatten()
    starts = (numbers.diff() > 1).nonzero().flatten() + 1
    runs = torch.tensor_split(numbers, starts)
    return [run for run in runs if len(run)]
