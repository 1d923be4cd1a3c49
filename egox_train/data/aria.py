"""The wearer's lens from Aria's own calibration (online_calibration.jsonl of Ego-Exo4D, or one such
JSON object).

Each line holds ``CameraCalibrations``, each with a ``Label`` and a ``Projection`` named
FisheyeRadTanThinPrism whose ``Params`` are f, cx, cy, k1...k6, p1, p2, s1...s4 in pixels of the
full sensor."""

from pathlib import Path

from egox_core.cameras import LENSES, CameraModel
from egox_core.errors import EgoXInputError
from egox_core.safe_files import parse_json, require_file

SENSOR_SIZES = {
    "camera-rgb": ((1408, 1408), (2880, 2880)),
    "camera-slam-left": ((640, 480),),
    "camera-slam-right": ((640, 480),),
}
"""(width, height) that each camera is calibrated at; the file doesn't tell, the principal point
does."""
MAX_LINE_BYTES = 4 * 2**20


def read_aria_calibration(
    path: Path, size: int | None = None, *, label: str = "camera-rgb", line: int = 0
) -> CameraModel:
    """One camera of the calibration, as its upright picture of ``size`` x ``size`` px (None: at
    full resolution).

    Args:
        line: which line (moment) of a .jsonl; the calibration drifts by less than a pixel at 448
            over a take.

    Raises:
        EgoXInputError: missing, no such line, no such camera, another lens model, a size that can't
            be known.
    """
    content = parse_json(_line(path, line), f"calibration {path.name}")
    cameras = content.get("CameraCalibrations") if isinstance(content, dict) else None
    cameras = [c for c in cameras if isinstance(c, dict)] if isinstance(cameras, list) else []
    entry = next((c for c in cameras if c.get("Label") == label), None)
    if entry is None or label not in SENSOR_SIZES:
        labels = [str(c.get("Label"))[:20] for c in cameras[:8]]
        raise EgoXInputError(
            f"calibration {path.name}",
            got=f"cameras {labels}",
            expected=label,
            fix="give Aria's online_calibration.jsonl",
        )
    projection = entry.get("Projection") if isinstance(entry.get("Projection"), dict) else {}
    numbers = projection.get("Params")
    if (
        projection.get("Name") != "FisheyeRadTanThinPrism"
        or not isinstance(numbers, list)
        or len(numbers) != 15
        or not all(isinstance(x, int | float) for x in numbers)
    ):
        raise EgoXInputError(
            f"calibration {path.name}",
            got=f"lens model {projection.get('Name')!r}",
            expected="FisheyeRadTanThinPrism with 15 numbers",
            fix="give Aria's own calibration",
        )
    focal, cx, cy, *distortion = (float(x) for x in numbers)
    # The principal point is near the middle of the picture that was calibrated.
    width, height = min(SENSOR_SIZES[label], key=lambda s: abs(cx - s[0] / 2) + abs(cy - s[1] / 2))
    if abs(cx - width / 2) > 0.1 * width or abs(cy - height / 2) > 0.1 * height:
        raise EgoXInputError(
            f"calibration {path.name}",
            got=f"a principal point of ({cx:g}, {cy:g})",
            expected=f"one near the middle of {SENSOR_SIZES[label]}",
            fix="give Aria's own calibration",
        )
    camera = CameraModel(
        lens="aria_fisheye",
        width=width,
        height=height,
        fx=focal,
        fy=focal,
        cx=cx,
        cy=cy,
        distortion=tuple(distortion),
        quarter_turns=LENSES["aria_fisheye"].sensor_turns,
    )
    if size is None:
        return camera
    return camera.rescale(size, round(size * camera.stored_size[1] / camera.stored_size[0]))


def _line(path: Path, number: int) -> str:
    require_file(path, "calibration")
    try:
        with path.open(encoding="utf-8") as stream:
            if path.suffix.lower() == ".json":
                return stream.read(MAX_LINE_BYTES)
            for _ in range(number):
                if not stream.readline(MAX_LINE_BYTES):
                    break
            text = stream.readline(MAX_LINE_BYTES)
    except UnicodeDecodeError as error:
        raise EgoXInputError(
            f"calibration {path.name}",
            got="no text",
            expected="JSON lines in UTF-8",
            fix="give Aria's online_calibration.jsonl",
        ) from error
    if not text.strip():
        raise EgoXInputError(
            f"calibration {path.name}",
            got=f"no line {number}",
            expected="one JSON object a line",
            fix="use line 0",
        )
    return text
