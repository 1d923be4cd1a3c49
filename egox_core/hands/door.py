"""The names that hands hands out."""

from .files import read_hands as read_hands, write_hands as write_hands
from .track import JOINT_NAMES as JOINT_NAMES, HandTrack as HandTrack
