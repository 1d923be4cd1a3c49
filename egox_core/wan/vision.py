"""The picture that CLIP vision sees, and CLIP vision outside the host.

Only models with an image embedding read it (Wan 2.1 I2V; Wan 2.2 I2V has none). ``released``: first
frame of the decoded noisy canvas, exo left and decoded NOISE right (quirks 26): what the authors'
inference feeds, oddity included, because their LoRA is used through it. ``exo+prior``: the clean
canvas's first frame. ``exo only``: the exo first frame. ``none``: no image embedding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import EgoXInputError, check_choice, needs_package
from ..types import IMAGE_EMBEDDING_MODES
from .weights import read_header, weights_hash

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
HEAD_WIDTH = 80  # of ViT-H/14


def noisy_canvas_latent(
    exo_latent: Tensor,  # [B, 16, t, h, w_exo] raw
    ego_noise: Tensor,  # [B, 16, t, h, w_ego] the sampler's own unit noise, model space
    to_raw: Callable[[Tensor], Tensor],  # model space -> raw (host: latent_format.process_out)
) -> Tensor:  # [B, 16, 1, h, w_exo + w_ego] raw
    """First latent frame of [exo | noise] as the VAE takes it; one is enough, since the VAE is causal in time."""
    noise = to_raw(ego_noise[:, :, :1].float()).to(exo_latent)
    return torch.cat((exo_latent[:, :, :1], noise), dim=-1)


def embedding_picture(
    mode: str,
    *,
    exo_frame: Tensor | None = None,  # exo modes: [1, H, W_exo, 3] float32 0...1, first exo frame
    prior_frame: Tensor
    | None = None,  # exo+prior: [1, H, W_ego, 3] float32 0...1, first frame of the ego prior
    exo_latent: Tensor | None = None,  # released: [B, 16, t, h, w_exo] raw
    ego_noise: Tensor | None = None,  # released: [B, 16, t, h, w_ego] unit noise
    to_raw: Callable[[Tensor], Tensor] | None = None,  # released
    decode: Callable[[Tensor], Tensor]
    | None = None,  # released: raw latent [B,16,1,h,w] -> frames [1, H, W, 3] 0...1
) -> Tensor | None:  # [1, H, W, 3] float32 0...1
    """The picture for CLIP vision in the given mode, or None in mode ``none``.

    Raises:
        EgoXInputError: unknown mode, or ``released`` without latent, noise and decoder.
    """
    if mode == "none":
        return None
    check_choice("image embedding", mode, IMAGE_EMBEDDING_MODES, "choose one of the named modes")
    if mode == "exo only" and exo_frame is not None:
        return exo_frame[:1]
    if mode == "exo+prior" and exo_frame is not None and prior_frame is not None:
        return torch.cat((exo_frame[:1], prior_frame[:1].to(exo_frame)), dim=2)
    if mode != "released":
        raise EgoXInputError(
            f"image embedding in mode {mode}",
            got="no first frame",
            expected="that of each video that the mode names",
            fix="give exo_frame, and prior_frame in mode exo+prior",
        )
    if exo_latent is None or ego_noise is None or to_raw is None or decode is None:
        raise EgoXInputError(
            "image embedding in mode released",
            got="no noise, latent or VAE",
            expected="exo latent, the sampler's noise and the VAE",
            fix="set noise_seed and connect the VAE",
        )
    frames = decode(noisy_canvas_latent(exo_latent[:1], ego_noise[:1], to_raw))
    return frames[:1].float().clamp(0, 1)


def embedding_note(
    mode: str,  # of IMAGE_EMBEDDING_MODES
    *,
    connected: bool,  # CLIP vision is there
    seeded: bool,  # the sampler's seed is known
) -> str:
    """Name the picture embedding that is made."""
    if mode == "none":
        return "no picture embedding (the model takes none, or it is switched off)"
    if not connected:
        return "no picture embedding (CLIP vision isn't connected; Wan 2.2 I2V needs none, Wan 2.1 I2V does)"
    if mode == "released" and not seeded:
        return "picture embedding released, with seed 0 because noise_seed is not set"
    return f"picture embedding {mode}"


class VisionEncoder:
    """CLIP vision from a folder or ComfyUI's single file (quirks 26, 28: shortest edge resized,
    centre crop, hidden state -2).

    Raises:
        EgoXInputError: nothing there, no CLIP vision model.
    """

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.model = _load(path).to(self.device, dtype).train(False).requires_grad_(False)
        self.size = self.model.config.image_size
        self.hash = weights_hash(
            path / "image_encoder" if (path / "image_encoder").is_dir() else path, "CLIP vision"
        )

    @torch.no_grad()
    def encode(
        self,
        picture: Tensor,  # [1, H, W, 3] float 0...1
        twice_rescaled: bool = False,  # as the released trainer does (quirks 39)
    ) -> Tensor:  # [tokens, width] float32, on the CPU
        """The embedding of one picture."""
        picture = picture.float().movedim(-1, 1)
        height, width = picture.shape[-2:]
        scale = self.size / min(height, width)
        size = (max(self.size, round(height * scale)), max(self.size, round(width * scale)))
        picture = interpolate(
            picture, size=size, mode="bicubic", antialias=True, align_corners=False
        )
        picture = (
            picture.clamp(0, 1) * 255
        ).round() / 255  # as the host and the released code hand it on: bytes
        top, left = (size[0] - self.size) // 2, (size[1] - self.size) // 2
        picture = picture[..., top : top + self.size, left : left + self.size]
        if twice_rescaled:
            picture = picture / 255
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
        out = self.model(
            ((picture - mean) / std).to(self.device, self.dtype), output_hidden_states=True
        )
        return out.hidden_states[-2][0].float().cpu()


def _load(path: Path):
    with needs_package("transformers", "CLIP vision", expected="the train extra"):
        import transformers
    if path.is_dir():
        folder = path / "image_encoder" if (path / "image_encoder").is_dir() else path
        try:
            return transformers.CLIPVisionModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EgoXInputError(
                f"CLIP vision folder {path.name}",
                got=str(error).splitlines()[0],
                expected="a CLIP vision model",
                fix="give the diffusers folder of Wan I2V",
            ) from error
    what = f"CLIP vision {path.name}"
    if "vision_model.embeddings.class_embedding" not in read_header(path, what):
        raise EgoXInputError(
            what,
            got="tensors of another model",
            expected="clip_vision_h.safetensors",
            fix="give the file of ComfyUI's models/clip_vision folder",
        )
    weights = {k: v.float() for k, v in load_file(path).items() if k.startswith("vision_model.")}
    width = weights["vision_model.embeddings.class_embedding"].shape[0]
    tokens = weights["vision_model.embeddings.position_embedding.weight"].shape[0]
    patch = weights["vision_model.embeddings.patch_embedding.weight"].shape[-1]
    layers = sum(k.endswith("self_attn.q_proj.weight") for k in weights)
    config = transformers.CLIPVisionConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // HEAD_WIDTH),
        patch_size=patch,
        image_size=round((tokens - 1) ** 0.5) * patch,
        hidden_act="gelu",
        intermediate_size=weights["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
    )
    model = transformers.CLIPVisionModel(config)
    if not any(
        k.startswith("vision_model.") for k in model.state_dict()
    ):  # transformers 5 dropped the prefix
        weights = {k.removeprefix("vision_model."): v for k, v in weights.items()}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    missing = [k for k in missing if not k.endswith("position_ids")]
    if missing:
        raise EgoXInputError(
            what,
            got=f"no {missing[0]}",
            expected="all tensors of the model",
            fix="download it again",
        )
    return model
