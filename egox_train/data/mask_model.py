"""Get masks of a clip's moving pixels from a segmentation model of transformers (Mask2Former,
SegFormer, ...).

Chosen by the labels of the model's own ``id2label``: whatever can move by itself or be moved
counts, whether it moves in this clip or not, as in the released pipeline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.safe_files import read_json_object

from ..wan.weights import model_on
from .prepare_options import PrepareOptions

MODEL_CLASSES: Mapping[str, str] = {
    "ForUniversalSegmentation": "AutoModelForUniversalSegmentation",
    "ForInstanceSegmentation": "AutoModelForUniversalSegmentation",
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
}
"""Class of transformers for an architecture, by the end of its name."""
BATCH = 4
SEGMENT_THRESHOLD = 0.5
"""Of a segment's score: a mask too large leaves a hole, one too small a person in the scene."""


@torch.no_grad()
def moving_masks(
    options: PrepareOptions,
    frames: Tensor,  # [T, H, W, 3] uint8
    device: str | None,  # None: a GPU where there is one
) -> Tensor:  # [T, H, W] bool
    """Segment frames with a model, and mark the pixels of the classes ``mask_classes``.

    Raises:
        EgoXInputError: see :func:`load_mask_model`.
    """
    image_processor, model = load_mask_model(options, device)
    label_ids = moving_labels(model.config.id2label, options.mask_classes)
    masks = []
    for batch in frames.split(BATCH):
        model_inputs = image_processor(
            images=[frame.numpy() for frame in batch],
            input_data_format="channels_last",
            return_tensors="pt",
        ).to(model.device)
        model_output = model(**model_inputs)
        frame_sizes = [tuple(frame.shape[:2]) for frame in batch]
        if hasattr(image_processor, "post_process_panoptic_segmentation"):
            segment_maps = image_processor.post_process_panoptic_segmentation(
                model_output,
                threshold=SEGMENT_THRESHOLD,
                label_ids_to_fuse=set(),
                target_sizes=frame_sizes,
            )
            masks += [
                _has_any_id(
                    segment_map["segmentation"],
                    [
                        segment["id"]
                        for segment in segment_map["segments_info"]
                        if segment["label_id"] in label_ids
                    ],
                )
                for segment_map in segment_maps
            ]
        else:
            segment_maps = image_processor.post_process_semantic_segmentation(
                model_output, target_sizes=frame_sizes
            )
            masks += [_has_any_id(segment_map, sorted(label_ids)) for segment_map in segment_maps]
    return torch.stack(masks)


def _has_any_id(label_map: Tensor, label_ids: Sequence[int]) -> Tensor:
    """Mark the pixels [H, W] whose label id is one of ``label_ids``."""
    return torch.isin(label_map.long().cpu(), torch.tensor(label_ids, dtype=torch.int64))


def moving_labels(id2label: Mapping[int, str], classes: Sequence[str]) -> frozenset[int]:
    """Find the label ids of the classes that count as moving."""
    class_names = {c.strip().lower() for c in classes}
    return frozenset(
        label_id
        for label_id, label in id2label.items()
        if class_names & {name.strip().lower() for name in label.replace(";", ",").split(",")}
    )


def load_mask_model(options: PrepareOptions, device: str | None) -> tuple[Any, Any]:
    """Load a segmentation model and its image processor, once per process and device.

    Raises:
        EgoXInputError: no transformers, no folder of a segmentation model, none of the classes
            among its labels, no such device.
    """
    folder = options.mask_model
    assert folder is not None  # callers ask whether there is one
    image_processor, model = model_on(
        device,
        folder,
        "AutoImageProcessor",
        _model_class(folder),
        subject="mask model",
        expected="the folder of a segmentation model with its image processor",
        download_hint="download one, such as Mask2Former (COCO)",
        alternative=", or give --mask-root",
    )
    labels = model.config.id2label
    if not moving_labels(labels, options.mask_classes):
        raise EgoXInputError(
            f"mask model {folder.name}",
            got=f"labels {', '.join(list(labels.values())[:8])}, ...",
            expected=f"one of {', '.join(options.mask_classes)}",
            fix="name its own labels with --mask-classes",
        )
    return image_processor, model


def _model_class(folder: Path) -> str:
    """Choose the auto class of transformers that loads the folder's segmentation architecture."""
    config = folder / "config.json"
    names = read_json_object(config, "mask model").get("architectures") if config.is_file() else ()
    for name in map(str, names if isinstance(names, list) else ()):
        for architecture_ending, model_class in MODEL_CLASSES.items():
            if name.endswith(architecture_ending) and not name.startswith(
                "OneFormer"
            ):  # it wants a task in words besides
                return model_class
    raise EgoXInputError(
        f"mask model {folder.name}",
        got=f"architecture {names or 'none'}",
        expected=f"one that ends in {', '.join(MODEL_CLASSES)}",
        fix="use Mask2Former, MaskFormer or SegFormer, or make masks elsewhere for --mask-root",
    )
