"""Plot α, β and the residual of a depth alignment over the clip, with OpenCV."""

import cv2
import numpy as np
import torch
from torch import Tensor

from ..depth import AlignReport
from ..frame_store import sample_frames

WIDTH, PANEL, LEFT, RIGHT, GAP, TITLE = 960, 190, 110, 24, 46, 54
BACKGROUND, GRID, INK = (250, 250, 250), (222, 222, 222), (40, 40, 40)
APPLIED, FIT, MARK = (31, 90, 190), (200, 120, 40), (200, 40, 40)  # RGB
FONT = cv2.FONT_HERSHEY_SIMPLEX


def plot_report(report: AlignReport) -> Tensor:  # [1, H, W, 3] float32 0...1
    """Plot alpha, beta (1/m) and relative residual of a depth alignment over the frames.

    Applied values are bold, the frame's own fit is thin.

    Frames without a fit of their own are marked on the axis. Labels are plain ASCII, the font's
    reach.
    """
    panels = _panels(report)
    height = TITLE + len(panels) * (PANEL + GAP)
    canvas = np.full((height, WIDTH, 3), BACKGROUND, np.uint8)
    title = f"Depth: {len(report.alpha)} frames, {report.mode}"
    if report.reported_frames:
        title += f", {len(report.reported_frames)} without a fit of their own (red)"
    _draw_text(canvas, title, (LEFT, 26), 0.55)
    _draw_text(canvas, "applied", (WIDTH - 230, 46), 0.45, APPLIED)
    _draw_text(canvas, "fit of the frame", (WIDTH - 150, 46), 0.45, FIT)
    for index, (name, applied_values, fit_values) in enumerate(panels):
        _draw_panel(
            canvas,
            TITLE + index * (PANEL + GAP),
            name,
            applied_values.numpy(),
            fit_values.numpy(),
            [frame for frame, _ in report.reported_frames],
        )
    return torch.from_numpy(canvas).float()[None] / 255


def _panels(report: AlignReport) -> tuple[tuple[str, Tensor, Tensor], ...]:
    return (
        ("alpha", report.alpha, report.fit_alpha),
        ("beta [1/m]", report.beta, report.fit_beta),
        (
            "residual [% of 1/D]",
            100 * report.relative_residual,
            100 * report.fit_residual / report.mean_inverse,
        ),
    )


def _draw_panel(
    canvas: np.ndarray,
    top: int,
    name: str,
    applied: np.ndarray,
    fit: np.ndarray,
    marked_frames: list[int],
) -> None:
    count = len(applied)
    right = WIDTH - RIGHT
    bottom = top + PANEL
    all_values = np.concatenate([applied, fit])
    finite_values = all_values[np.isfinite(all_values)]
    lowest, highest = (
        (float(finite_values.min()), float(finite_values.max()))
        if finite_values.size
        else (0.0, 1.0)
    )
    # A constant must look like one: never zoom in further than a thousandth of the value.
    least_range = max(1e-3 * max(abs(lowest), abs(highest)), 1e-6)
    if highest - lowest < least_range:
        lowest, highest = (
            0.5 * (lowest + highest) - least_range / 2,
            0.5 * (lowest + highest) + least_range / 2,
        )
    margin = 0.08 * (highest - lowest)
    lowest = lowest - margin
    highest = highest + margin

    def to_pixel(frame: float, value: float) -> tuple[int, int]:
        return (
            round(LEFT + (right - LEFT) * frame / max(count - 1, 1)),
            round(bottom - PANEL * (value - lowest) / (highest - lowest)),
        )

    for value in np.linspace(lowest, highest, 5):
        y = to_pixel(0, value)[1]
        cv2.line(canvas, (LEFT, y), (right, y), GRID, 1)
        _draw_text(canvas, f"{value:.5g}", (8, y + 4), 0.4)
    for frame in sample_frames(count, 7):
        x = to_pixel(frame, lowest)[0]
        cv2.line(canvas, (x, top), (x, bottom), GRID, 1)
        _draw_text(canvas, str(frame), (x - 8, bottom + 16), 0.4)
    cv2.rectangle(canvas, (LEFT, top), (right, bottom), INK, 1)
    _draw_text(canvas, name, (LEFT, top - 6), 0.45)
    _draw_curve(canvas, fit, to_pixel, FIT, 1)
    _draw_curve(canvas, applied, to_pixel, APPLIED, 2)
    for frame in marked_frames:
        cv2.circle(canvas, to_pixel(frame, lowest), 4, MARK, -1, cv2.LINE_AA)


def _draw_curve(
    canvas: np.ndarray, values: np.ndarray, to_pixel, colour: tuple[int, int, int], thickness: int
) -> None:
    """Draw a polyline that is interrupted at NaN, with a dot for an isolated point."""
    polyline: list[tuple[int, int]] = []
    for frame in range(len(values) + 1):
        if frame < len(values) and np.isfinite(values[frame]):
            polyline.append(to_pixel(frame, float(values[frame])))
            continue
        if len(polyline) == 1:
            cv2.circle(canvas, polyline[0], thickness + 1, colour, -1, cv2.LINE_AA)
        elif polyline:
            cv2.polylines(
                canvas, [np.array(polyline, np.int32)], False, colour, thickness, cv2.LINE_AA
            )
        polyline = []


def _draw_text(
    canvas: np.ndarray,
    text: str,
    position: tuple[int, int],
    size: float,
    colour: tuple[int, int, int] = INK,
) -> None:
    cv2.putText(canvas, text, position, FONT, size, colour, 1, cv2.LINE_AA)
