"""Track a wearer's hands: 21 joints each, validity, wrist rotations, file format and drawing.

In: joints in metres in the exo camera's axes, from a body model or from ``hands.json``. Out:
:class:`HandTrack`, and from it the same in the world's or the head's axes.
"""

from .draw import draw_hands
from .files import hands_in_use, read_hands, write_hands
from .judge import judged_hands
from .track import JOINT_NAMES, NOT_GIVEN, SIDES, HandTrack
