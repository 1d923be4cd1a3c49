"""Check that a run's cameras fit its pictures."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..frozen import frozen
from ..metrics import PathViews, path_lag, search_exo
from ..prior import check_placement
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind, StageReport
from ..types import CameraTrajectory, PointCloud

MISFITS = (RemarkKind.STRANGE_DEPTH, RemarkKind.HEAD_VIDEO)
NOT_TESTABLE = -1
WRONG = 0
RIGHT = 1
WORDS = {
    NOT_TESTABLE: "Whether the cameras fit is not testable",
    WRONG: "The cameras don't fit the pictures",
    RIGHT: "The cameras fit the pictures",
}
MAX_DEG, MAX_M, MIN_SCORE = 2.5, 0.08, 0.65
"""Turn and shift of a true ego video against the scene, medians over the clip, from which on a
camera is wrong, and the least correlation to say so (``benchmarks/results/constants.md``)."""


@frozen
class CameraFit(StageReport):
    """Result of the camera check, with a key of :data:`WORDS` as its verdict."""

    # [T] float32, turn off the rendered path; NOT_TESTABLE where it wasn't measured
    path_deg: Tensor
    fits: int = NOT_TESTABLE

    def text(self) -> str:
        """Describe the result in one line."""
        return ". ".join((WORDS[self.fits], *map(str, self.notes)))

    @classmethod
    def untested(cls, count: int) -> CameraFit:
        """Make the result for a run that can't be checked because it has no scene."""
        return cls(path_deg=torch.full((count,), float(NOT_TESTABLE)))


def camera_fit(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    ego: Tensor,  # [T, h, w, 3] float 0...1, stored (upright) orientation
    generated: bool,
    progress: Progress = no_progress,
    # Of the exact geometry where it is known, for the clip's turn.
    exact_views: PathViews | None = None,
) -> CameraFit:
    """Check whether an ego video shows the view that its camera path says.

    A true video that is turned against the scene tells of a wrong camera, exo's or the head's: both
    are searched. A generated one follows whatever prior it was given, so that only its head's place
    is testable.

    Raises:
        EgoXInputError: another count of frames than the scene's, or other moments.
    """
    trajectory.check_moments(scene.frames, "scene")
    place_notes = check_placement(scene, trajectory, draw_anyway=True, progress=progress)
    is_impossible = any(note.kind == RemarkKind.IMPOSSIBLE_PLACE for note in place_notes)
    views = PathViews.of(scene, trajectory, progress=progress)
    errors = [views.error(ego, with_clip=False)]
    if not generated and float(errors[0].score.median()) < MIN_SCORE:
        errors.append(search_exo(scene, trajectory, ego, progress).error)
    path_error = max(errors, key=lambda error: float(error.score.median()))
    score = float(path_error.score.median())
    if path_error is errors[0]:
        path_error = replace(path_error, clip=(exact_views or views).clip_turn(ego))
    path_deg = CameraFit.untested(len(ego)).path_deg
    ordered_deg = path_error.ordered_deg(trajectory)
    path_deg[:: path_error.step] = ordered_deg.nan_to_num(NOT_TESTABLE)
    # It doesn't decide: depth of a few other takes fits by chance, too.
    misfit_notes = [note for note in scene.notes if note.kind in MISFITS]
    camera_remarks = trajectory.other_exo(*scene.exos)
    verdict = NOT_TESTABLE
    notes = [*place_notes, *misfit_notes, *camera_remarks, Remark(path_error.text())]
    if trajectory.corrected_deg is not None:
        notes.append(
            Remark(f"Camera path corrected by {math.hypot(*trajectory.corrected_deg):.0f}°")
        )
    if not generated and path_error.median_deg is not None and score >= MIN_SCORE:
        shift_m = float(path_error.shift_m.nanmedian(0).values.norm())
        verdict = RIGHT if path_error.median_deg <= MAX_DEG and shift_m <= MAX_M else WRONG
        lag = path_lag(path_error, trajectory.ego)
        if lag is not None:
            notes.append(Remark(lag.text()))
        if lag is None or shift_m > MAX_M:
            notes.append(Remark(f"Its camera is {100 * shift_m:.0f} cm off"))
    elif is_impossible:
        verdict = WRONG
    return CameraFit(path_deg=path_deg, fits=verdict, notes=tuple(notes))
