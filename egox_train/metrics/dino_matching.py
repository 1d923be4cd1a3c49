"""Match objects of the generated video to those of the true one by DINO features."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.errors import check_choice
from egox_core.frame_store import sample_frames
from egox_core.safe_files import read_json_object

from ..data.depth_model import imagenet_pictures
from ..data.object_masks import ObjectMasks
from ..wan.weights import open_model_folder
from .columns import DINO_WEIGHTS

MODELS = {"dinov3_vit": "DINOv3ViTModel", "dinov2": "Dinov2Model"}
"""The class of transformers, by a folder's ``model_type``."""
SIDE_PATCHES = 16
"""Patches of the picture's shorter side at least: small pictures are enlarged, so that an object
has patches at all."""
BATCH = 64
"""Crops that the network looks at together."""
FRAMES = 8
"""Frames of each video that are looked at, spread over it."""


class DinoFeatures:
    """Patch features of frames from a DINOv3 or DINOv2 network.

    Raises:
        EgoXInputError: transformers missing or without that model, no such folder.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        config = folder / "config.json"
        network_kind = "dinov2"
        if config.is_file():
            network_kind = str(read_json_object(config, "DINO matching").get("model_type"))
        check_choice(f"model_type of {folder.name}", network_kind, MODELS, fix=DINO_WEIGHTS)
        (self.model,) = open_model_folder(
            folder,
            MODELS[network_kind],
            subject="DINO matching",
            expected="a DINOv3 or DINOv2 folder",
            download_hint=DINO_WEIGHTS,
        )
        self.device, self.model = device, self.model.to(device)
        # The picture's own token comes first, then those that DINOv3 has for itself.
        self.special_token_count = 1 + getattr(self.model.config, "num_register_tokens", 0)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,  # [T, H, W, 3] float 0...1
    ) -> Tensor:  # [T, h, w, d]
        """Compute DINO features for the patches of each frame."""
        patch_side = self.model.config.patch_size
        height, width = frames.shape[1:3]
        scale = max(1.0, SIDE_PATCHES * patch_side / min(height, width))
        row_count, column_count = (max(1, round(n * scale / patch_side)) for n in (height, width))
        pictures = imagenet_pictures(
            frames, (row_count * patch_side, column_count * patch_side)
        ).to(self.device)
        tokens = torch.stack(
            [
                self.model(picture[None]).last_hidden_state[0, self.special_token_count :].cpu()
                for picture in pictures
            ]
        )
        return tokens.unflatten(1, (row_count, column_count))


class CropFeatures:
    """Features of image crops from a DINOv3 network.

    Raises:
        EgoXInputError: transformers missing or without DINOv3, no such folder.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.processor, self.model = open_model_folder(
            folder,
            "AutoImageProcessor",
            MODELS["dinov3_vit"],
            subject="matching of objects",
            expected="a DINOv3 folder with its preprocessor_config.json",
            download_hint=DINO_WEIGHTS,
        )
        self.device, self.model = device, self.model.to(device)
        self.special_token_count = 1 + self.model.config.num_register_tokens

    @torch.no_grad()
    def __call__(
        self,
        crops: Sequence[Tensor],  # [h, w, 3] float 0...1
    ) -> Tensor:  # [N, d] of length 1
        """Compute one unit feature vector for each image crop."""
        before_norm: list[Tensor] = []
        norm_hook = self.model.norm.register_forward_pre_hook(
            lambda module, inputs: before_norm.append(
                inputs[0][:, self.special_token_count :].mean(dim=1).cpu()
            )
        )
        try:
            for start in range(0, len(crops), BATCH):
                pictures = [
                    (crop * 255).round().byte().numpy() for crop in crops[start : start + BATCH]
                ]
                pixels = self.processor(
                    pictures, return_tensors="pt", input_data_format="channels_last"
                ).pixel_values
                self.model(pixels.to(self.device))
        finally:
            norm_hook.remove()
        return torch.nn.functional.normalize(torch.cat(before_norm), dim=-1)


def object_features(
    masks: np.ndarray,  # [N, T, H, W] bool
    features: Tensor,  # [T, h, w, d] of patches
) -> np.ndarray:  # [N, d] float64
    """Compute a unit feature vector for each object from the DINO features of its patches.

    It is zero where an object has no patch.

    A patch counts by the share of it that the mask covers.
    """
    size = features.shape[2::-1][:2]  # (w, h)
    feature_vectors = np.zeros((len(masks), features.shape[-1]))
    values = features.double().numpy()
    for object_index, frames in enumerate(masks):
        patch_masks = np.stack(
            [cv2.resize(f.astype(np.float32), size, interpolation=cv2.INTER_AREA) for f in frames]
        )
        feature_sum = (patch_masks[..., None] * values).sum(axis=(0, 1, 2))
        feature_norm = np.linalg.norm(feature_sum)
        feature_vectors[object_index] = (
            feature_sum / feature_norm if feature_norm > 0 and patch_masks.any() else 0
        )
    return feature_vectors


def match_by_features(
    masks: ObjectMasks,
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
    dino: Callable[[Tensor], Tensor],  # DinoFeatures
) -> ObjectMasks:
    """Match each true object to the most similar generated object by DINO features.

    The assignment has the greatest sum of cosines. True objects that are left over get empty
    masks. Generated ones that are left over are dropped.

    ``masks.truth`` [N, ...] and ``masks.generated`` [M, ...] need not correspond.
    """
    from scipy.optimize import linear_sum_assignment

    generated_masks = masks.generated
    frame_indices = sample_frames(len(truth), FRAMES)
    true_features, generated_features = (
        object_features(object_masks[:, frame_indices], dino(frames[frame_indices]))
        for object_masks, frames in ((masks.truth, truth), (generated_masks, generated))
    )
    matched_masks = np.zeros_like(masks.truth)
    for true_object, best_match in zip(
        *linear_sum_assignment(-(true_features @ generated_features.T)), strict=True
    ):
        matched_masks[true_object] = generated_masks[best_match]
    return ObjectMasks(ids=masks.ids, truth=masks.truth, generated=matched_masks)
