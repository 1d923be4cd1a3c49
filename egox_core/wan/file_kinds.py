"""Kinds of weight files, told by their headers alone: milliseconds, before gigabytes are read."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import EgoXInputError
from ..sizes import MODEL_CHANNELS
from .lora_keys import LORA_SUFFIXES, convert_lora, rename_parameter
from .weights import SCALE_PARTS, SCALES, read_header, size_words

REPACKAGED = "from Comfy-Org/Wan_2.1_ComfyUI_repackaged (its page has sizes and SHA-256)"
MODEL_FIX = (
    "load an image-to-video Wan transformer with 36 input channels: Wan 2.1 I2V 14B 480P or 720P (the released LoRA "
    "belongs to the 480P one), or the Wan 2.2 I2V high/low noise pair; text-to-video, Fun Control, VACE, Camera, "
    "Animate, S2V, HuMo, SCAIL and Dancer models have another input and can't hold the EgoX canvas"
)
WANTED: Mapping[str, tuple[str, str]] = {
    "model": (f"a plain Wan transformer with {MODEL_CHANNELS} input channels", MODEL_FIX),
    "text encoder": (
        "umT5 with its tokenizer, in ComfyUI's naming",
        f"take umt5_xxl_fp8_e4m3fn_scaled.safetensors or umt5_xxl_fp16.safetensors {REPACKAGED}",
    ),
    "VAE": (
        "the Wan 2.1 VAE, which Wan 2.2 14B uses too",
        f"take wan_2.1_vae.safetensors {REPACKAGED}",
    ),
    "CLIP vision": ("CLIP vision H", f"take clip_vision_h.safetensors {REPACKAGED}"),
}
"""Place of a file -> what it expects, and what to take."""
KINDS: tuple[tuple[str, str, str], ...] = (
    *((suffix, "LoRA", "a LoRA") for suffix in LORA_SUFFIXES if suffix != ".alpha"),
    *((end, "LoRA", "a LoKr") for end in (".lokr_w1", ".lokr_w1_a")),
    (".hada_w1_a", "LoRA", "a LoHa"),
    ("vace_patch_embedding.weight", "", "a Wan VACE transformer"),
    ("control_adapter.conv.weight", "", "a Wan Camera transformer"),
    ("casual_audio_encoder.encoder.final_linear.weight", "", "a Wan S2V transformer"),
    ("audio_proj.audio_proj_glob_1.layer.bias", "", "a HuMo transformer"),
    ("face_adapter.fuser_blocks.0.k_norm.weight", "", "a Wan Animate transformer"),
    ("patch_embedding_mask.weight", "", "a SCAIL transformer"),
    ("patch_embedding_pose.weight", "", "a SCAIL transformer"),
    ("patch_embedding_global.weight", "", "a Wan Dancer transformer"),
    ("ref_conv.weight", "", "a Wan transformer with a reference-picture input"),
    ("head.modulation", "model", "a Wan transformer"),
    ("condition_embedder.time_proj.weight", "model", "a Wan transformer"),
    ("block.1.layer.0.SelfAttention.relative_attention_bias.weight", "text encoder", "umT5"),
    ("block.1.layer.0.SelfAttention.q.weight", "", "T5 (t5xxl is FLUX's and SD3's), not umT5"),
    ("block.0.layer.0.SelfAttention.relative_attention_bias.weight", "text encoder", "umT5"),
    (
        "blocks.0.pos_embedding.embedding.weight",
        "",
        "umT5 in WanVideoWrapper's naming (umt5-xxl-enc), which ComfyUI's loader can't read",
    ),
    ("vision_model.embeddings.class_embedding", "CLIP vision", "a CLIP vision model"),
    ("text_model.encoder.layers.0.mlp.fc1.weight", "", "a CLIP text encoder"),
    ("decoder.upsamples.0.upsamples.0.residual.2.weight", "", "the Wan 2.2 5B VAE"),
    ("decoder.middle.0.residual.0.gamma", "VAE", "a Wan 2.1 VAE"),
    ("decoder.mid.block_1.norm1.weight", "", "a VAE of pictures (SD's or FLUX's)"),
    ("decoder.mid_block.resnets.0.norm1.weight", "", "a VAE in diffusers' naming"),
)
"""End of a tensor's name, place that its file fits or "", the file in words; the first found
counts."""
INPUTS: Mapping[int, str] = {16: "text-to-video", 48: "Fun Control, or the 5B"}
"""Input channels of other Wan transformers."""
VISION_WIDTH = 1280


def kind_of(header: Mapping) -> tuple[str | None, str]:
    """The place that a file fits ("": none here; None: nobody knows), and the file in words."""
    shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    dtypes = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    place, words = next(
        (kind for end, *kind in KINDS if any(name.endswith(end) for name in shapes)),
        (None, f"{len(shapes)} tensors of a different model, such as {next(iter(shapes), 'none')}"),
    )
    sizes = [s for name, s in shapes.items() if f".{name}".endswith(".patch_embedding.weight")]
    if words.endswith("transformer") and sizes and len(sizes[0]) > 1:
        channels = sizes[0][1]
        words += f" with {channels} input channels"
        if place and channels in INPUTS:
            words += f" ({INPUTS[channels]})"
        place = place if channels == MODEL_CHANNELS else ""
    if place == "text encoder" and not any(name.endswith("spiece_model") for name in shapes):
        place, words = "", f"{words} without its tokenizer (spiece_model)"
    sizes = [s for name, s in shapes.items() if name.endswith("embeddings.class_embedding")]
    if place == "CLIP vision" and sizes[0] != [VISION_WIDTH]:
        place, words = "", f"{words} of another width, {sizes[0]}"
    if any(name.endswith(SCALE_PARTS) for name in shapes):
        words += ", scaled float8" if any(d.startswith("F8_") for d in dtypes) else ", quantised"
    return place, words


def check_weights(file: Path, place: str, unknown: bool = False) -> None:
    """Refuse a file that isn't whole or doesn't fit its place, by its header alone.

    Args:
        place: model, text encoder, VAE, CLIP vision or LoRA.
        unknown: take a file of no known kind.

    Raises:
        EgoXInputError: says what the file is and what to take.
    """
    found, words = kind_of(read_header(file, place))
    if found != place and not (unknown and found is None):
        expected, fix = WANTED[place]
        raise EgoXInputError(
            place,
            got=f"{file.name!r} of {size_words(file.stat().st_size)}: {words}",
            expected=expected,
            fix=fix,
        )


def check_run_files(base: Path, lora: Path | None = None, vae: Path | None = None) -> None:
    """Refuse a run's single files that are no weights of the kind that is needed.

    See :func:`check_weights` and :func:`check_lora`; folders are read later.
    """
    for file, place in ((base, "model"), (vae, "VAE")):
        if file is not None and not file.is_dir():
            check_weights(file, place)
    if lora is not None:
        check_lora(lora, None if base.is_dir() else base)


def check_lora(file: Path, base: Path | None = None) -> None:
    """Refuse a LoRA that isn't whole, or whose matrices don't fit ``base``, by headers alone.

    Raises:
        EgoXInputError: as above; a base that isn't whole.
    """
    header = read_header(file, "LoRA")
    tensors: dict[str, Any] = {  # of which only the shapes are looked at
        name: SimpleNamespace(shape=tuple(entry["shape"]), ndim=len(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
        and not name.endswith((".alpha", ".dora_scale", *SCALES))
        and "magnitude" not in name
    }
    weights = {} if base is None else read_header(base, "model")
    try:
        lora = convert_lora(tensors)
        if base is not None:
            shapes = {
                native: tuple(entry["shape"])
                for name, entry in weights.items()
                if name != "__metadata__" and (native := rename_parameter(name)) is not None
            }
            lora.check_fits(shapes)
    except EgoXInputError as error:
        beside = f", on {base.name!r}: {kind_of(weights)[1]}" if base is not None else ""
        raise EgoXInputError(
            error.what,
            got=f"{error.got} in {file.name!r} of {size_words(file.stat().st_size)}: {kind_of(header)[1]}{beside}",
            expected=error.expected,
            fix=error.fix,
        ) from error
