"""Run the CLIP vision encoder of transformers, without ComfyUI."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from egox_core.errors import EgoXInputError, needs_package
from egox_core.wan import read_header

from .weights import subfolder

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
ATTENTION_HEAD_WIDTH = 80  # of ViT-H/14


def clip_pixels(
    pictures: Tensor,  # [N, H, W, 3] float 0...1
    size: int,  # px
    twice_rescaled: bool = False,  # as the released trainer does (quirks 39)
) -> Tensor:  # [N, 3, size, size] float32
    """Resize, crop and normalise pictures for CLIP.

    The shorter side is resized to ``size``, the middle square is cropped, and CLIP's mean
    and deviation are applied."""
    pictures = pictures.float().movedim(-1, 1)
    height, width = pictures.shape[-2:]
    resize_factor = size / min(height, width)
    pictures = interpolate(
        pictures,
        size=(max(size, round(height * resize_factor)), max(size, round(width * resize_factor))),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    # As the host and the released code hand it on: bytes.
    pictures = (pictures.clamp(0, 1) * 255).round() / 255
    crop_top, crop_left = (pictures.shape[-2] - size) // 2, (pictures.shape[-1] - size) // 2
    pictures = pictures[..., crop_top : crop_top + size, crop_left : crop_left + size]
    if twice_rescaled:
        pictures = pictures / 255
    mean, std_deviation = (
        torch.tensor(x, device=pictures.device).view(1, 3, 1, 1) for x in (MEAN, STD)
    )
    return (pictures - mean) / std_deviation


class VisionEncoder:
    """CLIP vision encoder, loaded from a folder or ComfyUI's single file.

    Raises:
        EgoXInputError: nothing there, no CLIP vision model.
    """

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.model = _load(path).to(self.device, dtype).train(False).requires_grad_(False)
        self.size = self.model.config.image_size

    @torch.no_grad()
    def encode(
        self,
        picture: Tensor,  # [1, H, W, 3] float 0...1
        twice_rescaled: bool = False,  # as the released trainer does (quirks 39)
    ) -> Tensor:  # [tokens, width] float32, on the CPU
        """Compute the CLIP embedding of one picture."""
        pixels = clip_pixels(picture, self.size, twice_rescaled).to(self.device, self.dtype)
        vision_output = self.model(pixels, output_hidden_states=True)
        return vision_output.hidden_states[-2][0].float().cpu()


def _load(path: Path):
    with needs_package("transformers", "CLIP vision", expected="the train extra"):
        import transformers
    if path.is_dir():
        folder = subfolder(path, "image_encoder")
        try:
            return transformers.CLIPVisionModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EgoXInputError(
                f"CLIP vision folder {path.name}",
                got=str(error).splitlines()[0],
                expected="a CLIP vision model",
                fix="give the diffusers folder of Wan I2V",
            ) from error
    file_words = f"CLIP vision {path.name}"
    if "vision_model.embeddings.class_embedding" not in read_header(path, file_words):
        raise EgoXInputError(
            file_words,
            got="tensors of a different model",
            expected="clip_vision_h.safetensors",
            fix="give the file of ComfyUI's models/clip_vision folder",
        )
    weights = {k: v.float() for k, v in load_file(path).items() if k.startswith("vision_model.")}
    model_width = weights["vision_model.embeddings.class_embedding"].shape[0]
    token_count = weights["vision_model.embeddings.position_embedding.weight"].shape[0]
    patch_side = weights["vision_model.embeddings.patch_embedding.weight"].shape[-1]
    layer_count = sum(k.endswith("self_attn.q_proj.weight") for k in weights)
    config = transformers.CLIPVisionConfig(
        hidden_size=model_width,
        num_hidden_layers=layer_count,
        num_attention_heads=max(1, model_width // ATTENTION_HEAD_WIDTH),
        patch_size=patch_side,
        image_size=round((token_count - 1) ** 0.5) * patch_side,
        hidden_act="gelu",
        intermediate_size=weights["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
    )
    model = transformers.CLIPVisionModel(config)
    if not any(
        k.startswith("vision_model.") for k in model.state_dict()
    ):  # transformers 5 dropped the prefix
        weights = {k.removeprefix("vision_model."): v for k, v in weights.items()}
    missing_names = model.load_state_dict(weights, strict=False).missing_keys
    missing_names = [k for k in missing_names if not k.endswith("position_ids")]
    if missing_names:
        raise EgoXInputError(
            file_words,
            got=f"no {missing_names[0]}",
            expected="all tensors of the model",
            fix="download it again",
        )
    return model
