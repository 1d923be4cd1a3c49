"""Rename the tensors of LoRA files and transformer checkpoints between diffusers' and ComfyUI's
names, by one table.

The tables: diffusers' names on the left, the native ones (ComfyUI, Wan's own) on the right; block
parts are relative to ``blocks.N.``. Verified on a whole converted transformer."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal

from torch import Tensor

from ..errors import EgoXInputError
from .weights import SCALES

MODEL_PARTS: Mapping[str, str] = {
    "patch_embedding": "patch_embedding",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "condition_embedder.image_embedder.pos_embed": "img_emb.emb_pos",
    "scale_shift_table": "head.modulation",
    "proj_out": "head.head",
}
BLOCK_PARTS: Mapping[str, str] = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "attn2.norm_added_k": "cross_attn.norm_k_img",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}
BARE_TENSORS = ("modulation", "img_emb.emb_pos")
"""Ends of native names of parts that are tensors themselves; all others have .weight and .bias."""
FILE_PREFIXES = (
    "base_model.model.transformer.",
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "",
)
"""Prefixes of these names in files, longest first."""
NATIVE_PREFIX = "diffusion_model."  # what the host's stock loader expects
DIFFUSERS_PREFIX = "transformer."  # what the released code saves (quirks, LoRA key names)
Naming = Literal["native", "diffusers"]
LORA_SUFFIXES: Mapping[str, str] = {  # as files have it -> as we write it
    ".lora_A.weight": ".lora_A.weight",
    ".lora_down.weight": ".lora_A.weight",
    ".lora.down.weight": ".lora_A.weight",
    ".lora_B.weight": ".lora_B.weight",
    ".lora_up.weight": ".lora_B.weight",
    ".lora.up.weight": ".lora_B.weight",
    ".alpha": ".alpha",
    ".dora_scale": ".dora_scale",
    ".lora_magnitude_vector": ".dora_scale",
    ".lora_magnitude_vector.weight": ".dora_scale",
    ".lora_mid.weight": ".lora_mid.weight",
}
MID_SUFFIX = ".lora_mid.weight"
"""A third matrix between the two, of convolutions; such a part is left out."""
FOREIGN: Mapping[str, str] = {
    "vace": "Wan VACE",
    "fuser|face_adapter|motion_encoder|pose_patch": "Wan Animate",
    "control|camera|ref_conv": "a control model",
    "audio|casual|trainable_cond": "Wan S2V or another model with sound",
    "double|single|joint": "FLUX or HunyuanVideo",
    r"te\d?[._]|t5|umt5|text_enc|text_model|llm": "a text encoder",
    "image_enc|vision|visual|clip": "a picture encoder",
    "vae|first_stage|decoder": "a VAE",
    "down_block|up_block|mid_block|input_block|output_block|middle_block": "a U-Net",
    "transformer_block|layers": "another video or picture model",
}
"""Beginning of a word in the name of a module (its prefix, where a block of Wan follows) -> the
model that has it."""
PRODUCTS: Mapping[str, str] = {
    "LoKr": r"lokr_(?:w[12](?:_[ab])?|t2)",
    "LoHa": r"hada_(?:w[12]_[ab]|t[12])",
    "OFT or BOFT": "oft_blocks|rescale",
    "GLoRA": r"[ab][12]\.weight",
    "set of whole differences": "diff(?:_b)?|set_weight|[wb]_norm",
}
"""Other changes of a weight than the product of two matrices, which the host's own loader knows, by
the end of their names."""
OF_HOSTS = re.compile(r"(lora_unet_blocks_\d+_|diffusion_model\.blocks\.\d+\.)(self|cross|ffn)")
"""Names that the host's stock loader knows."""
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_TABLES = (MODEL_PARTS, BLOCK_PARTS)
_OF_MODEL, _OF_BLOCK = (
    {native: diffusers for diffusers, native in table.items()} for table in _TABLES
)
_MODEL_WORDS, _BLOCK_WORDS = (
    {
        name.replace(".", "_"): native
        for diffusers, native in table.items()
        for name in (diffusers, native)
    }
    for table in _TABLES
)
BLOCK_MODULE_NAME = re.compile(
    r"((?:.+?\.)??|(?:lora_unet|lora_transformer|lycoris|unet)__?)(blocks[._](\d+)[._](.+))"
)
"""Prefix, place, number and part of a module of a block, in the spellings of all trainers."""
_PRODUCT = re.compile(rf"\.(?:{'|'.join(PRODUCTS.values())})$")
_ADAPTER = re.compile(r"(\.lora_(?:A|B|magnitude_vector))\.(?!weight$)[\w-]+((?:\.weight)?)$")


