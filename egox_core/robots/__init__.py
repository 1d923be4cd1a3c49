"""Runs as episodes of a LeRobot v3 data set, which policies of robots learn from.

In: exo and ego video, head path, cameras and hands of one run. Out: :class:`.episode.Episode`, its
checks, and a folder that grows by one episode at a time. pyarrow is needed, lerobot isn't.
"""

from .episode import make_episode
from .fit import camera_fit
from .robot_set import RobotSet, SetOptions, open_set
