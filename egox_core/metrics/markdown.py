"""The report as Markdown tables, the first in the column order of the paper's Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .clip_row import GENERATED
from .columns import FVD_LABEL, FVD_MEANING, METRICS, Metric, metric, of_family

PAPER = ("psnr", "ssim", "lpips", "clip_i", "location_error", "iou", "contour_accuracy", FVD_LABEL,
         "temporal_flickering", "motion_smoothness", "dynamic_degree")
ROW_COLUMNS = ("psnr", "ssim", "psnr_inside", "psnr_outside", "coverage", "location_error", "iou", "missing_masks",
               "temporal_flickering", "retrieval_rank")


def markdown_report(report: Mapping[str, Any]) -> str:
    """Everything of the report that a person reads; '–' stands where a value couldn't be had."""
    lines = ["# Evaluation", "", f"{report['clips']} clips of {report['takes']} takes, {report['failed']} failed. "
             "Means with 95 % bootstrap intervals over takes.", ""]
    if report["clips"]:
        means = report["means"]
        lines += ["## In the paper's columns", "", *_paper_table(means, report["fvd"]), ""]
        for title, families in (("Inside and outside the prior's coverage", ("prior",)), ("Over time", ("time",)),
                                ("Retrieval", ("retrieval",))):
            lines += [f"## {title}", "", *_means_table(means, of_family(*families)), ""]
        objects = [m for m in of_family("object") if m.key not in PAPER and m.key in means[GENERATED]]
        if objects:
            lines += ["## Objects", "", f"Matching: {report['object_matching']}.", "",
                      *_means_table(means, objects), ""]
        if report["paired"]:
            lines += ["## Paired differences", "", *_means_table(report["paired"], _differing(report["paired"])), ""]
        if "compared_with" in report:
            other = report["compared_with"]
            lines += [f"## Against {other['name']}", "", f"{other['clips']} clips in common, this run minus that one.",
                      "", *_means_table({"difference": other["differences"]}, METRICS, by_row=True), ""]
        lines += ["## Clips", "", *_row_table(report["rows"]), ""]
    if report["errors"]:
        lines += ["## Not evaluated", "", *(f"- `{clip}`: {why}" for clip, why in report["errors"].items()), ""]
    lines += ["## Not computed", "", *(f"- {name}: {why}" for name, why in report["not_computed"].items()), "",
              "## What the columns mean", "", *(f"- {m.label}: {m.meaning}" for m in METRICS if m.meaning),
              f"- {FVD_LABEL}: {FVD_MEANING}", "",
              f"Coverage taken from: {', '.join(report['coverage_from']) or '–'}. Versions: "
              + ", ".join(f"{k} {v}" for k, v in report["versions"].items()) + ".", ""]
    return "\n".join(lines)


def _paper_table(means: Mapping[str, Any], fvd: Mapping[str, float]) -> list[str]:
    headings = [f"{FVD_LABEL} ↓" if name == FVD_LABEL else metric(name).heading for name in PAPER]
    distances = {method: f"{value:.1f}" for method, value in fvd.items()}
    body = [[method, *(distances.get(method, "–") if name == FVD_LABEL else _interval(values.get(name), metric(name))
                       for name in PAPER)] for method, values in means.items()]
    return _table(["", *headings], body)


def _means_table(means: Mapping[str, Any], columns: Sequence[Metric], by_row: bool = False) -> list[str]:
    if by_row:
        (name, values), = means.items()
        return _table(["", name], [[m.heading, _interval(values[m.key], m)] for m in columns if m.key in values])
    return _table(["", *(m.heading for m in columns)],
                  [[method, *(_interval(values.get(m.key), m) for m in columns)] for method, values in means.items()])


def _differing(paired: Mapping[str, Any]) -> list[Metric]:
    wanted = ("psnr", "ssim", "lpips", "clip_i", "psnr_inside", "psnr_outside", "temporal_flickering", "retrieval_hit")
    return [metric(k) for k in wanted if any(k in values for values in paired.values())]


def _row_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = [metric(k) for k in ROW_COLUMNS if any(r["metrics"][GENERATED].get(k) is not None for r in rows)]
    return _table(["clip", "take", *(m.heading for m in columns)],
                  [[row["clip"], row["take"], *(_number(row["metrics"][GENERATED].get(m.key), m) for m in columns)]
                   for row in rows])


def _table(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (headings, ["---"] * len(headings), *body)]


def _interval(estimate: Mapping[str, float] | None, column: Metric) -> str:
    if estimate is None:
        return "–"
    mean, low, high = (_number(estimate[k], column) for k in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _number(value: float | None, column: Metric) -> str:
    return "–" if value is None else f"{value:.{column.digits}f}"
