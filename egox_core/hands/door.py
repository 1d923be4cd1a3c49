"""The names that hands hands out."""

from .draw import draw_hands as draw_hands
from .files import read_hands as read_hands, write_hands as write_hands
from .judge import judged_hands as judged_hands
from .track import JOINT_NAMES as JOINT_NAMES, SIDES as SIDES, HandTrack as HandTrack
