"""Define evaluation protocols: which videos are read, how they are paired and which metrics are
computed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from egox_core.frozen import frozen
from egox_core.metrics import require_torchmetrics

from ..data.manifest import ClipRecord
from ..data.object_masks import read_masks
from ..options import ProtocolName
from . import table1
from .clip_inputs import ClipFiles, read_ego
from .columns import METRICS, Metric
from .frame_metrics import MetricValues, frame_metrics
from .objects import check_sizes, object_rows
from .temporal import scaled_threshold_px


@frozen
class Protocol:
    """Evaluation protocol: functions that read and pair the videos, and the metrics to compute."""

    columns: tuple[Metric, ...]
    require_packages: tuple[Callable[[], object], ...]  # asked before the first clip
    settings: Mapping[str, str]  # as the report has them; part of a row's fingerprint
    read_video: Callable[[Path, ClipRecord, str], Tensor]  # of a video: [T, H, W, 3] float 0...1
    pair_videos: Callable[
        [Tensor, Tensor], tuple[Tensor, Tensor]
    ]  # generated and truth, as compared
    frame_metrics: Callable[..., MetricValues]  # of a pair, without weights
    # (file of masks, clip, generated, truth, network or None)
    object_metrics: Callable[[Path, str, Tensor, Tensor, Any], MetricValues]
    feature_network: str  # network that object_metrics gets where DINO weights were given
    set_frames: Callable[[Tensor], Tensor]  # what networks of whole sets look at
    # the pictures that are judged over time, of (generated, truth, files); None: the pair's own
    canvas: Callable[[Tensor, Tensor, ClipFiles], Tensor | None] | None
    fps: float | None  # None: the clip's own
    threshold_px: Callable[[int], float]  # of motion, by the picture's shorter side
    with_prior: bool  # figures of prior, scene and baselines, too


def _matched_objects(
    file: Path, clip: str, generated: Tensor, truth: Tensor, dino: Callable[..., Tensor] | None
) -> MetricValues:
    """Compute object metrics between masks that are matched by id or by features."""
    masks = read_masks(file, clip, by_id=dino is None)
    if dino is not None:
        from .dino_matching import match_by_features

        check_sizes(masks, truth)
        masks = match_by_features(masks, generated, truth, dino)
    return object_rows(masks, truth)


def _as_they_are(generated: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    return generated, truth


DEFAULT_PROTOCOL = Protocol(
    columns=METRICS,
    require_packages=(require_torchmetrics,),
    settings={},
    read_video=read_ego,
    pair_videos=_as_they_are,
    frame_metrics=frame_metrics,
    object_metrics=_matched_objects,
    feature_network="dino",
    set_frames=lambda frames: frames,
    canvas=None,
    fps=None,
    threshold_px=scaled_threshold_px,
    with_prior=True,
)
TABLE1 = Protocol(
    columns=table1.COLUMNS,
    require_packages=(table1.require_scikit_image, require_torchmetrics),
    settings=table1.SETTINGS,
    read_video=table1.read_video,
    pair_videos=table1.crop_pair,
    frame_metrics=table1.luma_metrics,
    object_metrics=table1.object_metrics,
    feature_network="dino-crops",
    set_frames=table1.set_frames,
    canvas=table1.whole_canvas,
    fps=table1.FPS,
    threshold_px=lambda side_px: table1.MOTION_PX,
    with_prior=False,
)


def protocol_named(name: ProtocolName | None) -> Protocol:
    """Find an evaluation protocol by its name."""
    return DEFAULT_PROTOCOL if name is None else TABLE1
