"""Pack exo and ego latents into the model's input channels, and crop the ego half from its output.

Canvas: exo left, ego right. Channels: 16 noisy latent | 4 mask | 16 condition latent (quirks 21,
22). In the mask 1 = known (to the model; the host's conditioning mask is the inverse); ego columns
are never known. All tensors here are in model space (normalised latents) and [B, channels, t, h, w]
with sizes in latents.
"""

import torch
from torch import Tensor

from ..errors import EgoXInputError, check_choice
from ..sizes import MASK_CHANNELS, MODEL_CHANNELS, canvas_size, latent_frames
from ..types import MASK_MODES


def build_mask(
    mode: str, t: int, h: int, w_exo: int, w_ego: int
) -> Tensor:  # [1, 4, t, h, w_exo + w_ego]
    """Make the mask channels of the whole canvas (sizes in latents), with 1 for known latents.

    ``released``: the exo half of latent frame 0, all channels (the authors' inference, quirks 22).
    ``paper``: the whole exo half (Eq. 3). ``trainer``: as released, and also the exo half of the
    last latent frame in channel 3 (the released trainer leaves the last pixel frame marked, quirks
    33).

    Raises:
        EgoXInputError: unknown mode (``auto`` must be resolved before).
    """
    check_choice(
        "mask mode",
        mode,
        MASK_MODES,
        "choose one of them; auto is resolved by lora_settings.resolve_auto",
    )
    mask = torch.zeros(1, MASK_CHANNELS, t, h, w_exo + w_ego)
    if mode == "paper":
        mask[..., :w_exo] = 1
        return mask
    mask[:, :, 0, :, :w_exo] = 1
    if mode == "trainer":
        mask[:, MASK_CHANNELS - 1, -1, :, :w_exo] = 1
    return mask


def model_input(
    noisy_ego: Tensor,  # [B, 16, t, h, w_ego]
    exo: Tensor,  # [B or 1, 16, t, h, w_exo] clean
    mask: Tensor,  # [B or 1, 4, t, h, w_exo + w_ego]
    cond_exo: Tensor,  # [B or 1, 16, t, h, w_exo]
    cond_ego: Tensor,  # [B or 1, 16, t, h, w_ego] ego prior
) -> Tensor:  # [B, 36, t, h, w_exo + w_ego]
    """Pack the model's whole input of 36 channels as the released inference does (quirks 21).

    Raises:
        EgoXInputError: parts of different sizes.
    """
    ego = torch.cat(
        (
            noisy_ego,
            _repeat_batch(mask, noisy_ego)[..., exo.shape[-1] :],
            _repeat_batch(cond_ego, noisy_ego),
        ),
        dim=1,
    )
    return widen(ego, exo, mask[..., : exo.shape[-1]], cond_exo)


def widen(
    x_ego: Tensor,  # [B, 36, t, h, w_ego] what the host hands to the model for the ego half
    exo: Tensor,  # [B or 1, 16, t, h, w_exo] clean exo latent, model space
    mask_exo: Tensor,  # [B or 1, 4, t, h, w_exo]
    cond_exo: Tensor
    | None = None,  # [B or 1, 16, t, h, w_exo] condition latent; None: the clean exo latent itself
) -> Tensor:  # [B, 36, t, h, w_exo + w_ego]
    """Join the clean exo latents on the left with the ego input on the right.

    dtype and device follow ``x_ego``.

    Raises:
        EgoXInputError: the exo latent was made for another frame count or height, or the input
            hasn't 36 channels.
    """
    if x_ego.shape[1] != MODEL_CHANNELS:
        raise EgoXInputError(
            "model input",
            got=f"{x_ego.shape[1]} channels",
            expected=f"{MODEL_CHANNELS} channels",
            fix="load a Wan image-to-video model (36 input channels)",
        )
    if exo.shape[2:4] != x_ego.shape[2:4]:
        raise EgoXInputError(
            "exo latent of the canvas",
            got=_size_text(exo),
            expected=f"frames, height of {_size_text(x_ego)}",
            fix="sample the latent that came with this canvas",
        )
    cond_exo = exo if cond_exo is None else cond_exo
    exo_channels = torch.cat(
        [
            _repeat_batch(part.to(device=x_ego.device, dtype=x_ego.dtype), x_ego)
            for part in (exo, mask_exo, cond_exo)
        ],
        dim=1,
    )
    return torch.cat((exo_channels, x_ego), dim=-1)


def ego_half(latent: Tensor) -> Tensor:  # [B, 16, t, h, w] -> [B, 16, t, h, h]
    """Crop the square ego half from the right of a latent, and return a square latent unchanged.

    The ego image is as wide as it is high.
    """
    height, width = latent.shape[-2:]
    return latent[..., width - height :] if width > height else latent


def check_pictures(
    exo_images: Tensor,  # [T, H, W, 3]
    prior: Tensor,  # [T or more, H, W_ego, 3]
) -> tuple[int, Tensor]:  # T, prior [T, H, W_ego, 3]
    """Check that exo frames and prior make a canvas, and cut the prior to the exo frame count.

    Everything that can be wrong is refused before the VAE runs.

    Raises:
        EgoXInputError: frame count not 4n+1, sides not multiples of 16, prior shorter or of another
            height.
    """
    frame_count = exo_images.shape[0]
    latent_frames(frame_count)
    exo_size, ego_size = ((x.shape[2], x.shape[1]) for x in (exo_images, prior))
    canvas_size(exo_size, ego_size)
    if prior.shape[0] < frame_count:
        raise EgoXInputError(
            "ego prior length",
            got=f"{prior.shape[0]} frames",
            expected=f"{frame_count} frames",
            fix="render the prior for every frame of the exo video, or load fewer exo frames",
        )
    return frame_count, prior if len(prior) == frame_count else prior[:frame_count]


def _repeat_batch(tensor: Tensor, like: Tensor) -> Tensor:
    """Repeat a tensor along the batch to the batch size of ``like``, which may stack cond and
    uncond."""
    tensor_batch, target_batch = tensor.shape[0], like.shape[0]
    if tensor_batch == target_batch:
        return tensor
    if target_batch % tensor_batch:
        raise EgoXInputError(
            "batch of the canvas",
            got=f"{tensor_batch} clips",
            expected=f"a divisor of the batch {target_batch}",
            fix="sample as many latents as there are clips in the canvas",
        )
    return tensor.repeat(target_batch // tensor_batch, *([1] * (tensor.ndim - 1)))


def _size_text(latent: Tensor) -> str:
    t, h, w = latent.shape[-3:]
    return f"{t} latent frames of {h}x{w}"
