"""Tensor names and shapes of the stand-in models, as the host's loaders look for them.

Nothing here needs the host: VAE and encoders were written down from what its loaders read, and a test loads every file
through the stock loaders and asks for no missing and no unexpected key.
"""

from egox_core.frozen import frozen
from egox_core.wan import convert_transformer

Shapes = dict[str, tuple[int, ...]]

# the host's img_emb is fixed to it, and so is the picture encoder that feeds it
CLIP_VISION_WIDTH = 1280
LATENT_CHANNELS = 16


@frozen
class TransformerForm:
    """One Wan image-to-video transformer, small. ``heads`` and ``text_dim`` go into the metadata where they differ
    from what the host would guess (dim / 128 and 4096)."""

    dim: int = 128
    ffn_dim: int = 64
    layers: int = 2
    heads: int = 1
    text_dim: int = 4096
    image_embedding: bool = True
    in_channels: int = 36
    vace_channels: int = 0
    """Above 0: a Wan VACE, with one block for its control video (32 latent and 64 mask channels: 96)."""


WAN21_I2V = TransformerForm()
WAN22_I2V = TransformerForm(heads=2, text_dim=1024, image_embedding=False)
"""1024 wide text, because the demo's conditioning comes from the host's LotusConditioning, which needs no file."""

WAN21_VACE = TransformerForm(image_embedding=False, in_channels=LATENT_CHANNELS, vace_channels=96)
WAN21_FUN_CONTROL = TransformerForm(in_channels=3 * LATENT_CHANNELS)
"""The two that a workflow compares EgoX with."""


def _linear(shapes: Shapes, name: str, out_features: int, in_features: int) -> None:
    shapes[f"{name}.weight"] = (out_features, in_features)
    shapes[f"{name}.bias"] = (out_features,)


def _norm(shapes: Shapes, name: str, width: int) -> None:
    shapes[f"{name}.weight"] = (width,)
    shapes[f"{name}.bias"] = (width,)


def transformer_shapes(form: TransformerForm) -> Shapes:
    """Names and shapes of a Wan transformer in the native naming: diffusers' own class, renamed by our key table."""
    import torch
    from diffusers import WanTransformer3DModel

    image = (
        {"image_dim": CLIP_VISION_WIDTH, "added_kv_proj_dim": form.dim}
        if form.image_embedding
        else {}
    )
    with torch.device("meta"):
        model = WanTransformer3DModel(
            num_attention_heads=form.heads,
            attention_head_dim=form.dim // form.heads,
            in_channels=form.in_channels,
            out_channels=LATENT_CHANNELS,
            text_dim=form.text_dim,
            ffn_dim=form.ffn_dim,
            num_layers=form.layers,
            **image,
        )
    weights, _ = convert_transformer(model.state_dict())
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if form.vace_channels:
        shapes |= {
            f"vace_{name}": shape for name, shape in shapes.items() if name.startswith("blocks.0.")
        }
        _conv(shapes, "vace_patch_embedding", form.dim, form.vace_channels, 1, 2, 2)
        for projection in ("before_proj", "after_proj"):
            _linear(shapes, f"vace_blocks.0.{projection}", form.dim, form.dim)
    return shapes


def lora_shapes(form: TransformerForm, rank: int) -> Shapes:
    """A LoRA in the naming of the released file: diffusers modules, prefix ``transformer.``, no alpha."""
    shapes: Shapes = {}
    for i in range(form.layers):
        for attention in ("attn1", "attn2"):
            for projection in ("to_q", "to_k", "to_v", "to_out.0"):
                name = f"transformer.blocks.{i}.{attention}.{projection}"
                shapes[f"{name}.lora_A.weight"] = (rank, form.dim)
                shapes[f"{name}.lora_B.weight"] = (form.dim, rank)
    return shapes


def _conv(shapes: Shapes, name: str, out_channels: int, in_channels: int, *kernel: int) -> None:
    shapes[f"{name}.weight"] = (out_channels, in_channels, *kernel)
    shapes[f"{name}.bias"] = (out_channels,)


def _residual(shapes: Shapes, name: str, in_channels: int, out_channels: int) -> None:
    shapes[f"{name}.residual.0.gamma"] = (in_channels, 1, 1, 1)
    _conv(shapes, f"{name}.residual.2", out_channels, in_channels, 3, 3, 3)
    shapes[f"{name}.residual.3.gamma"] = (out_channels, 1, 1, 1)
    _conv(shapes, f"{name}.residual.6", out_channels, out_channels, 3, 3, 3)
    if in_channels != out_channels:
        _conv(shapes, f"{name}.shortcut", out_channels, in_channels, 1, 1, 1)


def _middle(shapes: Shapes, name: str, channels: int) -> None:
    _residual(shapes, f"{name}.middle.0", channels, channels)
    shapes[f"{name}.middle.1.norm.gamma"] = (channels, 1, 1)
    _conv(shapes, f"{name}.middle.1.to_qkv", 3 * channels, channels, 1, 1)
    _conv(shapes, f"{name}.middle.1.proj", channels, channels, 1, 1)
    _residual(shapes, f"{name}.middle.2", channels, channels)


