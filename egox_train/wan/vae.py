"""Load the Wan VAE from a diffusers folder or ComfyUI's single file, and run it without ComfyUI."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import load_file
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.wan import check_weights, denormalise_latent, normalise_latent

from .weights import subfolder


class VaeEncoder:
    """Wan VAE that encodes frames to latents and decodes them.

    Raises:
        EgoXInputError: nothing there, or no Wan 2.1 VAE.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = _load(path).eval().requires_grad_(False)
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            tensor.data = tensor.data.to(self.device, torch.float32)

    def encode(
        self,
        frames: Tensor,  # [T, H, W, 3] uint8, or float 0...1
    ) -> Tensor:  # [16, t, H / 8, W / 8] float32, model space, on the CPU
        """Encode one video to a normalised latent."""
        return normalise_latent(self.encode_raw(frames[None]))[0].cpu()

    @torch.no_grad()
    def encode_raw(
        self,
        frames: Tensor,  # [N, T, H, W, 3] uint8, or float 0...1
    ) -> Tensor:  # [N, 16, t, H / 8, W / 8] float32, raw, on the model's device
        """Encode several videos of one size to unnormalised latents."""
        video = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
        video = (video * 2 - 1).movedim(-1, 1).to(self.device)
        return self.model.encode(video).latent_dist.mode()

    def decode(
        self,
        latent: Tensor,  # [16, t, h, w] model space
    ) -> Tensor:  # [T, H, W, 3] float32 0...1, on the CPU
        """Decode one normalised latent to a video."""
        return self.decode_raw(denormalise_latent(latent[None].float()))[0]

    @torch.no_grad()
    def decode_raw(
        self,
        latents: Tensor,  # [N, 16, t, h, w] raw
    ) -> Tensor:  # [N, T, H, W, 3] float32 0...1, on the CPU
        """Decode several unnormalised latents of one size."""
        video = self.model.decode(latents.to(self.device, torch.float32)).sample.cpu()
        return ((video.movedim(1, -1) + 1) / 2).clamp(0, 1)


def _load(path: Path) -> AutoencoderKLWan:
    if path.is_dir():
        folder = subfolder(path, "vae")
        try:
            return AutoencoderKLWan.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise EgoXInputError(
                f"VAE folder {path.name}",
                got=str(error).splitlines()[0],
                expected="a Wan VAE",
                fix="give the diffusers folder of Wan 2.1, or its single VAE file",
            ) from error
    check_weights(path, "VAE")
    weights = {k: v.float() for k, v in load_file(path).items()}
    base_dim = weights["decoder.head.0.gamma"].shape[0]
    try:
        model = AutoencoderKLWan(base_dim=base_dim)
        model.load_state_dict(convert_wan_vae_to_diffusers(weights), strict=True)
    except (KeyError, RuntimeError) as error:
        raise EgoXInputError(
            f"VAE {path.name}",
            got=str(error).splitlines()[0][:200],
            expected="the Wan 2.1 VAE",
            fix="give wan_2.1_vae.safetensors; others, as that of Wan 2.2 5B, have other latents",
        ) from error
    return model
