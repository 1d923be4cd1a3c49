"""Compute all metrics of one clip in a worker process, and store them in a file."""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from egox_core.file_names import PRIOR, SEEN
from egox_core.frozen import frozen
from egox_core.safe_files import atomic_write, write_json

from ..data.clip_files import read_classes
from ..data.manifest import ClipRecord
from ..fingerprint import fingerprint
from ..options import EvaluateOptions
from ..parallel import make_once, single_threaded
from .baselines import make_baselines
from .clip_inputs import (
    ClipFiles,
    clip_files,
    clip_views,
    content_hash,
    read_coverage,
    read_ego,
    read_ego_camera,
    read_exo,
)
from .columns import WEIGHTS, metrics_of_families
from .frame_metrics import MetricValues, mean_colour
from .prior_regions import class_rows
from .protocols import protocol_named
from .temporal import (
    AmtInterpolation,
    RaftFlow,
    is_dynamic,
    motion_smoothness,
    temporal_flickering,
    thin_frames,
)

ROW_VERSION = 11  # raised when a metric changes its meaning
GENERATED, TRUE_NAME = "generated", "truth"
SET_METRIC_KEYS = {metric.key for metric in metrics_of_families("set")}


@frozen
class RowJob:
    """Job for a worker process, which evaluates one clip."""

    root: Path  # the manifest's folder
    record: ClipRecord
    videos: tuple[tuple[str, Path], ...]  # (method, folder), "generated" first
    rows: Path  # folder that finished rows are kept in
    options: EvaluateOptions
    hashes: Mapping[str, str]  # of the weights, for the fingerprint
    one_thread: bool = False  # several jobs run side by side
    wait: bool = False  # for another process that makes this very row


def make_row(job: RowJob, device: str = "cpu") -> tuple[dict[str, Any], bool] | str:
    """Compute the metrics of one clip, or load them if they were computed before.

    The row has ``clip``, ``take`` and ``metrics`` by method, and the result is that of
    :func:`make_once`.

    Args:
        device: of the networks.

    Raises:
        EgoXInputError: anything about this clip's files that doesn't fit.
    """
    files = clip_files(job.root, job.record, job.videos, job.options.masks)
    with_prior = protocol_named(job.options.protocol).with_prior
    row_key = _fingerprint(job, content_hash(files.source_files(job.options.baselines, with_prior)))
    return make_once(
        job.rows / job.record.clip,
        lambda: _finished(job, row_key),
        lambda: _written(job, files, row_key, device),
        job.wait,
    )


def _written(job: RowJob, files: ClipFiles, key: str, device: str) -> dict[str, Any]:
    with single_threaded() if job.one_thread else contextlib.nullcontext():
        row, set_features = _compute(job, files, device)
    npz_buffer = io.BytesIO()
    # Arrays by name; numpy's stubs take one of them for allow_pickle.
    np.savez(npz_buffer, **set_features)  # ty: ignore[invalid-argument-type]
    with atomic_write(features_file(job.rows, job.record.clip)) as temporary_file:
        temporary_file.write_bytes(npz_buffer.getvalue())
    row = {
        **row,
        "fingerprint": key,
        "features": hashlib.sha256(npz_buffer.getvalue()).hexdigest(),
    }
    write_json(job.rows / f"{job.record.clip}.json", row)  # last: a row with it is whole
    return row


@lru_cache(maxsize=len(WEIGHTS))
def network(name: str, file: Path, device: str) -> Callable[..., Any]:
    """Load a metric's network from its weight file, once per process.

    Raises:
        EgoXInputError: the file missing or of another model, a package missing.
    """
    from .dino_matching import CropFeatures, DinoFeatures
    from .fvd import NETWORKS
    from .perceptual import ClipImage, Lpips

    network_classes = {
        "lpips": Lpips,
        "clip": ClipImage,
        "amt": AmtInterpolation,
        "raft": RaftFlow,
        "dino": DinoFeatures,
        "dino-crops": CropFeatures,
    }
    return {**network_classes, **NETWORKS}[name](file, device)


def features_key(column: str, video: str) -> str:
    """Build the name under which a video's features are stored in a clip's .npz file."""
    return f"{column} of {video}"


def features_file(rows: Path, clip: str) -> Path:
    """Build the path of the .npz file with a clip's video features."""
    return rows / f"{clip}.npz"


