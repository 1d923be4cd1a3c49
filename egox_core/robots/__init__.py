"""Write runs as episodes of a LeRobot v3 data set, from which robot policies are trained.

In: exo and ego video, head path, cameras and hands of one run. Out: its episodes
(:class:`.episode.Episode`), checks, and a folder that grows by one episode at a time. pyarrow is
needed, lerobot isn't.
"""

from ..choices import RobotCameras
from .episode import make_episodes
from .fit import camera_fit
from .hand_gaps import HandGaps
from .robot_set import RobotSet, SetOptions, open_set, require_pyarrow
