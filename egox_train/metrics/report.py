"""The report of an evaluation, as JSON content and as Markdown tables: means with intervals, paired
differences, a row a clip. Which metric stands in which table says :mod:`.columns`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from egox_core.errors import EgoXInputError

from ..data.manifest import ClipRecord
from .bootstrap import bootstrap_mean, paired_difference
from .clip_row import GENERATED, VERSION
from .columns import METRICS, PER_CLIP, Metric, of_family, of_table

FORMAT = "egox-evaluation/2"
LIBRARIES = ("torch", "torchmetrics", "numpy")
Rows = Sequence[Mapping[str, Any]]


def build_report(
    rows: Rows,
    errors: Mapping[str, str],
    *,
    options: Mapping[str, Any],
    weights: Mapping[str, str],
    protocol: Mapping[str, Any],
    other: Mapping[str, Any] | None,
    sets: Mapping[str, Mapping[str, float]] | None = None,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """All of it; the same rows give the same report. ``rows`` in the order of clips; ``other``: a
    report with a name; ``sets``: by column of whole sets and method, where there are weights.

    Raises:
        EgoXInputError: ``other`` was made by another protocol, or has no clip in common.
    """
    methods = list(rows[0]["metrics"]) if rows else []
    take_of = {row["clip"]: row["take"] for row in rows}
    columns = {m: {k.key: _column(rows, m, k.key) for k in PER_CLIP} for m in methods}
    means = {
        m: _known(
            {
                k: bootstrap_mean(*_values(column, take_of), samples=samples, seed=seed)
                for k, column in columns[m].items()
            }
        )
        for m in methods
    }
    paired = {}
    for method in methods[1:]:
        paired[f"{GENERATED} - {method}"] = _known(
            {
                k: paired_difference(
                    columns[GENERATED][k], columns[method][k], take_of, samples=samples, seed=seed
                )
                for k in columns[method]
            }
        )
    report: dict[str, Any] = {
        "format": FORMAT,
        "metrics_version": VERSION,
        "clips": len(rows),
        "takes": len(set(take_of.values())),
        "failed": len(errors),
        "protocol": dict(protocol),
        "options": dict(options),
        "weights": dict(weights),
        "versions": _versions(),
        "coverage_from": sorted({row["coverage_from"] for row in rows}),
        "object_matching": _matching(means.get(GENERATED, {}), weights),
        "not_computed": _not_computed(means.get(GENERATED, {}), sets),
        "sets": dict(sets or {}),
        "means": means,
        "paired": paired,
    }
    if other is not None:
        check_protocols(protocol, other)
        compared, clips = compare_rows(rows, other["rows"], samples=samples, seed=seed)
        report["compared_with"] = {"name": other["name"], "clips": clips, "differences": compared}
    return {
        **report,
        "errors": dict(errors),
        "rows": [
            {k: v for k, v in row.items() if k not in ("fingerprint", "features")} for row in rows
        ],
    }


def protocol_of(records: Sequence[ClipRecord], weights: Mapping[str, str]) -> dict[str, Any]:
    """Facts that two reports must share before their figures may stand in one table.

    Args:
        weights: hashes of the networks' files, by the option that gave them.
    """
    names = hashlib.sha256("\n".join(sorted(r.clip for r in records)).encode()).hexdigest()[:16]
    return {
        "metrics_version": VERSION,
        "clips": len(records),
        "clip_list": names,
        "resize": "none",
        "sizes": sorted({f"{r.ego_size[0]}x{r.ego_size[1]}" for r in records}),
        "frames": sorted({r.frames for r in records}),
        "fps": sorted({round(r.fps, 3) for r in records}),
        "networks": dict(sorted(weights.items())),
    }


def check_protocols(protocol: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuses another report that was made otherwise.

    Raises:
        EgoXInputError: names what differs.
    """
    theirs = other["protocol"]
    differs = [
        f"{key} {protocol.get(key)} and {theirs.get(key)}"
        for key in sorted({*protocol, *theirs})
        if protocol.get(key) != theirs.get(key)
    ]
    if differs:
        raise EgoXInputError(
            f"protocol of {other['name']}",
            got="; ".join(differs),
            expected="one protocol",
            fix="evaluate both with the same clips and networks; other figures don't compare",
        )


def compare_rows(
    rows: Rows, others: Rows, *, samples: int, seed: int
) -> tuple[dict[str, Any], int]:
    """(differences of the generated videos, these - others, number of clips) over clips with the
    same true video.

    Raises:
        EgoXInputError: no such clip.
    """
    before = {row["clip"]: row for row in others}
    same = [
        row
        for row in rows
        if row["clip"] in before and before[row["clip"]]["truth"] == row["truth"]
    ]
    if not same:
        raise EgoXInputError(
            "report to compare with",
            got="no clip with the same true video",
            expected="at least one",
            fix="compare runs over the same manifest",
        )
    take_of = {row["clip"]: row["take"] for row in same}
    theirs = [before[row["clip"]] for row in same]
    differences = _known(
        {
            k.key: paired_difference(
                _column(same, GENERATED, k.key),
                _column(theirs, GENERATED, k.key),
                take_of,
                samples=samples,
                seed=seed,
            )
            for k in PER_CLIP
        }
    )
    return differences, len(same)


def _column(rows: Rows, method: str, key: str) -> dict[str, float | None]:
    return {row["clip"]: row["metrics"].get(method, {}).get(key) for row in rows}


def _values(
    column: Mapping[str, float | None], take_of: Mapping[str, str]
) -> tuple[list[float], list[str]]:
    known = {clip: value for clip, value in column.items() if value is not None}
    return list(known.values()), [take_of[clip] for clip in known]


