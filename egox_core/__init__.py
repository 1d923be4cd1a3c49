"""EgoX: from a third-person video with depth to the input and the attention that make its
first-person video.

What a graph runs, in plain torch and numpy; knows no host. The rooms, each importing only rooms further down:

    page        pictures of payloads, the pose editor's clicks, uploads
    take        a take folder as what the pipeline works on
    stages      the seven stages, each one function
    metrics     figures that a node shows
    exchange    camera paths as files of other programs, and as our own
    prior       points to the ego picture; which exo camera shows most of it
    scene       points from frames and depth, static and moving
    takes       a recording's files
    depth       any depth to metric z depth: the affine fit, masks, trust
    wan         the model's canvas, names, encoders, schedule
    video       frames, sound and frame selection; other lenses
    trajectory  SE(3) poses and paths
    gga         geometry-guided attention; λ_g acts here
    types       the payloads between the rooms
    cameras     lenses and intrinsics: points to pixels and back
    archives, arrays, finite, safe_files, file_names, sizes, frame_store, progress, frozen, errors: the ground
    doors       what a room hands out, each name imported when asked for

The pipeline in six calls, here of a small take (a test runs this):

    >>> import torch
    >>> from egox_core.depth import align_depth
    >>> from egox_core.gga import GgaOptions, gga_attention, gga_geometry
    >>> from egox_core.prior import prior_preset, render_ego_prior
    >>> from egox_core.scene import build_scene
    >>> from egox_core.take import load_take

    >>> take = load_take(folder, frame_count=5)  # exo.mp4, depth.npz, meta.json
    >>> depth, report = align_depth(take.depth, None)  # a video depth in place of None is fitted to the metric one
    >>> scene = build_scene(take.read_exo(), depth)
    >>> prior = render_ego_prior(scene, take.trajectory, prior_preset("released"))
    >>> prior.rgb.shape, prior.coverage.dtype
    (torch.Size([5, 32, 32, 3]), torch.bool)

    >>> geometry = gga_geometry(depth, take.trajectory, frames=5, exo_size=take.frames.size, ego_size=(32, 32))
    >>> geometry.grid  # latent frames, rows, exo and ego columns of tokens
    (2, 2, 4, 2)
    >>> q = k = v = torch.randn(1, geometry.tokens, 2 * 8)  # of the model: two heads of eight numbers
    >>> gga_attention(q, k, v, 2, geometry, GgaOptions(lambda_g=3.0)).shape
    torch.Size([1, 24, 16])

Poses are w2c [R|t] with OpenCV's axes (x right, y down, z forward); lengths are metres, depth is z, invalid
depth NaN. Pixels are integer centres, sizes (width, height). A clip has 4n + 1 frames.
"""

from .errors import EgoXInputError
from .types import (
    CameraTrajectory,
    Canvas,
    DepthVideo,
    EgoPrior,
    FrameSelection,
    GgaGeometry,
    PointCloud,
    PointSet,
    TakeMeta,
)

__version__ = "1.0.0"
