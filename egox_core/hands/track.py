"""Store both hands over a clip: 21 joints each in metres, validity, and wrist rotations."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from ..arrays import as_tensor
from ..cameras import CameraModel, CameraPath, invert, transform
from ..errors import EgoXInputError
from ..frames import FileFrames, Frames, Numbering, entries_of
from ..frozen import frozen
from ..remarks import FactRow
from ..types import CameraTrajectory

SIDES = ("left", "right")
FINGERS = ("index", "middle", "ring", "little")
JOINT_NAMES: tuple[str, ...] = (
    "wrist",
    *(f"thumb_{joint}" for joint in ("cmc", "mcp", "ip", "tip")),
    *(f"{finger}_{joint}" for finger in FINGERS for joint in ("mcp", "pip", "dip", "tip")),
)
"""Joints of a hand: the wrist, then each finger from its root to its tip, thumb to little
finger."""
BONES = [(0 if end % 4 == 1 else end - 1, end) for end in range(1, len(JOINT_NAMES))]
"""Both joints of each bone; a finger's first one hangs on the wrist."""
REASONS = (
    "seen",
    "not given",
    "outside the picture",
    "outside the wearer's mask",
    "not where the scene's depth is",
    "bones of other lengths than in the rest of the clip",
    "faster than hands move",
    "mirrored: the hand of the other side",
)
"""Words for the numbers in :attr:`HandTrack.reason`; 0 is a hand that can be believed."""
NOT_GIVEN, ODD_SIZE, MIRRORED = 1, 5, 7
WRIST_M = 0.033
"""From what depth sees to the joint. Judged: a mean wrist has a radius of 2.6 cm (ANSUR II's
circumferences), rays meet it aslant, and cuffs and watches lie on it."""
MIN_LOOKS = 3  # at wrists, for a scale
SAME_RATIO, OTHER_SCALE = (
    0.02,
    0.05,
)  # of a depth's metres against the hands', from look to look; in all
SCALES = (0.8, 1.25)
"""Ratios of a depth's metres to the hands' up to which these may well be in metres."""
PALM = (0, 1, 5, 9, 13, 17)
"""Joints that don't move against each other, of which a wrist's turn is taken: wrist, thumb_cmc and
each finger's mcp."""
PALMS = torch.tensor(
    [
        [0.0, 0.0, 0.0],
        [0.030, 0.030, -0.010],
        [0.088, 0.030, 0.0],
        [0.088, 0.008, 0.002],
        [0.084, -0.014, 0.0],
        [0.076, -0.034, -0.004],
    ],
    dtype=torch.float64,
) * torch.tensor([[[1, -1, 1]], [[1, 1, 1]]])
"""The palm's joints [2, 6, 3] of hands of usual size, metres, in the wrist's frame: as the right
one has them, and the left one has y the other way. They give a wrist its axes: a size or shape that
is a little off turns them by a few degrees, in all frames alike."""