def _known(estimates: Mapping[str, Any]) -> dict[str, Any]:
    return {key: estimate.as_dict() for key, estimate in estimates.items() if estimate is not None}


def _matching(means: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    if "iou" not in means:
        return "no masks of the generated videos given"
    return f"by DINO features (weights {weights['dino']})" if "dino" in weights else "by id"


def _not_computed(means: Mapping[str, Any], sets: Mapping[str, Any] | None) -> dict[str, str]:
    computed = {*means, *(sets or {})}
    return {m.label: f"needs {m.needs}" for m in METRICS if m.needs and m.key not in computed}


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def markdown_report(report: Mapping[str, Any]) -> str:
    """Everything of the report that a person reads; '–' stands where a value couldn't be had."""
    lines = [
        "# Evaluation",
        "",
        f"{report['clips']} clips of {report['takes']} takes, {report['failed']} failed. "
        "Means with 95 % bootstrap intervals over takes.",
        "",
        *_protocol_lines(report["protocol"]),
        "",
    ]
    if report["clips"]:
        means = report["means"]
        lines += ["## In the paper's columns", "", *_paper_table(means, report["sets"]), ""]
        for title, family in (
            ("Structure", "structure"),
            ("Inside and outside the prior's coverage", "prior"),
        ):
            lines += [f"## {title}", "", *_means_table(means, of_family(family)), ""]
        objects = [
            m for m in of_family("object") if "paper" not in m.tables and m.key in means[GENERATED]
        ]
        if objects:
            lines += [
                "## Objects",
                "",
                f"Matching: {report['object_matching']}.",
                "",
                *_means_table(means, objects),
                "",
            ]
        if report["paired"]:
            lines += [
                "## Paired differences",
                "",
                *_means_table(report["paired"], _differing(report["paired"])),
                "",
            ]
        if "compared_with" in report:
            other = report["compared_with"]
            lines += [
                f"## Against {other['name']}",
                "",
                f"{other['clips']} clips in common, this run minus that one.",
                "",
                *_differences_table(other["differences"]),
                "",
            ]
        lines += ["## Clips", "", *_row_table(report["rows"]), ""]
    if report["errors"]:
        lines += [
            "## Not evaluated",
            "",
            *(f"- {line}" for line in failure_lines(report["errors"])),
            "",
        ]
    lines += [
        "## Not computed",
        "",
        *(f"- {name}: {why}" for name, why in report["not_computed"].items()),
        "",
        "## What the columns mean",
        "",
        *(f"- {m.label}: {m.meaning}" for m in METRICS if m.meaning),
        "",
        f"Coverage taken from: {', '.join(report['coverage_from']) or '–'}. Versions: "
        + ", ".join(f"{k} {v}" for k, v in report["versions"].items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _protocol_lines(protocol: Mapping[str, Any]) -> list[str]:
    networks = (
        ", ".join(f"{name} {hash_}" for name, hash_ in protocol["networks"].items()) or "none"
    )
    return [
        f"Protocol: {protocol['clips']} clips (list {protocol['clip_list']}), "
        f"{', '.join(protocol['sizes'])} px, "
        f"resized: {protocol['resize']}, frames {', '.join(map(str, protocol['frames']))} at "
        f"{', '.join(f'{fps:g}' for fps in protocol['fps'])} a second; networks: {networks}; "
        "metrics of version "
        f"{protocol['metrics_version']}. Reports of another protocol don't compare."
    ]


def _paper_table(means: Mapping[str, Any], sets: Mapping[str, Mapping[str, float]]) -> list[str]:
    columns = of_table("paper")
    return _table(
        ["", *(m.heading for m in columns)],
        [
            [
                method,
                *(
                    _number(sets.get(m.key, {}).get(method), m)
                    if m.family == "set"
                    else _interval(values.get(m.key), m)
                    for m in columns
                ),
            ]
            for method, values in means.items()
        ],
    )


def _means_table(means: Mapping[str, Any], columns: Sequence[Metric]) -> list[str]:
    return _table(
        ["", *(m.heading for m in columns)],
        [
            [method, *(_interval(values.get(m.key), m) for m in columns)]
            for method, values in means.items()
        ],
    )


def _differences_table(differences: Mapping[str, Any]) -> list[str]:
    return _table(
        ["", "difference"],
        [[m.heading, _interval(differences[m.key], m)] for m in PER_CLIP if m.key in differences],
    )


def _differing(paired: Mapping[str, Any]) -> list[Metric]:
    return [m for m in of_table("paired") if any(m.key in values for values in paired.values())]


def _row_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = [
        m
        for m in of_table("clips")
        if any(r["metrics"][GENERATED].get(m.key) is not None for r in rows)
    ]
    return _table(
        ["clip", "take", *(m.heading for m in columns)],
        [
            [
                row["clip"],
                row["take"],
                *(_number(row["metrics"][GENERATED].get(m.key), m) for m in columns),
            ]
            for row in rows
        ],
    )


def _table(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (headings, ["---"] * len(headings), *body)]


def _interval(estimate: Mapping[str, float] | None, column: Metric) -> str:
    if estimate is None:
        return "–"
    mean, low, high = (_number(estimate[k], column) for k in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _number(value: float | None, column: Metric) -> str:
    return "–" if value is None else f"{value:.{column.digits}f}"


def failure_lines(errors: Mapping[str, str]) -> list[str]:
    """Reasons of clips that failed, each once with the first clip and the count of the others."""
    clips: dict[str, list[str]] = {}
    for clip, why in sorted(errors.items()):
        clips.setdefault(why, []).append(clip)
    return [
        f"{first}{f' and {len(more)} more' if more else ''}: {why}"
        for why, (first, *more) in clips.items()
    ]