def rename_native_part(part: str, to: Naming) -> str:
    """Convert a module's native name, such as ``blocks.3.self_attn.q``, to another naming."""
    block = _BLOCK.fullmatch(part)
    if to == "native":
        return part
    return _OF_MODEL[part] if block is None else f"blocks.{block[1]}.{_OF_BLOCK[block[2]]}"


def is_lora(key: str) -> bool:
    """Check whether a tensor's name is that of a LoRA matrix."""
    return split_key(key)[1] in {*LORA_SUFFIXES.values()} - {".alpha"}


def product_of(key: str) -> str:
    """Name the LoRA variant (LoKr, LoHa, ...) of a tensor's name, or return "" for none."""
    match = _PRODUCT.search(key)
    if match is None:
        return ""
    return next(words for words, end in PRODUCTS.items() if re.fullmatch(end, match[0][1:]))


def convert_transformer(
    # Weights by name, with any known prefix.
    state: Mapping[str, Tensor],
    to: Naming = "native",
) -> tuple[dict[str, Tensor], tuple[str, ...]]:  # the same weights; keys that have no place
    """Rename the weights of a whole transformer checkpoint, without prefix.

    Raises:
        EgoXInputError: nothing matched.
    """
    tensors = {}
    unmatched = []
    for key, tensor in state.items():
        renamed = rename_parameter(key, to)
        if renamed is None:
            unmatched.append(key)
        else:
            tensors[renamed] = tensor
    if not tensors:
        raise EgoXInputError(
            "transformer checkpoint",
            got=f"{len(state)} tensors, such as {next(iter(state), 'none')}",
            expected="a Wan transformer in diffusers' or native names",
            fix="choose the transformer's own file, not the text encoder or VAE",
        )
    return tensors, tuple(unmatched)


def rename_parameter(key: str, to: Naming = "native") -> str | None:
    """Convert a parameter's name to another naming, or return None if it is no Wan parameter.

    It is a part with .weight, .bias or nothing, under a prefix as LoRA files have it.
    """
    part, dot, parameter = key.rpartition(".")
    if parameter not in ("weight", "bias"):
        part = key
        dot = ""
        parameter = ""
    native = name_native_parts([part]).get(part)
    if native is None or native.endswith(BARE_TENSORS) == bool(dot):
        return None
    return f"{rename_native_part(native, to)}{dot}{parameter}"


def split_key(key: str) -> tuple[str, str]:
    """Split a tensor's name in a file into the module's name and a normalised suffix."""
    for scale in SCALES:
        if key.endswith("." + scale):
            return key.removesuffix(scale) + "weight", scale
    key = _ADAPTER.sub(r"\1\2", key)
    for suffix, new_suffix in LORA_SUFFIXES.items():
        if key.endswith(suffix):
            return key.removesuffix(suffix), new_suffix
    if match := _PRODUCT.search(key):
        return key[: match.start()], match[0]
    module, dot, last_word = key.rpartition(".")
    return module, dot + last_word


def name_native_parts(modules: Collection[str]) -> dict[str, str]:
    """Map module names in a file to Wan's native names, leaving out modules of other models."""
    native_parts = {}
    prefixes = set(FILE_PREFIXES)
    for module in modules:
        block_match = BLOCK_MODULE_NAME.fullmatch(module)
        if block_match is None or _other_model(block_match[1]):
            continue
        part = _BLOCK_WORDS.get(block_match[4].replace(".", "_"))
        if part is not None:
            native_parts[module] = f"blocks.{block_match[3]}.{part}"
            prefixes.add(block_match[1])
    for prefix in sorted(prefixes, key=len):  # parts outside the blocks, under the same prefixes
        for module in modules:
            part = _MODEL_WORDS.get(module.removeprefix(prefix).replace(".", "_"))
            if part is not None and module.startswith(prefix):
                native_parts[module] = part
    return native_parts


def _other_model(name: str) -> str:
    """Name the other model that a module's name belongs to, or return "" for Wan."""
    return next(
        (words for start, words in FOREIGN.items() if re.search(rf"(?:^|[._])(?:{start})", name)),
        "",
    )


def count_kinds(keys: Collection[str]) -> str:
    """Count unused tensors by kind in one line, with an example of each."""
    example_keys = {}
    counts = Counter()
    for key in keys:
        other_model = _other_model(key)
        kind = (
            f"of {other_model}" if other_model else key.removesuffix(".weight").rpartition(".")[2]
        )
        counts[kind] += 1
        example_keys.setdefault(kind, key)
    return ", ".join(
        f"{count} {kind} (such as {example_keys[kind]})" for kind, count in counts.most_common(5)
    )
