"""List names and shapes of the stand-in models' tensors, as ComfyUI's loaders expect them.

Nothing here needs ComfyUI: names and shapes are those of diffusers' and transformers' classes,
and a test loads every file by ComfyUI's loaders and allows no missing and no unexpected key.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from egox_core.frozen import frozen
from egox_core.wan import convert_transformer, read_header
from tools.setup.layout import REPO_ROOT

Shapes = dict[str, tuple[int, ...]]

# the host's img_emb is fixed to it, and so is the picture encoder that feeds it
CLIP_VISION_WIDTH = 1280
LATENT_CHANNELS = 16
DEMO_VAE = REPO_ROOT / "models" / "demo" / "vae" / "egox_demo_vae.safetensors"


@frozen
class TransformerForm:
    """Describe a small Wan image-to-video transformer.

    ``heads`` and ``text_dim`` are stored in the metadata if they differ from what ComfyUI
    assumes (dim / 128 and 4096)."""

    dim: int = 128
    ffn_dim: int = 64
    layers: int = 2
    heads: int = 1
    text_dim: int = 4096
    image_embedding: bool = True
    in_channels: int = 36
    vace_channels: int = 0
    """If above 0, the channels of a Wan VACE's control video (32 latent and 64 mask channels:
    96), which has one block."""


WAN21_I2V = TransformerForm()
WAN22_I2V = TransformerForm(heads=2, text_dim=1024, image_embedding=False)
"""Form with text of width 1024, because the demo's conditioning comes from ComfyUI's
LotusConditioning, which needs no file."""

WAN21_VACE = TransformerForm(image_embedding=False, in_channels=LATENT_CHANNELS, vace_channels=96)
WAN21_FUN_CONTROL = TransformerForm(in_channels=3 * LATENT_CHANNELS)
"""Forms of the two models with which a workflow compares EgoX."""


def transformer_shapes(form: TransformerForm) -> Shapes:
    """List names and shapes of a Wan transformer under native names, converted from diffusers'
    class."""
    from diffusers import WanTransformer3DModel

    image = (
        {"image_dim": CLIP_VISION_WIDTH, "added_kv_proj_dim": form.dim}
        if form.image_embedding
        else {}
    )
    diffusers_shapes = _shapes(
        WanTransformer3DModel,
        num_attention_heads=form.heads,
        attention_head_dim=form.dim // form.heads,
        in_channels=form.in_channels,
        out_channels=LATENT_CHANNELS,
        text_dim=form.text_dim,
        ffn_dim=form.ffn_dim,
        num_layers=form.layers,
        **image,
    )
    shapes, _ = convert_transformer(diffusers_shapes)
    if form.vace_channels:
        shapes |= {
            f"vace_{name}": shape for name, shape in shapes.items() if name.startswith("blocks.0.")
        }
        shapes["vace_patch_embedding.weight"] = (form.dim, form.vace_channels, 1, 2, 2)
        shapes["vace_patch_embedding.bias"] = (form.dim,)
        for projection in ("before_proj", "after_proj"):
            shapes[f"vace_blocks.0.{projection}.weight"] = (form.dim, form.dim)
            shapes[f"vace_blocks.0.{projection}.bias"] = (form.dim,)
    return shapes


def lora_shapes(form: TransformerForm, rank: int) -> Shapes:
    """List the shapes of a LoRA under the released file's names: diffusers modules, prefix
    ``transformer.``, no alpha."""
    shapes: Shapes = {}
    for i in range(form.layers):
        for attention in ("attn1", "attn2"):
            for projection in ("to_q", "to_k", "to_v", "to_out.0"):
                name = f"transformer.blocks.{i}.{attention}.{projection}"
                shapes[f"{name}.lora_A.weight"] = (rank, form.dim)
                shapes[f"{name}.lora_B.weight"] = (form.dim, rank)
    return shapes


def vae_shapes(dim: int) -> Shapes:
    """List the shapes of the Wan 2.1 VAE with ``dim`` base channels under native names, from
    diffusers' class."""
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    names = read_header(DEMO_VAE, "VAE").keys() - {"__metadata__"}
    native_of = convert_wan_vae_to_diffusers({name: name for name in names})
    return {
        native_of[name]: shape for name, shape in _shapes(AutoencoderKLWan, base_dim=dim).items()
    }


def umt5_shapes(config: Mapping[str, int]) -> Shapes:
    """List the shapes of a umT5 encoder of width 4096, which the transformer's text input needs."""
    from transformers import UMT5Config, UMT5EncoderModel

    shapes = _shapes(UMT5EncoderModel, UMT5Config(**config, d_model=4096))
    del shapes["encoder.embed_tokens.weight"]  # is "shared.weight"
    # A marker only: the host tells a T5-XXL by the shape of this tensor, which the small model has
    # no use for.
    return shapes | {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 1)}


def clip_vision_shapes(config: Mapping[str, Any]) -> Shapes:
    """List the shapes of a CLIP image encoder with its projection."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return _shapes(CLIPVisionModelWithProjection, CLIPVisionConfig(**config))


def _shapes(kind: Callable[..., Any], *arguments: Any, **options: Any) -> Shapes:
    """List names and shapes of a model's tensors, without memory for them."""
    with torch.device("meta"):
        model = kind(*arguments, **options)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
