"""Rename LoRA files and transformer checkpoints between diffusers' and ComfyUI's names, by one
table.

The host's stock loader skips files in the released naming
(``transformer.blocks.0.attn1.to_q.lora_A.weight``) without an error, so conversions here count what
they matched and refuse a file that matches nothing.

The tables: diffusers' names on the left, the native ones (ComfyUI, Wan's own) on the right; block
parts are relative to ``blocks.N.``. Verified on a whole converted transformer."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frozen import frozen
from ..safe_files import parse_json, read_json
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
PEFT_METADATA_KEY = "lora_adapter_metadata"
"""Metadata key under which newer diffusers keep alpha and rank; the released files don't have it
(quirks 41)."""
PEFT_FILES = "adapter_model.safetensors", "adapter_config.json"
"""PEFT's own names of a LoRA's weights, which have no alpha, and of the settings beside them."""
WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
"""Types of numbers that need a scale."""
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
RELEASED_FILE = "pytorch_lora_weights.safetensors"
"""File name of the authors' release and, by diffusers' habit, of many another LoRA."""
RELEASED_RANK = 256
OF_WAN_21 = (
    "made for Wan 2.1 I2V, while this model takes no picture embedding (Wan 2.2): load "
    "wan2.1_i2v_480p_14B_fp8_scaled.safetensors, or a LoRA of Wan 2.2"
)
RELEASED_PARTS = tuple(
    f"{attention}.{part}" for attention in ("self_attn", "cross_attn") for part in "qkvo"
)
"""Modules of each block that the released training changes (quirks, LoRA key names)."""
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
_PLACE = re.compile(
    r"((?:.+?\.)??|(?:lora_unet|lora_transformer|lycoris|unet)__?)(blocks[._](\d+)[._](.+))"
)
_PRODUCT = re.compile(rf"\.(?:{'|'.join(PRODUCTS.values())})$")
_ADAPTER = re.compile(r"(\.lora_(?:A|B|magnitude_vector))\.(?!weight$)[\w-]+((?:\.weight)?)$")
_REPEATED = re.compile(r"\)[*+?{]|[*+?{].*[*+?{]")  # patterns that may take for ever


@frozen
class LoraConversion:
    """Renamed LoRA, with a record of what became of each tensor of its file."""

    tensors: dict[str, Tensor]  # e.g. diffusion_model.blocks.0.self_attn.q.lora_A.weight [r, in]
    matched: int  # tensors of the file that were renamed
    unmatched: tuple[str, ...]  # keys of the file without a place in the model
    others: dict[str, Tensor]  # of these, what only the host may know, named as far as we can
    sources: Mapping[str, str]  # new name -> key of the file, of the matched ones and of others
    ranks: tuple[int, ...]  # the different ranks, falling
    # The different values of alpha / rank in falling order; 1.0 if the file names no alpha.
    scales: tuple[float, ...]
    remark: str = ""  # a warning for people

    @property
    def of_host(self) -> dict[str, Tensor]:
        """Tensors of other LoRA kinds, under names that ComfyUI's own loader reads."""
        return {name: x for name, x in self.others.items() if name.startswith(NATIVE_PREFIX)}

    @property
    def report(self) -> str:
        """Summary of the conversion in one line."""
        ranks, scales = (
            ", ".join(f"{x:g}" for x in values) for values in (self.ranks, self.scales)
        )
        summary = f"{self.matched} tensors matched, {len(self.unmatched)} unmatched; rank {ranks}; alpha/rank {scales}"
        summary += f"; not used: {_count_kinds(self.unmatched)}" if self.unmatched else ""
        return summary + (f"; warning: {self.remark}" if self.remark else "")

    def report_on(self, shapes: Mapping[str, tuple[int, ...]], file_name: str) -> str:
        """Describe which tensors were renamed, and how the LoRA fits a model with weights of these
        ``shapes``.

        Raises:
            EgoXInputError: as :meth:`check_fits`.
        """
        missing_parts = self.check_fits(shapes)
        release_note = self._released_note(file_name)
        is_for_wan_21 = release_note == "" or any(
            "cross_attn.k_img" in name for name in missing_parts
        )
        has_picture_input = any(name.startswith("img_emb.") for name in shapes)
        notes = [
            self.report,
            release_note,
            OF_WAN_21 if is_for_wan_21 and not has_picture_input else "",
        ]
        if missing_parts:
            notes.append(
                f"{len(missing_parts)} parts are not in this model, such as {missing_parts[0]}"
            )
        return "; ".join(note for note in notes if note)

    def _released_note(self, file_name: str) -> str | None:
        """Describe how a file with the release's name differs from the released LoRA.

        Empty where it holds the same parts, None for a file of another name.

        Diffusers gives that name to any LoRA, and others have trained this method at other ranks.
        """
        if file_name != RELEASED_FILE:
            return None
        parts = self._matrix_sizes().keys()
        blocks = {part.split(".")[1] for part in parts if part.startswith("blocks.")}
        released_parts = {f"blocks.{block}.{part}" for block in blocks for part in RELEASED_PARTS}
        other_parts = sorted(parts ^ released_parts) + sorted(self.unmatched)
        if self.ranks == (RELEASED_RANK,) and not other_parts:
            return ""
        differences = f"rank {', '.join(map(str, self.ranks))}"
        differences += f"; other parts: {', '.join(other_parts[:3])}" if other_parts else ""
        return (
            f"warning: not EgoX's own file, which has rank {RELEASED_RANK} on q, k, v and o of both "
            f"attentions: {differences}"
        )

    def check_fits(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
        """List the LoRA's parts that a model with weights of these ``shapes`` lacks.

        ``shapes``: native weight name -> shape, without prefix.

        Raises:
            EgoXInputError: no part is in the model, or one has another size there (a LoRA for another
                model).
        """
        weight_sizes = {f"{part}.weight": size for part, size in self._matrix_sizes().items()}
        missing_names = [name for name in weight_sizes if name not in shapes]
        for name, size in weight_sizes.items():
            if name in shapes and size != tuple(shapes[name][:2]):
                raise EgoXInputError(
                    "LoRA",
                    got=f"{name} of size {size[0]}x{size[1]}",
                    expected="x".join(map(str, shapes[name])),
                    fix="load a LoRA of this model, or the model of this LoRA",
                )
        if len(missing_names) == len(weight_sizes):
            raise EgoXInputError(
                "LoRA",
                got=f"parts such as {missing_names[0] if missing_names else 'none'}",
                expected="parts of the loaded model",
                fix="load a Wan image-to-video model, or its LoRA",
            )
        return tuple(missing_names)

    def _matrix_sizes(self) -> dict[str, tuple[int, int]]:
        """Map each module that the LoRA changes to the (out, in) size of its matrix."""
        lora_matrices = {
            key.rpartition(".lora_")[::2]: value for key, value in self.tensors.items()
        }
        return {
            part.removeprefix(NATIVE_PREFIX): (
                lora_matrices[part, "B.weight"].shape[0],
                down_matrix.shape[1],
            )
            for (part, half), down_matrix in lora_matrices.items()
            if half == "A.weight"
        }


def _file_name_of(part: str, to: Naming) -> str:
    """Convert a module's native name, such as ``blocks.3.self_attn.q``, to another naming."""
    block = _BLOCK.fullmatch(part)
    if to == "native":
        return part
    return _OF_MODEL[part] if block is None else f"blocks.{block[1]}.{_OF_BLOCK[block[2]]}"


def convert_lora(
    # As the file contains it: A [r, in], B [out, r], alpha [] of each matrix.
    state: Mapping[str, Tensor],
    # Metadata of the file.
    metadata: Mapping[str, str] | None = None,
    to: Naming = "native",
    *,
    # The file that they come from: PEFT keeps settings next to it.
    file: Path | None = None,
    # Takes a file of other products alone, which are then in ``others``.
    products: bool = False,
) -> LoraConversion:
    """Convert a LoRA file from any known naming to ComfyUI's or diffusers' names.

    The names are those that the host's loader takes or, with ``to="diffusers"``, those of
    diffusers.

    The delta is (alpha / rank) B A. ``alpha`` comes from the file's own keys, else from PEFT's
    settings beside ``file`` or in the metadata, else the scale is 1, as the released code loads its
    files (quirks 41).

    Raises:
        EgoXInputError: nothing matched, a lora_A without its lora_B, the two of different rank,
            other products alone, numbers that are not finite, settings that can't be read.
    """
    prefix = NATIVE_PREFIX if to == "native" else DIFFUSERS_PREFIX
    module_and_suffix = {key: _split_key(key) for key in state}
    native_parts = _native_parts({module for module, _ in module_and_suffix.values()})
    modules_with_mid = {
        module for module, suffix in module_and_suffix.values() if suffix == MID_SUFFIX
    }
    # An alpha may also belong to another kind of matrices, which the host knows.
    lora_modules = {
        module for module, suffix in module_and_suffix.values() if suffix.startswith(".lora_")
    }
    tensors = {}
    unmatched = []
    other_tensors = {}
    other_keys = {}
    key_of_name = {}
    module_of = {}
    for key, tensor in state.items():
        module, suffix = module_and_suffix[key]
        module_name = native_parts.get(module)
        if suffix in SCALES and module in state:
            continue  # goes with its matrix
        is_used = (
            module in lora_modules
            and module not in modules_with_mid
            and suffix in LORA_SUFFIXES.values()
        )
        if module_name is None or not is_used:
            unmatched.append(key)
            if module not in modules_with_mid:
                name = key if module_name is None else NATIVE_PREFIX + module_name + suffix
                other_tensors[name], other_keys[name] = tensor, key
            continue
        if to == "diffusers" and suffix == ".dora_scale":
            raise EgoXInputError(
                "LoRA file",
                got=f"DoRA ({key})",
                expected="a LoRA without magnitudes",
                fix="load it in ComfyUI, which takes them, or merge it there",
            )
        name = prefix + _file_name_of(module_name, to) + suffix
        if name in key_of_name:
            raise EgoXInputError(
                "LoRA file",
                got=f"{key_of_name[name]} and {key}, both for {module_name}",
                expected="one pair of matrices for each part",
                fix="give the file of one model; this one may contain both models of Wan 2.2",
            )
        place_match = _PLACE.fullmatch(module)
        key_of_name[name] = key
        module_of[name.removesuffix(suffix)] = place_match[2] if place_match else module
        tensors[name] = _scaled_tensor(key, tensor, state, suffix)
    matched_count = len(tensors)
    only_products = products and any(
        product_of(name) for name in other_tensors if name.startswith(NATIVE_PREFIX)
    )
    if not only_products and not any(key.endswith(".lora_A.weight") for key in tensors):
        raise _no_pairs_error(unmatched, len(state))
    peft_settings = _peft_entries(metadata or {}, file)
    ranks, scales = set(), set()
    for module_name in module_of:
        rank = _checked_rank(module_name, tensors)
        alpha = tensors.get(module_name + ".alpha")
        scale = _peft_scale(peft_settings, module_of[module_name], rank)
        if alpha is None and scale is not None:
            alpha = tensors[module_name + ".alpha"] = torch.tensor(scale * rank)
        ranks.add(rank)
        scales.add(1.0 if alpha is None else float(alpha) / rank)
    return LoraConversion(
        tensors=tensors,
        matched=matched_count,
        unmatched=tuple(unmatched),
        others=other_tensors,
        sources={**other_keys, **key_of_name},
        ranks=tuple(sorted(ranks, reverse=True)),
        scales=tuple(sorted(scales, reverse=True)),
        remark=_value_warning(tensors, other_tensors, module_of)
        or _missing_alpha_warning(state, tensors),
    )


def _no_pairs_error(unmatched: Collection[str], count: int) -> EgoXInputError:
    """Make the error for a file of ``count`` tensors without a LoRA pair for a Wan transformer."""
    products = sorted({words for key in unmatched if (words := product_of(key))})
    if products:
        host_knows = any(OF_HOSTS.match(key) for key in unmatched)
        convert_advice = "convert it to names as diffusion_model.blocks.0.self_attn.q; "
        return EgoXInputError(
            "LoRA file",
            got=f"{count} tensors of a {' and '.join(products)}",
            expected="pairs of lora_A and lora_B",
            fix=f"{'' if host_knows else convert_advice}load it with ComfyUI's own Load LoRA, which knows this "
            "kind",
        )
    key_by_stem = {key.rsplit(".", n)[0]: key for key in unmatched for n in (1, 2, 3)}
    for module in _native_parts(key_by_stem):
        kind = key_by_stem[module].removeprefix(module + ".")
        if kind not in ("weight", "bias"):
            return EgoXInputError(
                "LoRA file",
                got=f"{count} tensors of another kind, such as {kind} of {module}",
                expected="pairs of lora_A and lora_B",
                fix="have its trainer write a LoRA: neither EgoX nor ComfyUI knows this kind",
            )
    return EgoXInputError(
        "LoRA file",
        got=f"{count} tensors: {_count_kinds(unmatched) or 'none'}",
        expected="lora_A and lora_B of a Wan transformer",
        fix="choose a LoRA that was made for Wan image-to-video",
    )


def is_lora(key: str) -> bool:
    """Check whether a tensor's name is that of a LoRA matrix."""
    return _split_key(key)[1] in {*LORA_SUFFIXES.values()} - {".alpha"}


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
    native = _native_parts([part]).get(part)
    if native is None or native.endswith(BARE_TENSORS) == bool(dot):
        return None
    return f"{_file_name_of(native, to)}{dot}{parameter}"


def _split_key(key: str) -> tuple[str, str]:
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


def _native_parts(modules: Collection[str]) -> dict[str, str]:
    """Map module names in a file to Wan's native names, leaving out modules of other models."""
    native_parts = {}
    prefixes = set(FILE_PREFIXES)
    for module in modules:
        block_match = _PLACE.fullmatch(module)
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


def _count_kinds(keys: Collection[str]) -> str:
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


def _scaled_tensor(key: str, tensor: Tensor, state: Mapping[str, Tensor], suffix: str) -> Tensor:
    """Multiply a tensor by its fp8 scale, and reshape a DoRA magnitude to a column."""
    stem = key.removesuffix("weight")
    scale = next(
        (
            state[stem + scale_name]
            for scale_name in SCALES
            if stem != key and stem + scale_name in state
        ),
        None,
    )
    if scale is not None and scale.numel() not in (1, tensor.shape[0]):
        raise EgoXInputError(
            f"scale of {key}",
            got=f"shape {tuple(scale.shape)}",
            expected="one number, or one for each row",
            fix="save the LoRA in bfloat16",
        )
    if scale is not None:
        tensor = tensor.float() * scale.float().reshape(-1, *[1] * (tensor.ndim - 1))
    return tensor.reshape(-1, 1) if suffix == ".dora_scale" and tensor.ndim == 1 else tensor


def _checked_rank(part: str, tensors: Mapping[str, Tensor]) -> int:
    matrix_a, matrix_b = tensors.get(part + ".lora_A.weight"), tensors.get(part + ".lora_B.weight")
    if matrix_a is None or matrix_b is None:
        raise EgoXInputError(
            "LoRA file",
            got=f"{part}.lora_{'AB'[matrix_a is None]} without its lora_{'BA'[matrix_a is None]}",
            expected="pairs of lora_A and lora_B",
            fix="the file is incomplete: download it again",
        )
    if (
        matrix_a.ndim < 2
        or matrix_b.ndim < 2
        or matrix_a.shape[0] != matrix_b.shape[1]
        or matrix_a.shape[0] == 0
    ):
        raise EgoXInputError(
            "rank of the LoRA",
            got=f"{part}: A {tuple(matrix_a.shape)}, B {tuple(matrix_b.shape)}",
            expected="A [r, in] and B [out, r]",
            fix="the file is damaged: download it again",
        )
    if integer_matrices := [matrix for matrix in (matrix_a, matrix_b) if matrix.dtype in WHOLE]:
        raise EgoXInputError(
            "LoRA file",
            got=f"{part} in {integer_matrices[0].dtype}",
            expected="floating point numbers",
            fix="have its trainer save the LoRA in bfloat16 or float16: nothing here knows the scale "
            "of whole numbers",
        )
    for name, counts in ((".alpha", (1,)), (".dora_scale", (matrix_b.shape[0], matrix_a.shape[1]))):
        tensor = tensors.get(part + name)
        if tensor is not None and tensor.numel() not in counts:
            raise EgoXInputError(
                f"{part}{name}",
                got=f"shape {tuple(tensor.shape)}",
                expected=f"{counts[0]} numbers",
                fix="the file is damaged: download it again",
            )
    return matrix_a.shape[0]


def _value_warning(
    tensors: Mapping[str, Tensor], others: Mapping[str, Tensor], parts: Collection[str]
) -> str:
    """Warn about a LoRA whose changes are all 0, and refuse NaN and infinity.

    Raises:
        EgoXInputError: NaN or infinity.
    """
    values = {
        name: tensor
        for name, tensor in {**tensors, **others}.items()
        if isinstance(tensor, Tensor) and not tensor.is_meta
    }
    broken_names = [name for name, tensor in values.items() if not tensor.float().isfinite().all()]
    if broken_names:
        raise EgoXInputError(
            "LoRA file",
            got=f"NaN or infinity in {len(broken_names)} of {len(values)} tensors, such as {broken_names[0]}",
            expected="finite numbers",
            fix="download it again, or take a checkpoint from before its training diverged",
        )
    factor_names = (".lora_A.weight", ".lora_B.weight", ".alpha")
    nonzero_parts = [
        all(
            values[part + suffix].float().any()
            for suffix in factor_names
            if part + suffix in values
        )
        for part in parts
        if values
    ]
    if (
        any(nonzero_parts)
        or others
        or not values
        or any(name.endswith(".dora_scale") for name in values)
    ):
        return ""
    return "all of its changes are 0: it was saved before it was trained"


def _missing_alpha_warning(state: Collection[str], tensors: Collection[str]) -> str:
    """Warn about a PEFT file without alpha, whose settings file is missing."""
    if any(name.endswith(".alpha") for name in tensors):
        return ""
    if not all(name.startswith("base_model.model.") for name in state):
        return ""
    weights_name, settings_name = PEFT_FILES
    return (
        f"alpha is not known, and the rank is taken for it: PEFT writes {settings_name}, which is read "
        f"next to {weights_name}"
    )


def _peft_entries(metadata: Mapping[str, str], file: Path | None) -> Mapping[str, Any]:
    """Read PEFT's settings of a LoRA from the settings file beside it or from its metadata."""
    weights_name, settings_name = PEFT_FILES
    contents: list[object] = [metadata]
    for key in sorted(metadata, key=lambda key: key == PEFT_METADATA_KEY):
        if "lora_alpha" in str(metadata[key]):
            with suppress(EgoXInputError):
                contents.append(parse_json(str(metadata[key]), "PEFT's metadata"))
    if file is not None and file.name == weights_name and file.with_name(settings_name).is_file():
        contents.append(read_json(file.with_name(settings_name), settings_name))
    for content in reversed(contents):
        if isinstance(content, Mapping):
            lora_entries = {
                name.rpartition(".")[2]: value
                for name, value in content.items()
                if name[:5] != "text_"
            }
            if "lora_alpha" in lora_entries:
                return lora_entries
    return {}


def _peft_scale(entries: Mapping[str, Any], module: str, rank: int) -> float | None:
    """Compute alpha / rank of a module by PEFT's settings, or return None if they give no alpha.

    Raises:
        EgoXInputError: a pattern for single modules that can't be followed.
    """
    alpha = _pattern_value(entries, "alpha_pattern", module, entries.get("lora_alpha"))
    stated_rank = _pattern_value(entries, "rank_pattern", module, entries.get("r", rank))
    try:
        alpha, stated_rank = float(alpha), float(stated_rank)
    except (TypeError, ValueError):
        return None
    if not 0 < stated_rank < math.inf or not math.isfinite(alpha):
        return None
    # Rank-stabilised LoRA divides by the root of the rank.
    stabilised = str(entries.get("use_rslora")).lower() == "true"
    return alpha / stated_rank**0.5 if stabilised else alpha / stated_rank


def _pattern_value(entries: Mapping[str, Any], name: str, module: str, default: Any) -> Any:
    """Look up a LoRA module's setting in PEFT's patterns, by the end of the module's name."""
    patterns = entries.get(name)
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        try:
            if _REPEATED.search(re.sub(r"\\d\+", "0", pattern)):
                raise re.error("too many repeats")
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                return value
        except (re.error, OverflowError, RecursionError) as error:
            raise EgoXInputError(
                f"LoRA file's {name}",
                got=repr(pattern),
                expected="names of modules",
                fix="save the LoRA with an alpha for each part, as kohya's scripts do",
            ) from error
    return default
