"""Find masks of all objects in a picture with transformers' SAM 2, as sam2's automatic mask
generator does.

sam2 removes small holes and islands on the small logits, in a CUDA extension alone, and
transformers leaves them; here OpenCV's components do the same anywhere."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.errors import needs_package

from ..wan.weights import open_model_folder

POINTS, BATCH = 32, 64
"""Points a side, and points that are asked for at once."""
LEAST_PREDICTED_IOU, LEAST_STABILITY, STABILITY_OFFSET, DUPLICATE_BOX_IOU = 0.8, 0.95, 1.0, 0.7
SMALL_REGION = 2000
"""Pixels of the logits up to which a hole or an island goes."""
FILLED_LOGIT, EMPTIED_LOGIT = 10.0, -10.0
"""Logits that holes and islands get."""
SMALLEST_BOX_PX = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class AutoMasks:
    """SAM 2 image model that finds a mask for every object of a picture.

    Raises:
        EgoXInputError: transformers or torchvision missing or too old, no such folder.
    """

    def __init__(self, folder: Path, device: str, download_hint: str) -> None:
        (model,) = open_model_folder(
            folder,
            "Sam2Model",
            subject="SAM 2",
            expected="a SAM 2 folder",
            download_hint=download_hint,
        )
        with needs_package("torchvision", "object masks", expected="torchvision"):
            from torchvision.ops import masks_to_boxes, nms
        self.boxes_of, self.nms = masks_to_boxes, nms
        self.device, self.model = device, model.to(device)
        self.side_px = model.config.prompt_encoder_config.image_size

    @torch.no_grad()
    def __call__(
        self,
        picture: Tensor,  # [H, W, 3] float 0...1
    ) -> np.ndarray:  # [N, H, W] bool
        """Find one mask for each object of a picture, best first."""
        masks, scores = zip(*self._predict_masks(picture), strict=True)
        masks, scores = torch.cat(masks), torch.cat(scores)
        if not len(masks):
            return masks.numpy()
        mask_boxes = self.boxes_of(masks)
        kept_indices = self.nms(mask_boxes, scores, DUPLICATE_BOX_IOU)
        box_sizes = (
            mask_boxes[kept_indices, 2:] - mask_boxes[kept_indices, :2]
        )  # as sam2 counts them
        return masks[kept_indices[(box_sizes >= SMALLEST_BOX_PX).all(dim=1)]].numpy()

    def _predict_masks(self, picture: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Predict masks [n, H, W] and their predicted quality [n] for a grid of points."""
        size = (picture.shape[0], picture.shape[1])
        image_embeddings = self.model.get_image_embeddings(self._pixels(picture))
        steps = (torch.arange(POINTS) + 0.5) / POINTS * self.side_px
        point_grid = torch.cartesian_prod(steps, steps).flip(-1)
        for points in point_grid.split(BATCH):
            sam_output = self.model(
                image_embeddings=image_embeddings,
                input_points=points[None, :, None].to(self.device),
                multimask_output=True,
            )
            scores = sam_output.iou_scores[0].flatten().cpu()
            low_resolution_logits = (
                sam_output.pred_masks[0].flatten(0, 1).float().cpu()[scores > LEAST_PREDICTED_IOU]
            )
            logits = torch.nn.functional.interpolate(
                without_small_regions(low_resolution_logits)[:, None],
                size,
                mode="bilinear",
                align_corners=False,
            )[:, 0]
            is_stable = stability(logits) >= LEAST_STABILITY
            masks = logits[is_stable] > 0
            not_empty = masks.flatten(1).any(dim=1)
            yield masks[not_empty], scores[scores > LEAST_PREDICTED_IOU][is_stable][not_empty]

    def _pixels(self, picture: Tensor) -> Tensor:  # [1, 3, side, side]
        """Resize a picture to the square input of SAM 2."""
        pixels = torch.nn.functional.interpolate(
            picture.movedim(-1, 0)[None],
            (self.side_px, self.side_px),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        mean, std_deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        return ((pixels - mean) / std_deviation).to(self.device)


def stability(
    logits: Tensor,  # [N, H, W]
) -> Tensor:  # [N] 0...1
    """Compute how little each mask changes with the threshold of its logits."""
    high_counts, low_counts = (
        (logits > threshold).flatten(1).sum(dim=1)
        for threshold in (STABILITY_OFFSET, -STABILITY_OFFSET)
    )
    return high_counts / low_counts.clamp(min=1)


def without_small_regions(
    logits: Tensor,  # [N, h, w] float32
) -> Tensor:  # [N, h, w]
    """Fill small holes and remove small islands of masks.

    A pixel of an island that touches no hole is judged by the logits as they came, like sam2's.
    """
    cleaned_logits = logits.clone()
    for mask_index, picture in enumerate(logits.numpy()):
        cleaned_logits[mask_index][_small_regions(picture <= 0)] = FILLED_LOGIT
        cleaned_logits[mask_index][_small_regions(picture > 0)] = EMPTIED_LOGIT
    return cleaned_logits


def _small_regions(region_mask: np.ndarray) -> Tensor:  # [h, w] bool
    _, labels, component_stats, _ = cv2.connectedComponentsWithStats(
        region_mask.astype(np.uint8), connectivity=8
    )
    is_small = torch.from_numpy(component_stats[:, cv2.CC_STAT_AREA]) <= SMALL_REGION
    is_small[0] = False  # what isn't marked
    return is_small[torch.from_numpy(labels)]
