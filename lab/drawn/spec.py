"""Define the specification of a synthetic take."""

import math
from dataclasses import asdict
from typing import Literal, get_args

from egox_core.errors import EgoXInputError, check_choice
from egox_core.frozen import frozen
from egox_core.sizes import PIXEL_STEP, REFERENCE_EXO_SIZE, REFERENCE_SIZE

Texture = Literal["plain", "soft", "detailed", "papered"]
Clutter = Literal["calm", "normal"]
Wearer = Literal["usual", "drawn"]
ExoSide = Literal["front", "behind"]
ExoPath = Literal["shake", "pan", "dolly", "walk-around"]
Posture = Literal["usual", "lying", "bent", "climbing"]
ExoPlace = Literal["usual", "low", "overhead", "ceiling"]

CHOICES = {
    "texture": get_args(Texture),
    "clutter": get_args(Clutter),
    "wearer": get_args(Wearer),
    "exo_side": get_args(ExoSide),
    "exo_path": get_args(ExoPath),
    "posture": get_args(Posture),
    "exo_place": get_args(ExoPlace),
}

RANGES = {
    **dict.fromkeys(("exo_width", "exo_height", "ego_size"), (PIXEL_STEP, math.inf)),
    "frames": (1, math.inf),
    "fps": (0.001, math.inf),
    "motion": (0, math.inf),
    "edge_samples": (1, 4),
    "turning_deg": (0, 90),
    "object_scale": (0.5, 2.5),
    "exo_views": (1, 4),  # a camera has a quarter of the circle to itself
    "exo_motion": (0, 1),
    "exo_turn_deg": (0, 60),
    "exo_roll_deg": (0, 30),
}


@frozen
class SyntheticSpec:
    """Specification from which one synthetic take is drawn.

    The seed draws layout, palette, textures, light, motion and camera placement; every drawing has
    a random stream of its own, so that changing ``frames``, a size or one option leaves the others'
    draws as they are. The clip's length in seconds decides the motion: the same seed with more
    frames a second shows the same movement.

    Raises:
        EgoXInputError: a size under 16 px, no frame, an unknown choice, a negative amount.
    """

    seed: int = 0
    frames: int = 49
    exo_width: int = REFERENCE_EXO_SIZE[0]
    exo_height: int = REFERENCE_SIZE
    ego_size: int = REFERENCE_SIZE  # the ego picture is square
    fps: float = 20.0
    # detailed: 2...8 exo px, for geometric tests; soft: large patterns; plain: colours;
    # papered: detailed, with walls, floor and ceiling that keypoint detectors find their way by
    texture: Texture = "detailed"
    clutter: Clutter = "normal"
    # of the things on the table and in the hands: larger ones are readable at 64...128 px
    object_scale: float = 1.0
    motion: float = 1.0  # scales the path of head and hands; 0: a still person
    # how far the exo camera is carried, metres; 0: it stands, as in all released takes
    exo_motion: float = 0.0
    exo_turn_deg: float = 0.0  # and how far it turns: of a shake, a pan and a walk-around
    # shake: in an unsteady hand; pan: turned on the spot; dolly:
    # carried along a line, in a hand; walk-around: about what it looks at, in a hand
    exo_path: ExoPath = "shake"
    # sub-rays a side for pixels at an outline; inside surfaces textures are filtered exactly
    edge_samples: int = 2
    # else head, lengths and camera seat differ by person, about a mean of head.py
    wearer: Wearer = "usual"
    turning_deg: float = 0.0  # the head turns so far to both sides
    exo_side: ExoSide = "front"  # where the exo camera stands: behind, the wearer's back is seen
    posture: Posture = "usual"  # else without a table: on a bed, over a crate, on a climbing wall
    # low: near the floor, looks up; overhead: over the hands; ceiling: under it, looks down
    exo_place: ExoPlace = "usual"
    exo_roll_deg: float = 1.5  # standard deviation of the exo camera's tilt
    exo_sees_head: bool = True  # else something stands between the first exo camera and the head
    # exo cameras: further ones stand opposite the first, then to both sides, each in its quarter
    exo_views: int = 1

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            check_choice(
                f"synthetic take: {name}",
                getattr(self, name),
                choices,
                "use one of the named choices",
            )
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise EgoXInputError(
                    f"synthetic take: {name}",
                    got=value,
                    expected=f"{least} to {most}",
                    fix="correct the number",
                )

    @property
    def exo_moves(self) -> bool:
        """True if the exo camera moves."""
        return self.exo_motion > 0 or self.exo_turn_deg > 0

    def text(self) -> str:
        """Describe the specification as text, with the settings that differ from the defaults."""
        default_values = asdict(SyntheticSpec())
        return str({name: x for name, x in asdict(self).items() if x != default_values[name]})
