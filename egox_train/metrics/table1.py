"""Reproduce the metrics of the paper's Table 1.

The authors published no evaluation code. Others chose what the paper leaves open so that the
released weights give its figures, and published their choices; these are followed here."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError, needs_package
from egox_core.file_names import EXO
from egox_core.frozen import frozen
from egox_core.metrics import check_pair
from egox_core.video import decode_frames, probe_video

from ..data.manifest import ClipRecord
from ..data.object_masks import read_masks
from .clip_inputs import ClipFiles, require_video
from .columns import METRICS, TABLE1_MASKS, Metric
from .frame_metrics import MetricValues

NAME = "table1"
FPS = 30.0
MOTION_PX = 2.0
"""Flow from which a pair of frames moves, whatever the picture's size."""
FVD_FRAMES, FVD_SIDE_PX = 16, 224
"""First frames and side that FVD looks at."""
LONGEST = 300
"""Frames of a file that are read at most: a clip has 49."""
CANVAS_ASPECT_RATIO = (7, 4)
"""Exo's width to its height: 784x448."""
LUMA = (0.299, 0.587, 0.114)
EQUAL_DB = 100.0
"""PSNR of equal frames, as the core has it."""
SMALLEST_MASK_PX, SMALLEST_CROP_PX = 64, 8
ALIKE = 0.90
"""Cosine from which two objects of a frame are a pair."""
SPLITS = {"seen": "validation", "unseen": "test"}
"""The paper's names of splits -> those of a manifest."""

_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "psnr": {"meaning": "dB of luma in float64, range 255 (scikit-image), mean over frames"},
    "ssim": {"meaning": "of luma, Gaussian window of sigma 1.5, rim left out (scikit-image)"},
    "lpips": {},
    "clip_i": {},
    "location_error_px": {
        "meaning": "distance of the boxes' centres, pixels, mean over all pairs of a clip",
    },
    "iou": {"meaning": "of the boxes, mean over all pairs of a clip"},
    "contour_accuracy": {
        "meaning": (
            "IoU of the masks, each cut to its box, after the generated one was resized to the "
            "true one"
        ),
    },
    "fvd": {},
    "temporal_flickering": {
        "meaning": "of the whole canvas: 1 - mean absolute difference of following frames",
    },
    "motion_smoothness": {
        "meaning": "of the whole canvas: 1 - mean absolute difference of every second frame to its "
        "neighbours' interpolation by AMT-S",
    },
    "dynamic_degree": {
        "meaning": (
            "of the whole canvas: share of clips with more than 2 px of RAFT flow, by vbench's rule"
        ),
    },
}
_OBJECT_METRIC_KEYS = ("location_error_px", "iou", "contour_accuracy")
COLUMNS: tuple[Metric, ...] = tuple(
    replace(
        metric,
        tables=("paper", "paired", "clips"),
        **_MEANINGS[metric.key],
        **({"needs": TABLE1_MASKS} if metric.key in _OBJECT_METRIC_KEYS else {}),
    )
    for metric in METRICS
    if metric.key in _MEANINGS
)
"""The eleven columns, in the paper's order and units."""

SETTINGS: Mapping[str, str] = {
    "frames": (
        "8-bit RGB, both videos cut to the shorter one, nothing resized, taken as 30 a second"
    ),
    "ego view": "the rightmost square of a wider file",
    "means": "over frames, then over clips",
    "LPIPS": "AlexNet, values -1 to 1",
    "CLIP-I": "ViT-B/32, cosine of image features of each frame",
    "object masks": (
        "SAM 2 Hiera large of sam2 1.1.0 (not 2.1): automatic masks of frame 0, 32 points a side, "
        "IoU over .8, stability .95 at offset 1, NMS .7, three masks a point, no crops; holes and "
        "islands up to 2000 of the 256x256 logits removed; boxes under 32 px a side left out; all "
        "tracked through the clip; frames with under 64 px of a mask left out"
    ),
    "object features": (
        "DINOv3 ViT-L/16, crop of the box (sides under 8 px left out), 224 px, mean of the patch "
        "tokens before the last LayerNorm, normalised"
    ),
    "object pairs": (
        "all pairs of a frame with a cosine of .90 or more, not one to one; mean of a clip's "
        "pairs, then over clips; clips without a pair left out"
    ),
    "FVD": "cd-fvd, I3D, ego view at 224 px, first 16 frames, stride 1, the whole set",
    "flickering, smoothness, dynamic degree": (
        "vbench 0.1.5 on the whole canvas; an ego video is put beside exo, resized by area; flow "
        "threshold 2 px"
    ),
}
"""What a report states of the protocol; a row is of exactly these."""

_PAPER = "paper"
_RELEASED_TITLE = "released weights, as others reproduced them"
_METRIC_KEYS = tuple(metric.key for metric in COLUMNS)


def _named_values(*values: float) -> dict[str, float]:
    return dict(zip(_METRIC_KEYS, values, strict=True))


