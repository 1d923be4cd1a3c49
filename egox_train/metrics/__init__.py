"""Evaluate generated ego videos: compute metrics and build a report.

In: generated and true ego video [T, H, W, 3] (float 0...1), the prior's coverage, object masks; or
a manifest and a folder of videos. Out: values by the keys of :data:`METRICS`; report.json,
report.md and a contact sheet.

Metrics without weights need the ``evaluate`` extra (torchmetrics), those with weights take a path
to them. The evaluation of a whole set (``metrics.evaluate.evaluate``) reads manifests and so needs
the ``train`` extra too."""

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

if TYPE_CHECKING:
    from .columns import METRICS, Metric
    from .frame_metrics import frame_metrics

__getattr__ = lazy_names(
    __name__,
    {
        "columns": (
            "METRICS",
            "Metric",
        ),
        "frame_metrics": ("frame_metrics",),
    },
)
