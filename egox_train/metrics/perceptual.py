"""Measure the perceptual metrics LPIPS and CLIP-I with weights from local files."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from egox_core.errors import EgoXInputError, needs_package
from egox_core.metrics import check_pair
from egox_core.wan import read_header

from ..wan.vision import clip_pixels
from ..wan.weights import open_model_folder
from .columns import CLIP_WEIGHTS, LPIPS_WEIGHTS

BATCH = 8
LPIPS_SMALLEST = 63
"""Pixels a side that AlexNet's last layer needs."""


class Lpips:
    """LPIPS network (AlexNet), which measures the perceptual distance between frames.

    Raises:
        EgoXInputError: torchmetrics or torchvision missing, the file missing or of another model.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        with needs_package("torchmetrics", "LPIPS", expected="the evaluate extra"):
            from torchmetrics.functional.image.lpips import _LPIPS
        read_header(weights, "LPIPS weights")
        # Most of the file is the classifier, which LPIPS has no use for.
        feature_weights = {k: v for k, v in load_file(weights).items() if k.startswith("features.")}
        self.model = _LPIPS(net="alex", pretrained=True, pnet_rand=True)
        layer_names = {
            k: k.split(".", 1)[1] for k in self.model.net.state_dict()
        }  # slice2.3.weight -> 3.weight
        try:
            self.model.net.load_state_dict(
                {
                    k: feature_weights[f"features.{layer}"].float()
                    for k, layer in layer_names.items()
                }
            )
        except (KeyError, RuntimeError) as error:
            raise EgoXInputError(
                "LPIPS weights",
                got=f"{weights.name!r} without {str(error).splitlines()[0]}",
                expected="AlexNet of torchvision",
                fix=LPIPS_WEIGHTS,
            ) from error
        self.device, self.model = device, self.model.to(device)

    @torch.no_grad()
    def __call__(
        self,
        generated: Tensor,  # [T, H, W, 3] float 0...1
        truth: Tensor,  # [T, H, W, 3] float 0...1
        spatial: bool = False,
    ) -> Tensor:  # [T]; spatial: [T, H, W]
        """Compute the LPIPS distance of each pair of frames, 0 for equal frames.

        Raises:
            EgoXInputError: see image.check_pair; pictures under 63 px.
        """
        check_pair(generated, truth)
        if min(truth.shape[1:3]) < LPIPS_SMALLEST:
            raise EgoXInputError(
                "LPIPS",
                got=f"{truth.shape[2]}x{truth.shape[1]} px",
                expected=f"at least {LPIPS_SMALLEST}x{LPIPS_SMALLEST}",
                fix="leave --lpips out",
            )
        self.model.spatial = spatial
        pairs = zip(generated.split(BATCH), truth.split(BATCH), strict=True)
        device_pairs = (
            [x.to(self.device).float().movedim(-1, 1) for x in frame_batch] for frame_batch in pairs
        )
        distances = torch.cat(
            [self.model(*frame_batch, normalize=True).cpu() for frame_batch in device_pairs]
        )
        return distances[:, 0] if spatial else distances.flatten()


class ClipImage:
    """CLIP network, which measures the similarity of two frames by their embeddings.

    Raises:
        EgoXInputError: transformers missing, no CLIP folder.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        (self.model,) = open_model_folder(
            folder,
            "CLIPVisionModelWithProjection",
            subject="CLIP-I",
            expected="a CLIP folder",
            download_hint=CLIP_WEIGHTS,
        )
        self.device, self.model = device, self.model.to(device)

    @torch.no_grad()
    def __call__(
        self,
        generated: Tensor,  # [T, H, W, 3] float 0...1
        truth: Tensor,  # [T, H, W, 3] float 0...1
    ) -> Tensor:  # [T] -1...1
        """Compute the cosine similarity of CLIP embeddings for each pair of frames."""
        check_pair(generated, truth)
        pairs = zip(generated.split(BATCH), truth.split(BATCH), strict=True)
        return torch.cat(
            [
                torch.nn.functional.cosine_similarity(self._embed(a), self._embed(b))
                for a, b in pairs
            ]
        )

    def _embed(self, frames: Tensor) -> Tensor:
        pixels = clip_pixels(frames.to(self.device), self.model.config.image_size)
        return self.model(pixels).image_embeds.cpu()
