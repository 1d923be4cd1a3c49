"""Report a depth alignment: α, β and residuals of each frame."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..frozen import frozen
from ..remarks import Remark


@frozen
class AlignReport:
    """Fit of each frame in a depth alignment.

    α scales inverse video depth, β is added in 1/m; residuals are in 1/m.
    """

    mode: str  # "least squares", "robust" or "metric depth as it is"
    alpha: Tensor  # [T] float64, as applied (the momentum state)
    beta: Tensor  # [T] float64, 1/m, as applied
    fit_alpha: Tensor  # [T] float64, this frame's own fit; NaN where the frame had none
    fit_beta: Tensor  # [T] float64, 1/m
    # [T] float64, RMS of 1/D^m - (α / D^v + β) over the used pixels, with the applied state
    residual: Tensor
    fit_residual: Tensor  # [T] float64, the same with the frame's own fit
    # [T] float64, mean 1/D^m of the used pixels, 1/m: what the residuals compare with
    mean_inverse: Tensor
    used_share: Tensor  # [T] float64, share of the frame's pixels that the fit used
    reported_frames: tuple[tuple[int, str], ...] = ()  # frames without a fit of their own, and why

    @property
    def lag(self) -> Tensor:  # [T] float64, 1/m
        """Smoothed minus fitted inverse depth of each frame, caused by the momentum.

        Taken at the frame's mean inverse depth. A drifting α shows as a growing lag. NaN if the
        frame had no fit.
        """
        video_inverse = (self.mean_inverse - self.fit_beta) / self.fit_alpha
        return (self.alpha - self.fit_alpha) * video_inverse + (self.beta - self.fit_beta)

    @property
    def relative_residual(self) -> Tensor:  # [T] float64
        """Residual of each frame relative to its mean inverse depth.

        It is about the relative depth error that is left.
        """
        return self.residual / self.mean_inverse

    def text(self, notes: Sequence[Remark] = ()) -> str:
        """Describe the alignment in a few lines, with its assumptions."""
        count = len(self.alpha)
        lines = [f"Depth: {count} frames, {self.mode}"]
        lines += map(str, notes)
        if torch.isfinite(self.residual).any():
            lines += [
                (
                    f"α {self.alpha[0]:.5g} to {self.alpha[-1]:.5g}, β {self.beta[0]:.5g} to "
                    f"{self.beta[-1]:.5g} 1/m"
                ),
                f"residual {100 * _finite_mean(self.relative_residual):.2f} % of the mean inverse "
                f"depth, used {100 * _finite_mean(self.used_share):.0f} % of the pixels",
            ]
            relative_lag = (self.lag / self.mean_inverse).abs()
            if torch.isfinite(relative_lag).any():
                worst_frame = int(torch.nan_to_num(relative_lag, nan=-1.0).argmax())
                lines.append(
                    f"momentum lag at most {100 * float(relative_lag[worst_frame]):.2f} % of "
                    f"inverse depth, at frame {worst_frame}"
                )
        for index, reason in self.reported_frames[:12]:
            lines.append(f"frame {index}: {reason}; took the momentum state")
        if len(self.reported_frames) > 12:
            lines.append(
                f"... and {len(self.reported_frames) - 12} more frames without a fit of their own"
            )
        return "\n".join(lines)


def _finite_mean(values: Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if finite.numel() else float("nan")