@frozen
class HandTrack:
    """Joints, validity and wrist rotations of the wearer's left (0) and right hand (1) over a clip.

    Raises:
        EgoXInputError: arrays of other shapes, a valid hand with an unknown joint.
    """

    # [T, 2, 21, 3] float64, metres, exo camera frame, in the order of JOINT_NAMES; NaN unknown
    joints: Tensor
    reason: Tensor  # [T, 2] int64, number of an entry of REASONS
    source: str = "hands"  # used in error messages and notes
    note: str = ""  # on how they were read, for people
    frames: Frames = Frames.of_count(0)  # noqa: RUF009  frozen; nobody said: counted
    facts: tuple[FactRow, ...] = ()  # what was settled of the joints, and by whom

    def __post_init__(self) -> None:
        count = len(self.joints)
        if len(self.frames) != count:
            object.__setattr__(self, "frames", Frames.of_count(count))
        as_tensor(self.joints, f"joints of {self.source}", None, len(SIDES), len(JOINT_NAMES), 3)
        as_tensor(self.reason, f"reason of {self.source}", count, len(SIDES))
        if bool((self.valid & ~complete_hands(self.joints)).any()):
            raise EgoXInputError(
                f"reason of {self.source}",
                got="a valid hand with an unknown joint",
                expected=f"reason 0 for whole hands alone, else 1 to {len(REASONS) - 1}",
                fix="mark hands with gaps as not given (1)",
            )

    @property
    def valid(self) -> Tensor:  # [T, 2] bool
        """Mask of the credible hands."""
        return self.reason == 0

    @classmethod
    def of_joints(cls, joints: Tensor, source: str = "hands") -> HandTrack:
        """Make a track of joints [T, 2, 21, 3], valid wherever a hand has all joints."""
        reason = torch.where(complete_hands(joints), 0, NOT_GIVEN)
        return cls(joints=joints.double(), reason=reason, source=source)

    @classmethod
    def unknown(cls, count: int, source: str = "no hands") -> HandTrack:
        """Make a track without any hand over ``count`` frames."""
        return cls.of_joints(torch.full((count, 2, len(JOINT_NAMES), 3), torch.nan), source)

    def __len__(self) -> int:
        return len(self.joints)

    def select(self, frames: Tensor) -> HandTrack:  # [N] int64
        """Select the hands of some frames."""
        return replace(
            self,
            joints=self.joints[frames],
            reason=self.reason[frames],
            frames=self.frames.select(frames),
        )

    def in_use(self, frames: Frames, file_frames: FileFrames = "auto") -> HandTrack:
        """Select the hands of a file for the frames in use.

        Raises:
            EgoXInputError: hands that may be of other frames.
        """
        label = f"hands {self.source}"
        numbering = Numbering(
            what=label, count=len(self), numbers=self.frames.numbers, file_frames=file_frames
        )
        entries = entries_of(frames, numbering)
        joints, reason = self.joints[entries.at], self.reason[entries.at]
        if frames.is_mirrored:  # what looks like a left hand there is the right one
            joints = joints.flip(1) * torch.tensor([-1.0, 1, 1], dtype=joints.dtype)
            reason = reason.flip(1)
        return replace(
            self,
            joints=joints,
            reason=reason,
            frames=frames.without_sizes,
            note="; ".join(filter(None, [self.note, str(entries.remark)])),
        )

    def text(self) -> str:
        """Describe how often each hand is seen, and why not in the other frames."""
        sentences = []
        for hand, side in enumerate(SIDES):
            reason_counts = self.reason[:, hand].bincount(minlength=len(REASONS)).tolist()
            doubts = [
                f"{count} {words}"
                for count, words in zip(reason_counts[1:], REASONS[1:], strict=True)
                if count
            ]
            sentences.append(
                ", ".join(
                    [f"{side} hand seen in {reason_counts[0]} of {len(self)} frames", *doubts]
                )
            )
        return "; ".join([*sentences, self.note] if self.note else sentences)

    def in_world(self, exo: CameraPath) -> tuple[Tensor, Tensor]:
        """Transform joints [T, 2, 21, 3] to the world, with world_from_wrist [T, 2, 3, 3]."""
        return self._transformed(invert(exo.w2c))

    def in_head(self, trajectory: CameraTrajectory) -> tuple[Tensor, Tensor]:
        """Transform joints [T, 2, 21, 3] to the head frame, with head_from_wrist [T, 2, 3, 3].

        The head's frame is the ego camera's, in the axes of the upright picture (x right, y down,
        z forward): ``trajectory.ego.camera.upright().project`` has the pixels. The exo camera's
        pose is the path's own.

        Raises:
            EgoXInputError: a path of another number of frames, or of an unknown world.
        """
        if len(trajectory) != len(self):
            raise EgoXInputError(
                self.source,
                got=f"{len(self)} frames",
                expected=f"{len(trajectory)}, as the ego path",
                fix="make both of the frames in use",
            )
        return self._transformed(trajectory.ego.upright.seen_from(trajectory.required_exo))

    def with_depth_check(
        self,
        depth_m: Tensor,  # [T, H, W] z depth of exo
        camera: CameraModel,
        # (width, height) px of the video; None: as the depth
        video_size: tuple[int, int] | None = None,
    ) -> HandTrack:
        """Warn if the hands' distance disagrees with the depth video at the wrists.

        What hides them, as a back does, is nearer, too, but it stays where it is while they
        move, and lets one be seen at times.

        Raises:
            EgoXInputError: x and y that aren't in metres, by the depth there.
        """
        wrists = self.joints[:, :, 0]
        _, pixels, in_picture = camera.look_up(wrists)
        wrist_z = wrists[..., 2]
        depth_ratio = (look_up_per_frame(depth_m, pixels) + WRIST_M) / wrist_z
        looked_mask = self.valid & in_picture & torch.isfinite(depth_ratio)
        if self.valid.sum() >= MIN_LOOKS:
            self._check_metres(wrists, depth_m, camera, video_size or camera.stored_size)
        factor = float(depth_ratio[looked_mask].median()) if looked_mask.sum() >= MIN_LOOKS else 1.0
        deviations = (depth_ratio[looked_mask] / factor - 1).abs()
        movements = (wrist_z[looked_mask] / wrist_z[looked_mask].median() - 1).abs()
        once_visible = ((depth_ratio[looked_mask] - 1).abs() < SAME_RATIO).any()
        is_hidden = factor < 1 and (once_visible or deviations.median() > movements.median() / 2)
        if (
            is_hidden
            or (deviations < SAME_RATIO).double().mean() <= 0.5
            or abs(factor - 1) < OTHER_SCALE
        ):
            return self
        sentence = (
            f"the depth has the wrists {factor:.2f} times as far; the hands are left as they are"
        )
        return replace(self, note="; ".join(filter(None, (self.note, sentence))))

    def _check_metres(
        self,
        wrists: Tensor,  # [T, 2, 3]
        depth_m: Tensor,  # [T, H, W]
        camera: CameraModel,
        video_size: tuple[int, int],  # (width, height) px
    ) -> None:
        """Refuse wrists whose x and y, in another sense than metres, are where depth has their z.

        Raises:
            EgoXInputError: most of them are, with a tenth of tolerance, and few are as metres.
        """
        x_y = wrists[..., :2].nan_to_num(-1.0)
        plane_px, _ = camera.project(torch.cat((x_y, torch.ones_like(x_y[..., :1])), -1))
        stored_size, shown_size = (torch.tensor(size) for size in (camera.stored_size, video_size))
        # The places in the picture, 0...1, that the numbers may mean, with what x is then.
        senses = {
            "shares of the picture, 0 to 1": (x_y, "(u W - cx) z / fx"),
            "shares of the picture, -1 to 1": ((x_y + 1) / 2, "((u + 1) W / 2 - cx) z / fx"),
            "x / z and y / z": ((plane_px + 0.5) / stored_size, "u z"),
            "pixels, beside z in mm": (1000 * x_y / shown_size, "(u - cx) z / fx"),
            "pixels, beside z in cm": (100 * x_y / shown_size, "(u - cx) z / fx"),
        }
        own_px, _ = camera.project(wrists)

        def ratios_at(places: Tensor) -> Tensor:  # of the valid hands there
            is_inside = ((places >= 0) & (places < 1)).all(-1)
            column, row = (places.nan_to_num(0.0).clamp(0, 1) * stored_size).long().unbind(-1)
            width, height = camera.stored_size
            pixels = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
            ratios = (look_up_per_frame(depth_m, pixels) + WRIST_M) / wrists[..., 2]
            return ratios[self.valid & is_inside & torch.isfinite(ratios)]

        def count_near(ratios: Tensor, factor: float = 1.0) -> int:
            return int(((ratios / factor - 1).abs() < OTHER_SCALE).sum())

        counts = {words: count_near(ratios_at(places)) for words, (places, _) in senses.items()}
        most = max(counts.values())
        own_ratios = ratios_at((own_px + 0.5) / stored_size)
        # As metres they may be at another scale of the depth.
        scale = float(own_ratios.median().clamp(*SCALES)) if len(own_ratios) else 1.0
        if most > max(0.5 * int(self.valid.sum()), 1.5 * count_near(own_ratios, scale)):
            likely = [words for words, count in counts.items() if count > 0.8 * most]
            formulas = (f"x = {senses[words][1]} if they are {words}" for words in likely)
            raise EgoXInputError(
                f"hands of {self.source}",
                got=f"x and y that by the depth are {', or '.join(likely)}",
                expected="all three numbers in one unit, in the camera's axes",
                fix=f"write {', or '.join(formulas)}; y likewise of v, H, cy, fy; by exo's lens",
            )

    def _transformed(
        self,
        target_from_exo: Tensor,  # [1 or T, 3, 4] float64
    ) -> tuple[Tensor, Tensor]:
        joints = transform(target_from_exo.unsqueeze(-3), self.joints)
        return joints, wrist_turns(joints)


