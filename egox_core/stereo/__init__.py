"""Make a right eye for an ego video, and pack both eyes as stereo video for a headset.

In: an ego video, the :class:`~egox_core.types.PointCloud` and the
:class:`~egox_core.types.CameraTrajectory` that its prior was drawn from. Out: the right eye's video
(:mod:`.right_eye`), pictures of both side by side (:mod:`.pictures`) and an mp4 that says so of
itself (:mod:`.boxes`).
"""

from ..choices import Stabilise
from .boxes import mark_stereo
from .pictures import StereoForm, stereo_pictures
from .right_eye import second_eye
