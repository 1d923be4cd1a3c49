"""Read Ego-Exo4D's table of exo camera lenses, gopro_calibs.csv.

One row per camera and calibrated stretch: ``cam_uid``, pose, ``image_width``, ``image_height``,
``intrinsics_type`` (KANNALABRANDTK3, which is OpenCV's fisheye), ``intrinsics_0``...``7`` (fx,
fy, cx, cy, k1...k4), ``start_frame_idx`` and ``end_frame_idx`` (-1: the camera stood still all
the time) and ``quality`` (1: good)."""

import csv
from pathlib import Path

from egox_core.cameras import MAX_ANGLE_DEG, CameraModel
from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.safe_files import require_file

COLUMNS = (
    "cam_uid",
    "image_width",
    "image_height",
    "intrinsics_type",
    *(f"intrinsics_{i}" for i in range(8)),
)
LENS_TYPE = "KANNALABRANDTK3"
GOOD = 1.0
MAX_BYTES = 2**20


@frozen
class GoProCalibration:
    """Lens of one exo camera, and the frames of its video for which it is valid."""

    camera: CameraModel
    valid_frames: tuple[int, int] | None  # first and last; None: all


def read_gopro_calibs(path: Path, notes: list[str]) -> dict[str, GoProCalibration]:
    """Read the exo cameras' lenses from Ego-Exo4D's table, by camera name.

    Other rows are dropped, and ``notes`` lists them.

    Of several good rows of a camera the one for the whole video counts, else the one for the
    longest stretch.

    Raises:
        EgoXInputError: no such file, not a table of these columns.
    """
    require_file(path, "exo calibration", MAX_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream, skipinitialspace=True)
            missing_columns = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            table_rows = [] if missing_columns else list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise EgoXInputError(
            f"exo calibration {path.name}",
            got=f"no table ({error})",
            expected="CSV in UTF-8",
            fix="download the take's trajectory folder again",
        ) from error
    if missing_columns:
        raise EgoXInputError(
            f"exo calibration {path.name}",
            got=f"no column {missing_columns[0]}",
            expected=list(COLUMNS),
            fix="download the take's trajectory folder again",
        )
    calibrations: dict[str, GoProCalibration] = {}
    for row in table_rows:
        name = (row["cam_uid"] or "").strip()
        try:
            calibration = _parse_calibration(row)
        except ValueError as error:  # of float and int, of ours
            notes.append(f"{name}: its row of {path.name} is dropped: {error}")
            continue
        if name not in calibrations or _length(calibration) > _length(calibrations[name]):
            calibrations[name] = calibration
    return calibrations


def _parse_calibration(row: dict[str, str]) -> GoProCalibration:
    quality_text = (row.get("quality") or "").strip()
    if quality_text and float(quality_text) != GOOD:
        raise ValueError(f"quality {quality_text}")
    lens_type = (row["intrinsics_type"] or "").strip()
    if lens_type != LENS_TYPE:
        raise ValueError(f"lens {lens_type}, not {LENS_TYPE}")
    fx, fy, cx, cy, *distortion = (float(row[f"intrinsics_{i}"] or "nan") for i in range(8))
    width, height = (int(row[key] or 0) for key in ("image_width", "image_height"))
    camera = CameraModel(
        lens="opencv_fisheye",
        width=width,
        height=height,
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        distortion=tuple(distortion),
        max_angle_deg=MAX_ANGLE_DEG,
    )
    first_frame, last_frame = (
        int(row.get(key) or -1) for key in ("start_frame_idx", "end_frame_idx")
    )
    if first_frame < 0 and last_frame < 0:
        return GoProCalibration(camera=camera, valid_frames=None)
    if not 0 <= first_frame <= last_frame:
        raise ValueError(f"frames {first_frame} to {last_frame}")
    return GoProCalibration(camera=camera, valid_frames=(first_frame, last_frame))


def _length(calibration: GoProCalibration) -> float:
    frames = calibration.valid_frames
    return float("inf") if frames is None else frames[1] - frames[0] + 1