def _restore(track: HandTrack, state: list) -> None:
    """Restore a pickled hand track, also one of an older version without frames or facts."""
    defaults = Frames.of_count(len(state[0])), ()
    values = (*state, *defaults[len(state) - 4 :])
    for attribute, value in zip(fields(HandTrack), values, strict=True):
        object.__setattr__(track, attribute.name, value)


setattr(HandTrack, "__setstate__", _restore)  # noqa: B010  after the dataclass has set its own


def look_up_per_frame(maps: Tensor, pixels: Tensor) -> Tensor:
    """Look up the values of maps [T, H, W] at pixel numbers [T, ...], frame by frame."""
    return torch.stack(
        [maps[t].flatten()[pixel_numbers].double() for t, pixel_numbers in enumerate(pixels)]
    )


def complete_hands(joints: Tensor) -> Tensor:  # [..., N, 3] -> [...] bool
    """Mark the hands of which all joints are known."""
    return torch.isfinite(joints).flatten(-2).all(-1)


def bone_lengths(joints: Tensor) -> Tensor:  # [..., 21, 3] -> [..., 20]
    """Measure the lengths of a hand's bones, in the order of :data:`BONES`."""
    start, end = joints[..., torch.tensor(BONES).T, :].unbind(-3)
    return (end - start).norm(dim=-1)


def wrist_turns(
    joints: Tensor,  # [..., 2, 21, 3] metres
) -> Tensor:  # [..., 2, 3, 3] float64, columns the wrist's axes; NaN where a joint of the palm is
    """Fit the rotations frame_from_wrist of both hands, by the palm's joints.

    x goes from the wrist to the fingers, z out of the back of the hand. So y points to the
    thumb of a right hand and to the little finger of a left one, and two hands laid side by
    side have one rotation.
    """
    usual_palms = PALMS - PALMS.mean(1, keepdim=True)
    palm = joints[..., PALM, :].double()
    palm = palm - palm.mean(-2, keepdim=True)
    known_mask = complete_hands(palm)[..., None, None]
    covariance = torch.where(known_mask, palm, usual_palms).mT @ usual_palms
    left_vectors, _, right_vectors = torch.linalg.svd(covariance)
    signs = torch.ones_like(left_vectors[..., 0])
    signs[..., 2] = torch.linalg.det(
        left_vectors @ right_vectors
    ).sign()  # a rotation, never a reflection
    return torch.where(known_mask, (left_vectors * signs[..., None, :]) @ right_vectors, torch.nan)