REFERENCES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "seen": {
        _PAPER: _named_values(
            16.05, 0.556, 0.498, 0.896, 61.81, 0.363, 0.546, 184.5, 0.977, 0.990, 0.974
        ),
        _RELEASED_TITLE: _named_values(
            15.57, 0.556, 0.466, 0.903, 125.27, 0.176, 0.622, 197.9, 0.985, 0.993, 0.990
        ),
    },
    "unseen": {
        _PAPER: _named_values(
            14.38, 0.457, 0.552, 0.877, 149.93, 0.092, 0.481, 440.6, 0.981, 0.992, 0.989
        ),
        _RELEASED_TITLE: _named_values(
            13.53, 0.437, 0.542, 0.886, 146.49, 0.091, 0.572, 455.1, 0.986, 0.994, 0.990
        ),
    },
}
"""Published figures by split and row; none of them is measured here."""
REFERENCE_CLIPS = {"seen": 388, "unseen": 100}
NOT_REACHED = (
    "Nobody reached the paper's object columns of the seen split with the released weights, by any "
    "reading of the rules."
)


def read_video(
    file: Path, record: ClipRecord, subject: str
) -> Tensor:  # [T, H, W, 3] float32 0...1, an ego video or a canvas
    """Read all frames of a video, of any length, frame rate and size.

    Raises:
        EgoXInputError: missing, corrupt, far longer than a clip.
    """
    require_video(file, record, subject)
    video_info = probe_video(file)
    if video_info.frame_count > LONGEST or video_info.width < video_info.height:
        raise EgoXInputError(
            f"{subject} {file.name}",
            got=f"{video_info.frame_count} frames of {video_info.width}x{video_info.height}",
            expected=f"a clip of 49 frames (at most {LONGEST}), a square or a canvas",
            fix="cut the clip out, upright",
        )
    frames = decode_frames(file, video_info, range(video_info.frame_count))
    return torch.from_numpy(np.stack([picture for _, picture in frames])).float() / 255


def crop_pair(
    generated: Tensor,  # [T, H, W, 3]
    truth: Tensor,  # [T', H, W', 3]
) -> tuple[Tensor, Tensor]:  # [t, H, H, 3] each
    """Crop two videos to their ego views and to equal length."""
    frame_count = min(len(generated), len(truth))
    return ego_view(generated)[:frame_count], ego_view(truth)[:frame_count]


def ego_view(
    frames: Tensor,  # [T, H, W, 3] with W >= H
) -> Tensor:  # [T, H, H, 3]
    """Crop frames to their rightmost square, which shows the ego view."""
    return frames[:, :, -frames.shape[1] :]


def whole_canvas(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T', H, W', 3] float 0...1
    files: ClipFiles,
) -> Tensor | None:  # [t, H, W, 3] float 0...1
    """Put the exo and the ego video side by side.

    A video that is a canvas already is kept, and the exo half comes from the true canvas or
    the clip's exo video. Without an exo video the result is None.

    Raises:
        EgoXInputError: an exo video that is corrupt or shorter.
    """
    frame_count, height = min(len(generated), len(truth)), generated.shape[1]
    if generated.shape[2] > height:
        return generated[:frame_count]
    if truth.shape[2] > height:
        return torch.cat([truth[:frame_count, :, :-height], generated[:frame_count]], dim=2)
    exo_file = files.folder / EXO
    if not exo_file.is_file():
        return None
    width = height * CANVAS_ASPECT_RATIO[0] // CANVAS_ASPECT_RATIO[1]
    pictures = [
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        for _, picture in decode_frames(exo_file, probe_video(exo_file), range(frame_count))
    ]
    exo_frames = torch.from_numpy(np.stack(pictures)).float() / 255
    return torch.cat([exo_frames, generated[:frame_count]], dim=2)


