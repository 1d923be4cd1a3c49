"""Build the report of an evaluation as JSON and Markdown."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from statistics import fmean, stdev
from typing import Any

from ..data.manifest import ClipRecord
from ..data.set_files import merge_equal_notes
from ..options import ProtocolName
from . import table1
from .baselines import BASELINE_NAMES
from .bootstrap import (
    FEWEST_TAKES,
    Estimate,
    bootstrap_mean,
    holm,
    paired_difference,
)
from .clip_row import GENERATED, ROW_VERSION
from .columns import CLIP_METRICS, METRICS, Metric, metrics_of_families, metrics_of_table
from .protocols import protocol_named

FORMAT = "egox-evaluation/2"
LIBRARIES = ("torch", "torchmetrics", "numpy")
SEED = ", seed "
PAPER_METRICS = metrics_of_table("paper")
SetDistances = Mapping[str, Mapping[str, float]]
"""Figures of whole sets, by column and video."""
ClipRows = Sequence[Mapping[str, Any]]


def build_report(
    rows: ClipRows,
    errors: Mapping[str, str],
    *,
    options: Mapping[str, Any],
    weights: Mapping[str, str],
    protocol: Mapping[str, Any],
    sets_of: Callable[[Collection[str]], SetDistances] = lambda clips: {},
    groups: Mapping[str, Mapping[str, Collection[str]]] | None = None,
    columns: Sequence[Metric] = METRICS,
    references: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the report of an evaluation as JSON content from rows and settings.

    ``rows`` in the order of clips. ``sets_of``: figures of the set of some clips. ``groups``:
    clips by kind of group and name. ``columns``: of the protocol. ``references``: published
    rows (:func:`references_of`).
    """
    names_by_method, clip_sets = _names_by_method(rows), sets_of([row["clip"] for row in rows])
    method_means = _means(rows, names_by_method)
    generated_values = _seed_averages(rows, names_by_method.get(GENERATED, ()))
    coverage_from = {row["coverage_from"] for row in rows if "coverage_from" in row}
    paired_figures = {
        f"{GENERATED} - {method}": _differences(
            generated_values, _seed_averages(rows, video_names), _take_by_clip(rows)
        )
        for method, video_names in names_by_method.items()
        if method != GENERATED
    }
    _add_corrected_p(paired_figures, columns)
    seeds_of_videos = {
        name: video_names
        for name, video_names in names_by_method.items()
        if name not in BASELINE_NAMES
    }
    return {
        "format": FORMAT,
        "metrics_version": ROW_VERSION,
        "clips": len(rows),
        "takes": len(set(_take_by_clip(rows).values())),
        "failed": len(errors),
        "protocol": dict(protocol),
        "options": dict(options),
        "weights": dict(weights),
        "versions": {name: version(name) for name in (*LIBRARIES, *protocol.get("libraries", ()))},
        "coverage_from": sorted(coverage_from),
        "object_matching": _matching_method(method_means.get(GENERATED, {}), weights),
        "not_computed": _not_computed(method_means.get(GENERATED, {}), clip_sets, columns),
        "sets": clip_sets,
        "means": method_means,
        "paired": paired_figures,
        "seeds": {
            name: list(video_names)
            for name, video_names in names_by_method.items()
            if len(video_names) > 1
        },
        "groups": {
            group_kind: {
                name: {
                    "means": _means([r for r in rows if r["clip"] in clips], seeds_of_videos),
                    "sets": sets_of(clips),
                }
                for name, clips in clips_by_name.items()
            }
            for group_kind, clips_by_name in (groups or {}).items()
        },
        "errors": dict(errors),
        **({"references": dict(references)} if references else {}),
        "rows": [
            {k: v for k, v in row.items() if k not in ("fingerprint", "features")} for row in rows
        ],
    }