def _compute(
    job: RowJob, files: ClipFiles, device: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    record, options, protocol = job.record, job.options, protocol_named(job.options.protocol)
    true_video = protocol.read_video(files.truth, record, "ground truth")
    videos_by_name = {
        name: protocol.read_video(file, record, f"{name} video") for name, file in files.videos
    }
    row = {"clip": record.clip, "take": record.take, "truth": content_hash([files.truth])[0]}
    sampled_names, metric_maps, pixel_classes, path_views = set(videos_by_name), {}, None, None
    if protocol.with_prior:
        prior_frames = read_ego(files.folder / PRIOR, record, "prior")
        coverage, row["coverage_from"] = read_coverage(files.folder, prior_frames)
        if (files.folder / SEEN).is_file():
            pixel_classes = read_classes(files.folder / SEEN, record.frames, record.ego_size)
        metric_maps = {"coverage": coverage, "seen": pixel_classes}
        _, path_views = clip_views(files) if files.has_scene else (None, None)
        if options.baselines:
            exo_frames, camera = read_exo(files.folder, record), read_ego_camera(files.folder)
            videos_by_name |= make_baselines(exo_frames, prior_frames, coverage, camera)
    else:
        paired_generated, _ = protocol.pair_videos(videos_by_name[GENERATED], true_video)
        row |= {
            "frames": len(paired_generated),
            "size": f"{paired_generated.shape[2]}x{paired_generated.shape[1]}",
        }
    metrics, set_features, equal_counts = {}, {}, {}
    for name, frames in videos_by_name.items():
        paired_generated, paired_truth = protocol.pair_videos(frames, true_video)
        values = protocol.frame_metrics(paired_generated, paired_truth, **metric_maps)
        equal_counts[name] = int((paired_generated == paired_truth).flatten(1).all(1).sum())
        if name == GENERATED and files.masks is not None:
            dino_weights = options.weights.get("dino")
            feature_network = (
                None
                if dino_weights is None
                else network(protocol.feature_network, dino_weights, device)
            )
            values.update(
                protocol.object_metrics(
                    files.masks, record.clip, paired_generated, paired_truth, feature_network
                )
            )
        if path_views is not None and name in sampled_names:
            views, exact_views = path_views
            path_errors = views.error(frames)
            clip = path_errors.clip if exact_views is views else exact_views.clip_turn(frames)
            values.update(
                path_error=path_errors.median_deg,
                path_judged=float(path_errors.judged.float().mean()),
                view_turn=clip.angle_deg if clip.judged else None,
                view_turn_interval=clip.interval_deg if clip.judged else None,
            )
        values.update(
            _perceptual(paired_generated, paired_truth, options.weights, device, pixel_classes)
        )
        moving_frames = paired_generated
        if protocol.canvas is not None:
            moving_frames = protocol.canvas(frames, true_video, files)
            values["temporal_flickering"] = (
                None if moving_frames is None else temporal_flickering(moving_frames)
            )
        if moving_frames is not None:
            fps = record.fps if protocol.fps is None else protocol.fps
            values.update(
                _over_time(moving_frames, fps, options.weights, device, protocol.threshold_px)
            )
        metrics[name] = {k: None if v is None else round(v, 6) for k, v in values.items()}
    for column in SET_METRIC_KEYS & options.weights.keys():
        features = network(column, options.weights[column], device)
        for name, frames in (
            (TRUE_NAME, true_video),
            *((name, videos_by_name[name]) for name, _ in job.videos),
        ):
            set_features[features_key(column, name)] = features(protocol.set_frames(frames))
    row["mean_colours"] = {
        name: mean_colour(frames)
        for name, frames in ((TRUE_NAME, true_video), (GENERATED, videos_by_name[GENERATED]))
    }
    row["equal_frames"] = {name: count for name, count in equal_counts.items() if count}
    return {**row, "metrics": metrics}, set_features


def _perceptual(
    frames: Tensor,
    truth: Tensor,
    weights: Mapping[str, Path],
    device: str,
    classes: Tensor | None,
) -> MetricValues:
    values: MetricValues = {}
    if "lpips" in weights:
        lpips_network = network("lpips", weights["lpips"], device)
        values["lpips"] = float(lpips_network(frames, truth).mean())
        if classes is not None:
            values.update(class_rows(classes, lpips=lpips_network(frames, truth, spatial=True)))
    if "clip" in weights:
        values["clip_i"] = float(network("clip", weights["clip"], device)(frames, truth).mean())
    return values


def _over_time(
    frames: Tensor,
    fps: float,
    weights: Mapping[str, Path],
    device: str,
    threshold_px: Callable[[int], float],
) -> MetricValues:
    values: MetricValues = {}
    if "amt" in weights:
        values["motion_smoothness"] = motion_smoothness(
            frames, network("amt", weights["amt"], device)
        )
    if "raft" in weights:
        thinned_frames = thin_frames(frames, fps)
        motion_px = network("raft", weights["raft"], device)(thinned_frames)
        least_px = threshold_px(min(thinned_frames.shape[1:3]))
        values["dynamic_degree"] = float(is_dynamic(motion_px, len(thinned_frames), least_px))
    return values


def _fingerprint(job: RowJob, hashes: list[str]) -> str:
    return fingerprint(
        [
            ROW_VERSION,
            version("torchmetrics"),
            job.record.model_dump(mode="json"),
            hashes,
            [name for name, _ in job.videos],
            job.options.masks is not None,
            job.options.baselines,
            dict(job.hashes),
            *protocol_named(job.options.protocol).settings.items(),
        ]
    )


def _finished(job: RowJob, key: str) -> dict[str, Any] | None:
    try:
        row = json.loads((job.rows / f"{job.record.clip}.json").read_text("utf-8"))
        features_bytes = features_file(job.rows, job.record.clip).read_bytes()
    except (OSError, ValueError):
        return None
    is_complete = (
        row.get("fingerprint") == key
        and row.get("features") == hashlib.sha256(features_bytes).hexdigest()
    )
    return row if is_complete else None
