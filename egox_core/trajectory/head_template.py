"""Define a rigid adult head, its shoulders and the ego camera on it, each length with its source.

Head frame: origin between the pupils, x to the wearer's right, y down, z forward; metres. Forward
is level when the head is held upright (Frankfurt plane).

- ANSUR II: 2012 Anthropometric Survey of U.S. Army Personnel, NATICK/TR-15/007; means of men's and
  women's means. The men's (4,082) are as somebody else computed them from the public table,
  unconfirmed; the women's (1,986) follow from them and from the means of all. "all": means of all
  6,068 people, the sexes' own unconfirmed.
- ANSUR 1988: NATICK/TR-89/044; means of men's and women's means.
- Canonical face: ``canonical_face_model`` of MediaPipe, metric, Apache-2.0.
- Bodyspace: S. Pheasant, Bodyspace: the eye lies 20 mm behind the foremost point of head length.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..cameras import compose, invert, sensor_from_upright, transform
from ..errors import EgoXInputError

HEAD_POINTS = ("right_eye", "left_eye", "right_ear", "left_ear", "nose")
POINTS = (*HEAD_POINTS, "neck", "right_shoulder", "left_shoulder")
"""Names and order of the points that a head is estimated from; right and left are the wearer's."""
FACE_POINTS = ("right_eye", "left_eye", "nose")

INTERPUPILLARY = 0.0629  # ANSUR II, interpupillary breadth
BITRAGION = 0.139  # ANSUR 1988, bitragion breadth
# ANSUR II tragion to top of head, 128.9 mm, less ANSUR 1988 sitting height above eye height, 117.5
EAR_DOWN = 0.0114
# ANSUR 1988, infraorbitale less tragion to back of head; where the Oculus SDK has a neck turn
EAR_BACK = 0.0805
NOSE_DOWN, NOSE_FORWARD = (
    0.0375,
    0.040,
)  # canonical face, tip of the nose against the middle of both eyes
HEAD_LENGTH, HEAD_BREADTH = 0.1946, 0.1511  # ANSUR II
VERTEX_TO_CHIN = 0.225  # ANSUR 1988, menton to top of head

SHARE_SIZE, SHARE_PLACE = 0.045, 0.055
"""Standard deviations between people, of the head as a whole and of one length against it
(``benchmarks/results/constants.md``)."""

# between the joints: ANSUR II (all) biacromial breadth, 399 mm, less a thumb's breadth at each side
SHOULDERS = 0.355
NORMAL_GAZE_DEG = -15.0  # MIL-STD-1472: the normal line of sight is 15 degrees under the horizon

# Directions in which a point looks out of the head, and the cosine of the angle to the camera from
# which it is seen: the far eye hides behind the nose at some 60 degrees of profile, ears and nose
# stand out.
OUTWARD = np.array(
    [[0.35, 0, 0.94], [-0.35, 0, 0.94], [0.98, 0, -0.2], [-0.98, 0, -0.2], [0, 0.1, 0.99]]
)
SEEN_FROM = np.array([0.17, 0.17, -0.35, -0.35, -0.17])
SEEN_DOUBT, SEEN_WIDTH = (
    0.2,
    0.25,
)  # of the cosine: either may be within the first, and is sure the second beyond it
HEAD_CENTRE = np.array([0.0, 0.0, 0.02 - HEAD_LENGTH / 2])
HEAD_HALF = np.array([HEAD_BREADTH, VERTEX_TO_CHIN, HEAD_LENGTH]) / 2

LENGTHS = np.array([INTERPUPILLARY / 2, BITRAGION / 2, EAR_DOWN, EAR_BACK, NOSE_DOWN, NOSE_FORWARD])
SHAPE_SIGMA = np.array([SHARE_SIZE, *np.maximum(SHARE_PLACE * LENGTHS, 0.003)])
"""[7] of the parameters of :func:`template_points`: the logarithm of the size, and six lengths in
metres."""


MEAN_SHAPE = np.zeros(len(SHAPE_SIGMA))