def protocol_of(
    records: Sequence[ClipRecord],
    weights: Mapping[str, str],
    name: ProtocolName | None = None,
    rows: ClipRows = (),
) -> dict[str, Any]:
    """Collect the settings that two reports must share to be comparable.

    Args:
        weights: hashes of the networks' files, by the option that gave them.
        name: of the protocol, whose settings then stand here; None: our own.
    """
    names = hashlib.sha256("\n".join(sorted(r.clip for r in records)).encode()).hexdigest()[:16]
    if name is not None:
        return {
            "name": name,
            "metrics_version": ROW_VERSION,
            "clips": len(records),
            "clip_list": names,
            "frames": sorted({row["frames"] for row in rows}),
            "sizes": sorted({row["size"] for row in rows}),
            "settings": dict(protocol_named(name).settings),
            "networks": dict(sorted(weights.items())),
            "libraries": ["scikit-image"],
        }
    return {
        "metrics_version": ROW_VERSION,
        "clips": len(records),
        "clip_list": names,
        "resize": "none",
        "sizes": sorted({f"{r.ego_size[0]}x{r.ego_size[1]}" for r in records}),
        "frames": sorted({r.frames for r in records}),
        "fps": sorted({round(r.fps, 3) for r in records}),
        "networks": dict(sorted(weights.items())),
    }


def references_of(split: str) -> dict[str, Any]:
    """Look up the paper's published figures for a split.

    The splits are seen and unseen, or a manifest's names of them.
    """
    for name, paper_split in table1.SPLITS.items():
        if split in (name, paper_split):
            return {
                "split": name,
                "clips": table1.REFERENCE_CLIPS[name],
                "rows": table1.REFERENCES[name],
                "note": table1.NOT_REACHED,
            }
    return {}


def seed_name(method: str, number: int) -> str:
    """Build the name of the videos that a method generated with its n-th seed."""
    return method if number == 1 else f"{method}{SEED}{number}"


def _names_by_method(rows: ClipRows) -> dict[str, list[str]]:
    """Group the names of generated videos by method."""
    names_by_method: dict[str, list[str]] = {}
    # Not every clip has all baselines.
    for name in dict.fromkeys(name for row in rows for name in row["metrics"]):
        names_by_method.setdefault(name.split(SEED)[0], []).append(name)
    return names_by_method


def _take_by_clip(rows: ClipRows) -> dict[str, str]:
    return {row["clip"]: row["take"] for row in rows}


