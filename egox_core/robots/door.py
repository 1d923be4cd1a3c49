"""The names that robots hands out."""

from .episode import make_episode as make_episode
from .fit import camera_fit as camera_fit
from .robot_set import (
    RobotSet as RobotSet,
    SetOptions as SetOptions,
    open_set as open_set,
)