def template_points(
    shape: np.ndarray = MEAN_SHAPE,  # [7] logarithm of the size, then additions to LENGTHS, metres
) -> np.ndarray:  # [5, 3] metres, head frame
    """Make the 3-D points of a head of this shape, in the order of HEAD_POINTS."""
    eye, ear, ear_down, ear_back, nose_down, nose_forward = LENGTHS + shape[1:]
    points = [
        [eye, 0, 0],
        [-eye, 0, 0],
        [ear, ear_down, -ear_back],
        [-ear, ear_down, -ear_back],
        [0, nose_down, nose_forward],
    ]
    return np.array(points) * np.exp(shape[0])


def normalised(vectors: np.ndarray) -> np.ndarray:  # [..., 3]
    """Normalise vectors to length 1, leaving zero vectors at zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def row_medians(values: np.ndarray) -> np.ndarray:  # [T, N]
    """Compute the median of the finite values in each row [T], NaN for a row without any."""
    result = np.full(len(values), np.nan)
    rows = np.isfinite(values).any(1)
    result[rows] = np.nanmedian(values[rows], axis=1)
    return result


def placed_points(
    rotation: np.ndarray,  # [T, 3, 3] world_from_head
    from_camera: np.ndarray,  # [T, 3] metres, between the eyes, world axes
    # See template_points.
    shape: np.ndarray = MEAN_SHAPE,
) -> np.ndarray:  # [T, 5, 3] metres
    """Compute the head's points relative to the exo camera, in world axes."""
    return np.einsum("tij,pj->tpi", rotation, template_points(shape)) + from_camera[:, None]


def turned_shares(
    rotation: np.ndarray,  # [..., 3, 3] world_from_head
    at: np.ndarray,  # [..., 5, 3] metres, of the points from the exo camera, world axes
) -> tuple[np.ndarray, np.ndarray]:  # [..., 5] each, 0...1
    """Compute how certainly each head point faces the camera or is turned away."""
    facing = (np.einsum("...ij,pj->...pi", rotation, OUTWARD) * normalised(-at)).sum(-1) - SEEN_FROM
    return np.clip((facing - SEEN_DOUBT) / SEEN_WIDTH, 0, 1), np.clip(
        (-facing - SEEN_DOUBT) / SEEN_WIDTH, 0, 1
    )


# Means of the two frame sizes in projectaria_tools' CAD extrinsics (DVT-S, DVT-L), camera-rgb in
# the central pupil frame; a test reads them there.
GLASSES = (-0.0571, -0.0072, 0.0125)
GLASSES_PITCH_DEG = -7.5


def ego_from_head(
    quarter_turns: int,
    # Metres to the right, down and forward.
    offset: Sequence[float] = (0.0, 0.0, 0.0),
    # Positive angles are upwards.
    pitch_deg: float = 0.0,
) -> Tensor:
    """Compute the transform from the head frame to the ego camera on Aria glasses.

    Raises:
        EgoXInputError: no numbers, more than half a metre or 90 degrees.
    """
    numbers = np.array([*offset, pitch_deg])
    if numbers.shape != (4,) or not (np.abs(numbers) <= [0.5, 0.5, 0.5, 90]).all():
        raise EgoXInputError(
            "mount of the ego camera",
            got=f"offset {offset}, pitch {pitch_deg}",
            expected="three numbers of at most 0.5 m, and at most 90 degrees",
            fix="give metres: right, down and forward, relative to a camera in glasses",
        )
    pitch = np.radians(GLASSES_PITCH_DEG + pitch_deg)
    pitch_rotation = torch.tensor(
        [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]],
        dtype=torch.float64,
    )
    rotation = sensor_from_upright(quarter_turns) @ pitch_rotation
    place = torch.from_numpy(np.array(GLASSES) + numbers[:3])
    return torch.cat((rotation, -rotation @ place[:, None]), dim=-1)


def worn_points(ego_w2c: Tensor) -> Tensor:  # [T, 3, 4] -> [T, 5, 3] metres, world
    """Compute the points (HEAD_POINTS) of a mean head that wears Aria glasses at these poses."""
    heads = compose(invert(ego_w2c.double()), ego_from_head(1))
    return transform(heads, torch.from_numpy(template_points()))
