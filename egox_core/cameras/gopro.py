"""Reconstruct the raw lens of Ego-Exo4D's exo cameras from the annotated K.

That K is not the lens of the raw video: it is what OpenCV's fisheye undistortion gives as the new
camera matrix, with balance 0.8, for the raw lens and the four distortion numbers beside it,
which are the raw lens' own. The new focal length grows with the raw one, so the raw one is
found by bisection."""

import numpy as np
from torch import Tensor

from ..errors import EgoXInputError
from .model import CameraModel

GOPRO_SIZE = (3840, 2160)
"""(width, height) px of the picture that annotations and calibrations of the dataset belong to."""
GOPRO_DISTORTION = (0.036902, 0.057131, -0.057154, 0.018458)
"""Numbers of OpenCV's fisheye; one set for all GoPros of the dataset (annotations of three takes, a
calibration table)."""
BALANCE = 0.8  # of the dataset's own undistortion
FOCAL_SPAN = (0.3, 2.0)  # raw focal lengths that are tried, in widths of the picture
GOPRO_WIDE = (0.42, 0.50)
"""Raw focal lengths of the dataset's GoPros in widths of the picture: 0.455 to 0.465 were seen."""
FOCAL_STEP_PX = 1e-6
CENTRE_TOLERANCE_PX = 1.0
MAX_ANGLE_DEG = 95.0


def undistorted_focal(
    focal: float,
    size: tuple[int, int] = GOPRO_SIZE,
    distortion: tuple[float, ...] = GOPRO_DISTORTION,
) -> float:
    """Compute the focal length (px) that the dataset's undistortion gives for a raw lens of focal
    length ``focal``."""
    import cv2  # here, since kernels are measured where it is missing

    width, height = size
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    new_k = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
        k, np.array(distortion), size, np.eye(3), balance=BALANCE
    )
    return float(new_k[0, 0])


def raw_focal(
    annotation_focal: float,
    size: tuple[int, int] = GOPRO_SIZE,
    distortion: tuple[float, ...] = GOPRO_DISTORTION,
) -> float:
    """Find the focal length (px) of the raw lens whose undistorted picture has
    ``annotation_focal``.

    Raises:
        EgoXInputError: no raw lens gives it.
    """
    low_focal, high_focal = (width_share * size[0] for width_share in FOCAL_SPAN)
    if (
        not undistorted_focal(low_focal, size, distortion)
        < annotation_focal
        < undistorted_focal(high_focal, size, distortion)
    ):
        raise EgoXInputError(
            "raw exo lens",
            got=f"a focal length of {annotation_focal:g} px at {size[0]} px width",
            expected="that of an undistorted GoPro image (about 1240 px at a width of 3840)",
            fix="take the exo lens as given",
        )
    while high_focal - low_focal > FOCAL_STEP_PX:
        middle_focal = (low_focal + high_focal) / 2
        is_below = undistorted_focal(middle_focal, size, distortion) < annotation_focal
        low_focal, high_focal = (
            (middle_focal, high_focal) if is_below else (low_focal, middle_focal)
        )
    return (low_focal + high_focal) / 2


def raw_gopro(
    annotation_k: Tensor,  # [3, 3] px of the full-size picture that it is centred in
    distortion: tuple[float, ...] = (),  # none: the dataset's own
) -> CameraModel:
    """Make the raw lens of an exo camera from its annotated K.

    Raises:
        EgoXInputError: no raw lens gives this K, not four distortion numbers.
    """
    distortion = tuple(distortion) or GOPRO_DISTORTION
    if len(distortion) != len(GOPRO_DISTORTION):
        raise EgoXInputError(
            "raw exo lens",
            got=f"{len(distortion)} distortion numbers",
            expected=f"the {len(GOPRO_DISTORTION)} of OpenCV's fisheye",
            fix="correct the annotation",
        )
    size = round(2 * float(annotation_k[0][2])), round(2 * float(annotation_k[1][2]))
    focal = raw_focal(float(annotation_k[0][0]), size, distortion)
    return CameraModel(
        lens="opencv_fisheye",
        width=size[0],
        height=size[1],
        fx=focal,
        fy=focal,
        cx=size[0] / 2,
        cy=size[1] / 2,
        distortion=distortion,
        max_angle_deg=MAX_ANGLE_DEG,
    )


def raw_gopro_of(
    annotation_k: Tensor,  # [3, 3]
) -> CameraModel | None:
    """Look up the raw lens of an Ego-Exo4D camera by its annotated K, or return None.

    Such a K is centred in 3840 x 2160 and belongs to a GoPro's wide lens.
    """
    width, height = GOPRO_SIZE
    off_centre = max(
        abs(float(annotation_k[0][2]) - width / 2), abs(float(annotation_k[1][2]) - height / 2)
    )
    if off_centre > CENTRE_TOLERANCE_PX:
        return None
    try:
        camera = raw_gopro(annotation_k)
    except EgoXInputError:
        return None
    return camera if GOPRO_WIDE[0] * width < camera.fx < GOPRO_WIDE[1] * width else None
