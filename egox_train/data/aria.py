"""Read the lens of Aria glasses from a calibration file of Ego-Exo4D.

Each line holds ``CameraCalibrations``, each with a ``Label`` and a ``Projection`` named
FisheyeRadTanThinPrism whose ``Params`` are f, cx, cy, k1...k6, p1, p2, s1...s4 in pixels of the
full sensor."""

from pathlib import Path

from egox_core.cameras import LENSES, CameraModel
from egox_core.errors import EgoXInputError, intact
from egox_core.safe_files import parse_json, require_file

CAMERA_LABEL = "camera-rgb"
RECORDED_SIDE_PX, SENSOR_SIDE_PX = SIDES = 1408, 2880
"""Px of the squares that the colour camera is calibrated at; the file doesn't tell which one, the
principal point does."""
CROP_PX = 32
"""Px that a recording of 1408 px leaves out at each edge of the sensor, before it is halved
(projectaria_tools, ``AriaCalibRescaleAndCrop.cpp``)."""
MAX_LINE_BYTES = 4 * 2**20


def read_aria_calibration(path: Path, side: int = RECORDED_SIDE_PX) -> CameraModel:
    """Read the lens of Aria's colour camera from the first line of a calibration file.

    That line is for the first moment of the take. Over a take the calibration drifts by less
    than a pixel at 448 px.

    Args:
        side: px of the video. 2880 is the whole sensor; any other is a recording of 1408 px or made
            from one, and the camera is that of 1408 px.

    Raises:
        EgoXInputError: missing, no such camera, another lens model, a size that can't be known.
    """
    require_file(path, "calibration")
    with (
        intact(f"calibration {path.name}", (UnicodeDecodeError,), expected="JSON lines in UTF-8"),
        path.open(encoding="utf-8") as stream,
    ):
        first_line = stream.readline(MAX_LINE_BYTES)
    line_content = parse_json(first_line, f"calibration {path.name}")
    cameras = line_content.get("CameraCalibrations") if isinstance(line_content, dict) else None
    cameras = [c for c in cameras if isinstance(c, dict)] if isinstance(cameras, list) else []
    camera_entry = next((c for c in cameras if c.get("Label") == CAMERA_LABEL), None)
    if camera_entry is None:
        labels = [str(c.get("Label"))[:20] for c in cameras[:8]]
        raise EgoXInputError(
            f"calibration {path.name}",
            got=f"cameras {labels}",
            expected=CAMERA_LABEL,
            fix="give Aria's online_calibration.jsonl",
        )
    projection = (
        camera_entry.get("Projection") if isinstance(camera_entry.get("Projection"), dict) else {}
    )
    lens_parameters = projection.get("Params")
    if (
        projection.get("Name") != "FisheyeRadTanThinPrism"
        or not isinstance(lens_parameters, list)
        or len(lens_parameters) != 15
        or not all(isinstance(x, int | float) for x in lens_parameters)
    ):
        raise EgoXInputError(
            f"calibration {path.name}",
            got=f"lens model {projection.get('Name')!r}",
            expected="FisheyeRadTanThinPrism with 15 numbers",
            fix="give Aria's own calibration",
        )
    focal_px, cx, cy, *distortion = (float(x) for x in lens_parameters)
    # The principal point is near the middle of the picture that was calibrated.
    calibrated_side = min(SIDES, key=lambda size: abs(cx - size / 2) + abs(cy - size / 2))
    if max(abs(cx - calibrated_side / 2), abs(cy - calibrated_side / 2)) > 0.1 * calibrated_side:
        raise EgoXInputError(
            f"calibration {path.name}",
            got=f"a principal point of ({cx:g}, {cy:g})",
            expected=f"one near the middle of a side of {SIDES} px",
            fix="give Aria's own calibration",
        )
    calibrated_camera = CameraModel(
        lens="aria_fisheye",
        width=calibrated_side,
        height=calibrated_side,
        fx=focal_px,
        fy=focal_px,
        cx=cx,
        cy=cy,
        distortion=tuple(distortion),
        quarter_turns=LENSES["aria_fisheye"].sensor_turns,
    )
    if (side == SENSOR_SIDE_PX) == (calibrated_side == SENSOR_SIDE_PX):
        return calibrated_camera
    inner_side = SENSOR_SIDE_PX - 2 * CROP_PX
    if side == SENSOR_SIDE_PX:
        return calibrated_camera.rescale(inner_side, inner_side).crop(
            -CROP_PX, -CROP_PX, SENSOR_SIDE_PX, SENSOR_SIDE_PX
        )
    return calibrated_camera.crop(CROP_PX, CROP_PX, inner_side, inner_side).rescale(
        RECORDED_SIDE_PX, RECORDED_SIDE_PX
    )
