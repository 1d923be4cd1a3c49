"""The core of the pose editor: quick pictures, clicks into the scene, and paths as keyframes and files.

In: a :class:`~egox_core.types.PointCloud`, a camera, poses or a keyframe document, as the page sends them. Out: a small
prior of one pose, points under exo pixels, keyframe documents, files as bytes. Knows no host and no page.
"""

from .coarse_prior import coarse_points, coarse_prior
from .paths import export_path, import_path
from .queries import pick_head, pick_point, scene_up