def set_frames(
    frames: Tensor,  # [T, H, W, 3] float 0...1
) -> Tensor:  # [at most 16, 224, 224, 3] float 0...1
    """Resize an ego video for FVD as cd-fvd's loader does."""
    small_frames = torch.nn.functional.interpolate(
        ego_view(frames)[:FVD_FRAMES].movedim(-1, 1),
        size=(FVD_SIDE_PX, FVD_SIDE_PX),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return (small_frames.movedim(1, -1) * 255).floor() / 255


def require_scikit_image() -> ModuleType:
    """Import ``skimage.metrics``, or explain how to install it.

    Raises:
        EgoXInputError: not installed.
    """
    with needs_package("scikit-image", NAME, expected="the table1 extra"):
        import skimage.metrics
    return skimage.metrics


def luma_metrics(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> MetricValues:
    """Compute PSNR and SSIM of brightness with scikit-image.

    Raises:
        EgoXInputError: shapes that don't fit, scikit-image missing.
    """
    check_pair(generated, truth)
    skimage_metrics = require_scikit_image()
    psnr_values, ssim_values = [], []
    for generated_frame, true_frame in zip(_luma(generated), _luma(truth), strict=True):
        is_equal = np.array_equal(generated_frame, true_frame)
        psnr_values.append(
            EQUAL_DB
            if is_equal
            else skimage_metrics.peak_signal_noise_ratio(
                true_frame, generated_frame, data_range=255
            )
        )
        ssim_values.append(
            skimage_metrics.structural_similarity(
                true_frame,
                generated_frame,
                data_range=255,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        )
    return {"psnr": float(np.mean(psnr_values)), "ssim": float(np.mean(ssim_values))}


def _luma(frames: Tensor) -> np.ndarray:  # [T, H, W] float64
    return ((frames * 255).round().double() @ torch.tensor(LUMA, dtype=torch.float64)).numpy()


@frozen
class _Object:
    """Box and mask of one object in one frame."""

    box: tuple[int, int, int, int]  # left, top, right, bottom px; the last two just outside
    mask: np.ndarray  # [h, w] bool, cut to the box


def object_metrics(
    file: Path,
    clip: str,
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
    feature_network: Callable[[list[Tensor]], Tensor],  # crops [h, w, 3] -> unit vectors [N, d]
) -> MetricValues:
    """Average object metrics over all pairs of similar objects in the same frame.

    Raises:
        EgoXInputError: masks that can't be read, were made by other rules, or don't fit the videos.
    """
    masks = read_masks(file, clip, by_id=False, protocol=NAME)
    for video_masks in (masks.truth, masks.generated):
        if video_masks.shape[1] < len(truth) or video_masks.shape[2:] != tuple(truth.shape[1:3]):
            raise EgoXInputError(
                f"object masks {file.name}",
                got=f"{video_masks.shape[1:]} (frames, height, width)",
                expected=f"{tuple(truth.shape[:3])}, the ego views of both videos",
                fix=f"make them again: masks --protocol {NAME}",
            )
    figures = [
        pair_figures(true_object, generated_object)
        for frame in range(len(truth))
        for true_object, generated_object in _similar_pairs(
            *(
                _with_features(video_masks[:, frame], picture, feature_network)
                for video_masks, picture in (
                    (masks.truth, truth[frame]),
                    (masks.generated, generated[frame]),
                )
            )
        )
    ]
    mean_figures = (
        np.mean(figures, axis=0).tolist() if figures else [None] * len(_OBJECT_METRIC_KEYS)
    )
    return {
        **dict(zip(_OBJECT_METRIC_KEYS, mean_figures, strict=True)),
        "object_pairs": float(len(figures)),
    }


def _with_features(
    masks: np.ndarray,  # [N, H, W] bool, of one frame
    picture: Tensor,  # [H, W, 3] float 0...1
    feature_network: Callable[[list[Tensor]], Tensor],
) -> tuple[list[_Object], Tensor]:  # unit vectors [n, d]
    cropped_objects = [
        found_object for mask in masks if (found_object := _cropped_object(mask)) is not None
    ]
    object_crops = [
        picture[
            cropped_object.box[1] : cropped_object.box[3],
            cropped_object.box[0] : cropped_object.box[2],
        ]
        for cropped_object in cropped_objects
    ]
    return cropped_objects, feature_network(object_crops) if object_crops else torch.zeros(0, 1)


def _cropped_object(mask: np.ndarray) -> _Object | None:
    """Crop the object of a mask [H, W] to its box, or return None if it is missing or too small."""
    if np.count_nonzero(mask) < SMALLEST_MASK_PX:
        return None
    row_indices, column_indices = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top_row = row_indices[0]
    bottom_row = row_indices[-1] + 1
    left_column = column_indices[0]
    right_column = column_indices[-1] + 1
    if min(bottom_row - top_row, right_column - left_column) < SMALLEST_CROP_PX:
        return None
    return _Object(
        box=(int(left_column), int(top_row), int(right_column), int(bottom_row)),
        mask=mask[top_row:bottom_row, left_column:right_column],
    )


def _similar_pairs(
    true: tuple[list[_Object], Tensor], generated: tuple[list[_Object], Tensor]
) -> Iterator[tuple[_Object, _Object]]:
    (true_objects, true_features), (generated_objects, generated_features) = true, generated
    if true_objects and generated_objects:
        for row, column in (true_features @ generated_features.T >= ALIKE).nonzero().tolist():
            yield true_objects[row], generated_objects[column]


def pair_figures(true: _Object, generated: _Object) -> tuple[float, float, float]:
    """Compare two objects by the distance and overlap of their boxes and the overlap of their
    masks."""
    true_box, generated_box = (
        np.array(cropped_object.box, dtype=float).reshape(2, 2)
        for cropped_object in (true, generated)
    )
    overlap_area = np.prod(
        np.maximum(
            np.minimum(true_box[1], generated_box[1]) - np.maximum(true_box[0], generated_box[0]), 0
        )
    )
    union_area = (
        np.prod(true_box[1] - true_box[0])
        + np.prod(generated_box[1] - generated_box[0])
        - overlap_area
    )
    height, width = true.mask.shape
    resized_mask = cv2.resize(
        generated.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    ).astype(bool)
    return (
        float(np.linalg.norm(true_box.mean(axis=0) - generated_box.mean(axis=0))),
        float(overlap_area / union_area),
        float((true.mask & resized_mask).sum() / (true.mask | resized_mask).sum()),
    )
