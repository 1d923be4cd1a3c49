"""The report of an evaluation as JSON content: means with intervals, paired differences, a row a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import EgoXInputError
from .bootstrap import bootstrap_mean, paired_difference
from .clip_row import GENERATED, VERSION
from .columns import FVD_LABEL, FVD_NEEDS, METRICS

FORMAT = "egox-evaluation/1"
LIBRARIES = ("torch", "torchmetrics", "numpy")
Rows = Sequence[Mapping[str, Any]]


def build_report(rows: Rows, errors: Mapping[str, str], *, options: Mapping[str, Any], weights: Mapping[str, str],
                 other: Mapping[str, Any] | None, fvd: Mapping[str, float] | None = None, samples: int,
                 seed: int) -> dict[str, Any]:
    """All of it; the same rows give the same report. ``rows`` in the order of clips; ``other``: a report with a name;
    ``fvd``: of each method, where there are weights.

    Raises:
        EgoXInputError: ``other`` has no clip in common.
    """
    methods = list(rows[0]["metrics"]) if rows else []
    take_of = {row["clip"]: row["take"] for row in rows}
    columns = {m: {k.key: _column(rows, m, k.key) for k in METRICS} for m in methods}
    means = {m: _known({k: bootstrap_mean(*_values(column, take_of), samples=samples, seed=seed)
                        for k, column in columns[m].items()}) for m in methods}
    paired = {}
    for method in methods[1:]:
        paired[f"{GENERATED} - {method}"] = _known(
            {k: paired_difference(columns[GENERATED][k], columns[method][k], take_of, samples=samples, seed=seed)
             for k in columns[method]})
    report: dict[str, Any] = {
        "format": FORMAT, "metrics_version": VERSION, "clips": len(rows), "takes": len(set(take_of.values())),
        "failed": len(errors), "options": dict(options), "weights": dict(weights), "versions": _versions(),
        "coverage_from": sorted({row["coverage_from"] for row in rows}),
        "object_matching": _matching(means.get(GENERATED, {}), weights),
        "not_computed": _not_computed(means.get(GENERATED, {}), fvd), "fvd": dict(fvd or {}), "means": means,
        "paired": paired,
    }
    if other is not None:
        compared, clips = compare_rows(rows, other["rows"], samples=samples, seed=seed)
        report["compared_with"] = {"name": other["name"], "clips": clips, "differences": compared}
    return {**report, "errors": dict(errors),
            "rows": [{k: v for k, v in row.items() if k not in ("fingerprint", "thumbnails")} for row in rows]}


def compare_rows(rows: Rows, others: Rows, *, samples: int, seed: int) -> tuple[dict[str, Any], int]:
    """(differences of the generated videos, these - others, number of clips) over clips with the same true video.

    Raises:
        EgoXInputError: no such clip.
    """
    before = {row["clip"]: row for row in others}
    same = [row for row in rows if row["clip"] in before and before[row["clip"]]["truth"] == row["truth"]]
    if not same:
        raise EgoXInputError("report to compare with", got="no clip with the same true video", expected="at least one",
                             fix="compare runs over the same manifest")
    take_of = {row["clip"]: row["take"] for row in same}
    theirs = [before[row["clip"]] for row in same]
    differences = _known({k.key: paired_difference(_column(same, GENERATED, k.key), _column(theirs, GENERATED, k.key),
                                                   take_of, samples=samples, seed=seed) for k in METRICS})
    return differences, len(same)


def _column(rows: Rows, method: str, key: str) -> dict[str, float | None]:
    return {row["clip"]: row["metrics"].get(method, {}).get(key) for row in rows}


def _values(column: Mapping[str, float | None], take_of: Mapping[str, str]) -> tuple[list[float], list[str]]:
    known = [clip for clip, value in column.items() if value is not None]
    return [column[clip] for clip in known], [take_of[clip] for clip in known]


def _known(estimates: Mapping[str, Any]) -> dict[str, Any]:
    return {key: estimate.as_dict() for key, estimate in estimates.items() if estimate is not None}


def _matching(means: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    if "iou" not in means:
        return "no masks of the generated videos given"
    return f"by DINO features (weights {weights['dino']})" if "dino" in weights else "by id"


def _not_computed(means: Mapping[str, Any], fvd: Mapping[str, float] | None) -> dict[str, str]:
    missing = {m.label: f"needs {m.needs}" for m in METRICS if m.needs and m.key not in means}
    return missing if fvd else {**missing, FVD_LABEL: f"needs {FVD_NEEDS}"}


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