def vae_shapes(dim: int) -> Shapes:
    """The Wan 2.1 VAE with ``dim`` base channels: 8 x 8 in space, 4 in time, 16 latent channels."""
    shapes: Shapes = {}
    _conv(shapes, "encoder.conv1", dim, 3, 3, 3, 3)
    widths, layer = (dim, dim, 2 * dim, 4 * dim, 4 * dim), 0
    for level in range(4):
        for in_channels in (widths[level], widths[level + 1]):
            _residual(shapes, f"encoder.downsamples.{layer}", in_channels, widths[level + 1])
            layer += 1
        if level < 3:
            _conv(
                shapes,
                f"encoder.downsamples.{layer}.resample.1",
                widths[level + 1],
                widths[level + 1],
                3,
                3,
            )
            if level > 0:  # the first halving is in space only
                _conv(
                    shapes,
                    f"encoder.downsamples.{layer}.time_conv",
                    widths[level + 1],
                    widths[level + 1],
                    3,
                    1,
                    1,
                )
            layer += 1
    _middle(shapes, "encoder", 4 * dim)
    shapes["encoder.head.0.gamma"] = (4 * dim, 1, 1, 1)
    _conv(shapes, "encoder.head.2", 2 * LATENT_CHANNELS, 4 * dim, 3, 3, 3)
    _conv(shapes, "conv1", 2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1, 1, 1)
    _conv(shapes, "conv2", LATENT_CHANNELS, LATENT_CHANNELS, 1, 1, 1)
    _conv(shapes, "decoder.conv1", 4 * dim, LATENT_CHANNELS, 3, 3, 3)
    _middle(shapes, "decoder", 4 * dim)
    layer, channels = 0, 4 * dim
    for level, width in enumerate((4 * dim, 4 * dim, 2 * dim, dim)):
        for _ in range(3):
            _residual(shapes, f"decoder.upsamples.{layer}", channels, width)
            channels, layer = width, layer + 1
        if level < 3:
            _conv(shapes, f"decoder.upsamples.{layer}.resample.1", width // 2, width, 3, 3)
            if level < 2:  # the last doubling is in space only
                _conv(shapes, f"decoder.upsamples.{layer}.time_conv", 2 * width, width, 3, 1, 1)
            channels, layer = width // 2, layer + 1
    shapes["decoder.head.0.gamma"] = (dim, 1, 1, 1)
    _conv(shapes, "decoder.head.2", 3, dim, 3, 3, 3)
    return shapes


def umt5_shapes(vocabulary: int) -> Shapes:
    """A one-layer umT5 encoder, 4096 wide as the transformer's text input asks."""
    block, width, inner, ffn_dim = "encoder.block.0.layer", 4096, 64, 64
    return {
        "shared.weight": (vocabulary, width),
        f"{block}.0.SelfAttention.q.weight": (inner, width),
        f"{block}.0.SelfAttention.k.weight": (inner, width),
        f"{block}.0.SelfAttention.v.weight": (inner, width),
        f"{block}.0.SelfAttention.o.weight": (width, inner),
        f"{block}.0.SelfAttention.relative_attention_bias.weight": (32, 1),
        f"{block}.0.layer_norm.weight": (width,),
        f"{block}.1.DenseReluDense.wi_0.weight": (ffn_dim, width),
        f"{block}.1.DenseReluDense.wi_1.weight": (ffn_dim, width),
        f"{block}.1.DenseReluDense.wo.weight": (width, ffn_dim),
        f"{block}.1.layer_norm.weight": (width,),
        "encoder.final_layer_norm.weight": (width,),
        # A marker only: the host tells a T5-XXL by the shape of this tensor, which the small model has no use for.
        "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 1),
    }


def clip_vision_shapes() -> Shapes:
    """A CLIP ViT-H/14 with few layers and a narrow feed-forward: 257 tokens, 1280 wide."""
    width, ffn_dim = CLIP_VISION_WIDTH, 64
    shapes: Shapes = {
        "vision_model.embeddings.class_embedding": (width,),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": (257, width),
        "visual_projection.weight": (1024, width),
    }
    _norm(shapes, "vision_model.pre_layrnorm", width)
    _norm(shapes, "vision_model.post_layernorm", width)
    for layer in (f"vision_model.encoder.layers.{i}" for i in range(2)):
        _norm(shapes, f"{layer}.layer_norm1", width)
        _norm(shapes, f"{layer}.layer_norm2", width)
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            _linear(shapes, f"{layer}.self_attn.{projection}", width, width)
        _linear(shapes, f"{layer}.mlp.fc1", ffn_dim, width)
        _linear(shapes, f"{layer}.mlp.fc2", width, ffn_dim)
    return shapes