def _seed_averages(rows: ClipRows, keys: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Average each metric of each clip over the seeds."""
    return {
        metric.key: {row["clip"]: _clip_average(row, keys, metric.key) for row in rows}
        for metric in CLIP_METRICS
    }


def _clip_average(row: Mapping[str, Any], keys: Sequence[str], metric: str) -> float | None:
    seed_values = (row["metrics"].get(key, {}).get(metric) for key in keys)
    values = [value for value in seed_values if value is not None]
    return fmean(values) if values else None


def _means(rows: ClipRows, seeds: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Compute the mean of each metric for each method, with the numbers of clips and takes.

    The interval is added where there are takes enough, and over several seeds the standard
    deviation of the mean.
    """
    take_by_clip, method_means = _take_by_clip(rows), {}
    for method, video_names in seeds.items():
        method_means[method] = figures = {}
        columns_by_seed = [_seed_averages(rows, [key]) for key in video_names]
        for metric, column in _seed_averages(rows, video_names).items():
            value_by_clip = {clip: value for clip, value in column.items() if value is not None}
            takes = [take_by_clip[clip] for clip in value_by_clip]
            mean_estimate = bootstrap_mean(list(value_by_clip.values()), takes)
            if mean_estimate is not None:
                figures[metric] = _without_unreliable_interval(mean_estimate)
                seed_means = [
                    [columns[metric][clip] for clip in value_by_clip] for columns in columns_by_seed
                ]
                all_values = [
                    fmean(v for v in seed_values if v is not None)
                    for seed_values in seed_means
                    if None not in seed_values
                ]
                if len(all_values) > 1:
                    figures[metric]["spread"] = round(stdev(all_values), 6)
    return method_means


def _without_unreliable_interval(estimate: Estimate) -> dict[str, Any]:
    values = {key: round(value, 6) for key, value in asdict(estimate).items()}
    hidden_keys = ("low", "high") if estimate.takes < FEWEST_TAKES else ()
    return {key: value for key, value in values.items() if key not in hidden_keys}


def _differences(
    generated_values: Mapping[str, Mapping[str, float | None]],
    method_values: Mapping[str, Mapping[str, float | None]],
    take_of: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    differences = {}
    for key, column in generated_values.items():
        difference_estimate, p_value = paired_difference(column, method_values[key], take_of)
        if difference_estimate is not None:
            differences[key] = {
                **_without_unreliable_interval(difference_estimate),
                **({} if p_value is None else {"p": p_value}),
            }
    return differences


def _add_corrected_p(
    paired: Mapping[str, dict[str, dict[str, Any]]], columns: Sequence[Metric]
) -> None:
    """Add p values adjusted by Holm's method to all comparisons of one table."""
    comparisons = {
        (name, metric.key): paired[name][metric.key]
        for name in paired
        for metric in columns
        if "paired" in metric.tables and "p" in paired[name].get(metric.key, {})
    }
    for comparison_place, p_value in holm(
        {comparison_place: values["p"] for comparison_place, values in comparisons.items()}
    ).items():
        comparisons[comparison_place]["p_holm"] = round(p_value, 6)


def _matching_method(means: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    if "iou" not in means:
        return "no masks of the generated videos given"
    return f"by DINO features (weights {weights['dino']})" if "dino" in weights else "by id"


def _not_computed(
    means: Mapping[str, Any], sets: SetDistances, columns: Sequence[Metric]
) -> dict[str, str]:
    computed_keys = {*means, *sets}
    return {
        metric.label: f"needs {metric.needs}"
        for metric in columns
        if metric.needs and metric.key not in computed_keys
    }


def markdown_report(report: Mapping[str, Any]) -> str:
    """Write the report as Markdown tables, with '–' for missing values."""
    is_egox_protocol = "name" not in report["protocol"]
    lines = [
        "# Evaluation",
        "",
        f"{report['clips']} clips of {report['takes']} takes, {report['failed']} failed. "
        "Means with 95 % bootstrap intervals over takes, where there are five or more.",
        "",
        _protocol_line(report["protocol"])
        if is_egox_protocol
        else _named_protocol(report["protocol"]),
        "",
    ]
    for title, section_lines in _sections(report) if is_egox_protocol else _table1_sections(report):
        lines += [f"## {title}", "", *section_lines, ""]
    versions = ", ".join(
        f"{name} {version_number}" for name, version_number in report["versions"].items()
    )
    coverage_sources = ", ".join(report["coverage_from"]) or "–"
    coverage_sentence = f"Coverage taken from: {coverage_sources}. " if is_egox_protocol else ""
    return "\n".join([*lines, f"{coverage_sentence}Versions: {versions}.", ""])


def _sections(report: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the report's sections as titles with lines of Markdown."""
    if report["clips"]:
        method_means, names_by_method = report["means"], report["seeds"]
        yield (
            "In the paper's columns",
            [
                *_seeds_sentence(names_by_method),
                *_paper_table({"": report}, names_by_method),
                *_equal_frames(report["rows"]),
            ],
        )
        for group_kind, group_figures in report["groups"].items():
            yield f"By {group_kind}", _paper_table(group_figures, names_by_method)
        yield "Structure", _means_table(method_means, metrics_of_families("structure"))
        yield (
            "Inside and outside the prior's coverage",
            _means_table(method_means, metrics_of_families("prior")),
        )
        yield (
            "Observed and unobserved areas",
            _means_table(method_means, metrics_of_families("seen")),
        )
        object_columns = [
            metric
            for metric in metrics_of_families("object")
            if "paper" not in metric.tables and metric.key in method_means[GENERATED]
        ]
        if object_columns:
            matching_sentence = f"Matching: {report['object_matching']}."
            yield "Objects", [matching_sentence, "", *_means_table(method_means, object_columns)]
        yield from _comparison(report, METRICS)
    yield from _gaps_and_meanings(report, METRICS)


def _table1_sections(report: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the report's sections for the paper's Table 1 as titles with lines of Markdown."""
    protocol = report["protocol"]
    if report["clips"]:
        names_by_method = report["seeds"]
        table = _paper_table({"": report}, names_by_method, table1.COLUMNS)
        lines = [*_seeds_sentence(names_by_method), *table]
        if published_figures := report.get("references"):
            lines += _reference_rows(published_figures)
            lines += ["", f"Rows in italics were published by others. {published_figures['note']}"]
        clips_without_pairs = sum(
            row["metrics"][GENERATED].get("object_pairs") == 0 for row in report["rows"]
        )
        if clips_without_pairs:
            lines += [
                "",
                (
                    f"Without a pair of objects, left out of their columns: {clips_without_pairs} "
                    "clips."
                ),
            ]
        yield (
            "Table 1 of the paper, as others reproduced it",
            [
                *lines,
                *_equal_frames(report["rows"]),
            ],
        )
        yield from _comparison(report, table1.COLUMNS)
    settings = protocol["settings"].items()
    yield "Settings of the protocol", [f"- {name}: {value}" for name, value in settings]
    yield from _gaps_and_meanings(report, table1.COLUMNS)


def _equal_frames(rows: ClipRows) -> list[str]:
    """Count the frames that equal the truth, whose 100 dB are in the mean."""
    counts_by_name: dict[str, list[int]] = {}
    for row in rows:
        for name, count in row.get("equal_frames", {}).items():
            counts_by_name.setdefault(name, []).append(count)
    return [
        line
        for name, counts in counts_by_name.items()
        for line in (
            "",
            f"{name}: {sum(counts)} frames of {len(counts)} clips equal the truth in every value; "
            "each counts as 100 dB in the mean.",
        )
    ]


def _seeds_sentence(seeds: Mapping[str, Sequence[str]]) -> list[str]:
    counts = ", ".join(f"{name} {len(video_names)}" for name, video_names in seeds.items())
    return [f"± is the standard deviation over the seeds: {counts}.", ""] if seeds else []


def _reference_rows(published: Mapping[str, Any]) -> list[str]:
    count = f"{published['clips']}, –"
    return [
        f"| *{name}, {published['split']}; not measured here* | {count} | "
        + " | ".join(_format_number(values[metric.key], metric) for metric in table1.COLUMNS)
        + " |"
        for name, values in published["rows"].items()
    ]


def _comparison(
    evaluation_report: Mapping[str, Any], columns: Sequence[Metric]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the report's sections that compare methods and list all clips."""
    if paired_figures := evaluation_report["paired"]:
        test_sentence = (
            "p is of Wilcoxon's signed-rank test over takes, after Holm for all in this table."
        )
        differing_settings = [
            metric
            for metric in columns
            if "paired" in metric.tables
            and any(metric.key in values for values in paired_figures.values())
        ]
        yield (
            "Paired differences",
            [test_sentence, "", *_means_table(paired_figures, differing_settings)],
        )
    yield (
        "Clips",
        _row_table(
            evaluation_report["rows"], [metric for metric in columns if "clips" in metric.tables]
        ),
    )


def _gaps_and_meanings(
    report: Mapping[str, Any], columns: Sequence[Metric]
) -> Iterator[tuple[str, list[str]]]:
    """List the values that could not be computed, and the meaning of each column."""
    if report["errors"]:
        yield (
            "Not evaluated",
            [f"- {line}" for line in merge_equal_notes(sorted(report["errors"].items()))],
        )
    yield (
        "Not computed",
        [f"- {name}: {missing_reason}" for name, missing_reason in report["not_computed"].items()],
    )
    yield (
        "What the columns mean",
        [f"- {metric.label}: {metric.meaning}" for metric in columns if metric.meaning],
    )


def _named_protocol(protocol: Mapping[str, Any]) -> str:
    network_text = ", ".join(
        f"{name} {weight_hash}" for name, weight_hash in protocol["networks"].items()
    )
    return (
        f"Protocol {protocol['name']}: {protocol['clips']} clips (list {protocol['clip_list']}), "
        f"{', '.join(protocol['sizes'])} px, frames {', '.join(map(str, protocol['frames']))}; "
        f"networks: {network_text or 'none'}. Figures of our own columns don't compare with these."
    )


def _protocol_line(protocol: Mapping[str, Any]) -> str:
    network_text = ", ".join(
        f"{name} {weight_hash}" for name, weight_hash in protocol["networks"].items()
    )
    return (
        f"Protocol: {protocol['clips']} clips (list {protocol['clip_list']}), "
        f"{', '.join(protocol['sizes'])} px, "
        f"resized: {protocol['resize']}, frames {', '.join(map(str, protocol['frames']))} at "
        f"{', '.join(f'{fps:g}' for fps in protocol['fps'])} a second; networks: "
        f"{network_text or 'none'}; metrics of version "
        f"{protocol['metrics_version']}. Figures of another protocol don't compare."
    )


def _paper_table(
    groups: Mapping[str, Mapping[str, Any]],
    seeds: Mapping[str, Sequence[str]],
    columns: Sequence[Metric] = PAPER_METRICS,
) -> list[str]:
    """Build the report's table in the form of the paper's."""
    rows = {}
    for name, group_report in groups.items():
        for method, values in group_report["means"].items():
            row = rows[", ".join(filter(None, (name, method)))] = dict(values)
            for column, video_distances in group_report["sets"].items():
                set_values = [
                    video_distances[k] for k in seeds.get(method, [method]) if k in video_distances
                ]
                if set_values:
                    spread_of_seeds = {"spread": stdev(set_values)} if len(set_values) > 1 else {}
                    row[column] = {"mean": fmean(set_values), **spread_of_seeds}
    return _means_table(rows, columns)


def _means_table(means: Mapping[str, Any], columns: Sequence[Metric]) -> list[str]:
    return _markdown_table(
        ["", "clips, takes", *(metric.heading for metric in columns)],
        [
            [
                method,
                _clip_and_take_count(values),
                *(_format_interval(values.get(metric.key), metric) for metric in columns),
            ]
            for method, values in means.items()
        ],
    )


def _clip_and_take_count(values: Mapping[str, Any]) -> str:
    """Format the numbers of clips and takes that a table row averages."""
    counts = [(v["clips"], v["takes"]) for v in values.values() if "clips" in v]
    return ", ".join(map(str, max(counts, default=(0, 0))))


def _row_table(rows: ClipRows, columns: Sequence[Metric]) -> list[str]:
    video_names = _names_by_method(rows)[GENERATED]
    columns = [
        metric
        for metric in columns
        if any(_clip_average(r, video_names, metric.key) is not None for r in rows)
    ]
    return _markdown_table(
        ["clip", "take", *(metric.heading for metric in columns)],
        [
            [
                row["clip"],
                row["take"],
                *(
                    _format_number(_clip_average(row, video_names, metric.key), metric)
                    for metric in columns
                ),
            ]
            for row in rows
        ],
    )


def _markdown_table(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (headings, ["---"] * len(headings), *body)]


def _format_interval(estimate: Mapping[str, float] | None, column: Metric) -> str:
    if estimate is None:
        return "–"
    text = {
        k: _format_number(v, column) for k, v in estimate.items() if k not in ("clips", "takes")
    }
    return (
        text["mean"]
        + (f" [{text['low']}, {text['high']}]" if "low" in text else "")
        + (f" ± {text['spread']}" if "spread" in text else "")
        + (f", p {estimate['p_holm']:.3f}" if "p_holm" in text else "")
    )


def _format_number(value: float | None, column: Metric) -> str:
    return "–" if value is None else f"{value:.{column.digits}f}"
