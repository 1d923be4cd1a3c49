"""Renames LoRA files and whole transformer checkpoints between diffusers' names and the host's, by
one data table.

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
    """A LoRA under new names, and what became of each tensor of the file."""

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
        """Parts of other kinds under names that the host's own loader knows."""
        return {name: x for name, x in self.others.items() if name.startswith(NATIVE_PREFIX)}

    @property
    def report(self) -> str:
        """One line for a node or a console."""
        ranks, scales = (
            ", ".join(f"{x:g}" for x in values) for values in (self.ranks, self.scales)
        )
        line = f"{self.matched} tensors matched, {len(self.unmatched)} unmatched; rank {ranks}; alpha/rank {scales}"
        line += f"; not used: {_kinds(self.unmatched)}" if self.unmatched else ""
        return line + (f"; warning: {self.remark}" if self.remark else "")

    def report_on(self, shapes: Mapping[str, tuple[int, ...]], file_name: str) -> str:
        """Say what was matched, and how this LoRA fits a model of these ``shapes`` (native weight
        name -> shape, without prefix).

        Raises:
            EgoXInputError: as :meth:`check_fits`.
        """
        absent = self.check_fits(shapes)
        released = self._released_note(file_name)
        of_21 = released == "" or any("cross_attn.k_img" in name for name in absent)
        takes_picture = any(name.startswith("img_emb.") for name in shapes)
        notes = [self.report, released, OF_WAN_21 if of_21 and not takes_picture else ""]
        if absent:
            notes.append(f"{len(absent)} parts are not in this model, such as {absent[0]}")
        return "; ".join(note for note in notes if note)

    def _released_note(self, file_name: str) -> str | None:
        """Compare a file that has the release's name with the release, and say what differs.

        Empty where it holds the same parts, None for a file of another name.

        Diffusers gives that name to any LoRA, and others have trained this method at other ranks.
        """
        if file_name != RELEASED_FILE:
            return None
        parts = self._sizes().keys()
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
        """List this LoRA's parts that a model with weights of these ``shapes`` lacks.

        ``shapes``: native weight name -> shape, without prefix.

        Raises:
            EgoXInputError: no part is in the model, or one has another size there (a LoRA for another
                model).
        """
        sizes = {f"{part}.weight": size for part, size in self._sizes().items()}
        missing_names = [name for name in sizes if name not in shapes]
        for name, size in sizes.items():
            if name in shapes and size != tuple(shapes[name][:2]):
                raise EgoXInputError(
                    "LoRA",
                    got=f"{name} of size {size[0]}x{size[1]}",
                    expected="x".join(map(str, shapes[name])),
                    fix="load a LoRA of this model, or the model of this LoRA",
                )
        if len(missing_names) == len(sizes):
            raise EgoXInputError(
                "LoRA",
                got=f"parts such as {missing_names[0] if missing_names else 'none'}",
                expected="parts of the loaded model",
                fix="load a Wan image-to-video model, or its LoRA",
            )
        return tuple(missing_names)

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Map each native part to the (out, in) of the matrix that it changes."""
        halves = {key.rpartition(".lora_")[::2]: value for key, value in self.tensors.items()}
        return {
            part.removeprefix(NATIVE_PREFIX): (halves[part, "B.weight"].shape[0], down.shape[1])
            for (part, half), down in halves.items()
            if half == "A.weight"
        }


def _named(part: str, to: Naming) -> str:
    """Name a native part (``blocks.3.self_attn.q``, ``head.head``) as a file has it."""
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
    """Convert a LoRA file from any known naming.

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
    module_and_suffix = {key: _split(key) for key in state}
    natives = _native_parts({module for module, _ in module_and_suffix.values()})
    left_out = {module for module, suffix in module_and_suffix.values() if suffix == MID_SUFFIX}
    # An alpha may also belong to another kind of matrices, which the host knows.
    low_rank = {
        module for module, suffix in module_and_suffix.values() if suffix.startswith(".lora_")
    }
    tensors, unmatched, other_tensors, other_keys, origin, module_of = {}, [], {}, {}, {}, {}
    for key, tensor in state.items():
        module, suffix = module_and_suffix[key]
        part = natives.get(module)
        if suffix in SCALES and module in state:
            continue  # goes with its matrix
        is_used = module in low_rank and module not in left_out and suffix in LORA_SUFFIXES.values()
        if part is None or not is_used:
            unmatched.append(key)
            if module not in left_out:
                name = key if part is None else NATIVE_PREFIX + part + suffix
                other_tensors[name], other_keys[name] = tensor, key
            continue
        if to == "diffusers" and suffix == ".dora_scale":
            raise EgoXInputError(
                "LoRA file",
                got=f"DoRA ({key})",
                expected="a LoRA without magnitudes",
                fix="load it in ComfyUI, which takes them, or merge it there",
            )
        name = prefix + _named(part, to) + suffix
        if name in origin:
            raise EgoXInputError(
                "LoRA file",
                got=f"{origin[name]} and {key}, both for {part}",
                expected="one pair of matrices for each part",
                fix="give the file of one model; this one may contain both models of Wan 2.2",
            )
        place = _PLACE.fullmatch(module)
        origin[name], module_of[name.removesuffix(suffix)] = key, place[2] if place else module
        tensors[name] = _scaled_tensor(key, tensor, state, suffix)
    matched_count = len(tensors)
    only_products = products and any(
        product_of(name) for name in other_tensors if name.startswith(NATIVE_PREFIX)
    )
    if not only_products and not any(key.endswith(".lora_A.weight") for key in tensors):
        raise _without_pairs(unmatched, len(state))
    peft = _peft_entries(metadata or {}, file)
    ranks, scales = set(), set()
    for part in module_of:
        rank = _checked_rank(part, tensors)
        alpha, scale = tensors.get(part + ".alpha"), _peft_scale(peft, module_of[part], rank)
        if alpha is None and scale is not None:
            alpha = tensors[part + ".alpha"] = torch.tensor(scale * rank)
        ranks.add(rank)
        scales.add(1.0 if alpha is None else float(alpha) / rank)
    return LoraConversion(
        tensors=tensors,
        matched=matched_count,
        unmatched=tuple(unmatched),
        others=other_tensors,
        sources={**other_keys, **origin},
        ranks=tuple(sorted(ranks, reverse=True)),
        scales=tuple(sorted(scales, reverse=True)),
        remark=_remark(tensors, other_tensors, module_of) or _without_alpha(state, tensors),
    )


def _without_pairs(unmatched: Collection[str], count: int) -> EgoXInputError:
    """Refuse a file of ``count`` tensors, none of which is of a pair for a Wan transformer."""
    products = sorted({words for key in unmatched if (words := product_of(key))})
    if products:
        host_knows = any(OF_HOSTS.match(key) for key in unmatched)
        convert = "convert it to names as diffusion_model.blocks.0.self_attn.q; "
        return EgoXInputError(
            "LoRA file",
            got=f"{count} tensors of a {' and '.join(products)}",
            expected="pairs of lora_A and lora_B",
            fix=f"{'' if host_knows else convert}load it with ComfyUI's own Load LoRA, which knows this "
            "kind",
        )
    stems = {key.rsplit(".", n)[0]: key for key in unmatched for n in (1, 2, 3)}
    for module in _native_parts(stems):
        kind = stems[module].removeprefix(module + ".")
        if kind not in ("weight", "bias"):
            return EgoXInputError(
                "LoRA file",
                got=f"{count} tensors of another kind, such as {kind} of {module}",
                expected="pairs of lora_A and lora_B",
                fix="have its trainer write a LoRA: neither EgoX nor ComfyUI knows this kind",
            )
    return EgoXInputError(
        "LoRA file",
        got=f"{count} tensors: {_kinds(unmatched) or 'none'}",
        expected="lora_A and lora_B of a Wan transformer",
        fix="choose a LoRA that was made for Wan image-to-video",
    )


def is_lora(key: str) -> bool:
    """Check whether a tensor of this name is of a pair of matrices."""
    return _split(key)[1] in {*LORA_SUFFIXES.values()} - {".alpha"}


def product_of(key: str) -> str:
    """Name the kind of another product that a tensor of this name is of, "" of none."""
    match = _PRODUCT.search(key)
    if match is None:
        return ""
    return next(words for words, end in PRODUCTS.items() if re.fullmatch(end, match[0][1:]))


def convert_transformer(
    # Weights by name, with any known prefix.
    state: Mapping[str, Tensor],
    to: Naming = "native",
) -> tuple[dict[str, Tensor], tuple[str, ...]]:  # the same weights; keys that have no place
    """Rename a whole transformer checkpoint, without prefix.

    Raises:
        EgoXInputError: nothing matched.
    """
    tensors, unmatched = {}, []
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
    """Rename a parameter of the model, and answer None for any other.

    It is a part with .weight, .bias or nothing, under a prefix as LoRA files have it.
    """
    part, dot, parameter = key.rpartition(".")
    if parameter not in ("weight", "bias"):
        part, dot, parameter = key, "", ""
    native = _native_parts([part]).get(part)
    if native is None or native.endswith(BARE_TENSORS) == bool(dot):
        return None
    return f"{_named(native, to)}{dot}{parameter}"


def _split(key: str) -> tuple[str, str]:
    """Split a key into the module's name in the file and the suffix as we write it, fp8's scale
    into the key of its matrix and its own name."""
    for scale in SCALES:
        if key.endswith("." + scale):
            return key.removesuffix(scale) + "weight", scale
    key = _ADAPTER.sub(r"\1\2", key)
    for suffix, own_suffix in LORA_SUFFIXES.items():
        if key.endswith(suffix):
            return key.removesuffix(suffix), own_suffix
    if match := _PRODUCT.search(key):
        return key[: match.start()], match[0]
    module, dot, last = key.rpartition(".")
    return module, dot + last


def _native_parts(modules: Collection[str]) -> dict[str, str]:
    """Map modules that are Wan's own to their native names, whatever stands before ``blocks``."""
    natives, prefixes = {}, set(FILE_PREFIXES)
    for module in modules:
        place = _PLACE.fullmatch(module)
        if place is None or _foreign(place[1]):
            continue
        part = _BLOCK_WORDS.get(place[4].replace(".", "_"))
        if part is not None:
            natives[module] = f"blocks.{place[3]}.{part}"
            prefixes.add(place[1])
    for prefix in sorted(prefixes, key=len):  # parts outside the blocks, under the same prefixes
        for module in modules:
            part = _MODEL_WORDS.get(module.removeprefix(prefix).replace(".", "_"))
            if part is not None and module.startswith(prefix):
                natives[module] = part
    return natives


def _foreign(name: str) -> str:
    """Name the other model that has a module of this name, or nothing."""
    return next(
        (words for start, words in FOREIGN.items() if re.search(rf"(?:^|[._])(?:{start})", name)),
        "",
    )


def _kinds(keys: Collection[str]) -> str:
    """Count keys by the model or the kind of matrix that they belong to, each with an example."""
    first, counts = {}, Counter()
    for key in keys:
        foreign = _foreign(key)
        kind = f"of {foreign}" if foreign else key.removesuffix(".weight").rpartition(".")[2]
        counts[kind] += 1
        first.setdefault(kind, key)
    return ", ".join(f"{n} {kind} (such as {first[kind]})" for kind, n in counts.most_common(5))


def _scaled_tensor(key: str, tensor: Tensor, state: Mapping[str, Tensor], suffix: str) -> Tensor:
    """Multiply the tensor by its fp8 scale, and shape PEFT's magnitude as the column that the host
    takes."""
    stem = key.removesuffix("weight")
    scale = next((state[stem + s] for s in SCALES if stem != key and stem + s in state), None)
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
    down, up = tensors.get(part + ".lora_A.weight"), tensors.get(part + ".lora_B.weight")
    if down is None or up is None:
        raise EgoXInputError(
            "LoRA file",
            got=f"{part}.lora_{'AB'[down is None]} without its lora_{'BA'[down is None]}",
            expected="pairs of lora_A and lora_B",
            fix="the file is incomplete: download it again",
        )
    if down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1] or down.shape[0] == 0:
        raise EgoXInputError(
            "rank of the LoRA",
            got=f"{part}: A {tuple(down.shape)}, B {tuple(up.shape)}",
            expected="A [r, in] and B [out, r]",
            fix="the file is damaged: download it again",
        )
    if whole := [each for each in (down, up) if each.dtype in WHOLE]:
        raise EgoXInputError(
            "LoRA file",
            got=f"{part} in {whole[0].dtype}",
            expected="floating point numbers",
            fix="have its trainer save the LoRA in bfloat16 or float16: nothing here knows the scale "
            "of whole numbers",
        )
    for name, counts in ((".alpha", (1,)), (".dora_scale", (up.shape[0], down.shape[1]))):
        tensor = tensors.get(part + name)
        if tensor is not None and tensor.numel() not in counts:
            raise EgoXInputError(
                f"{part}{name}",
                got=f"shape {tuple(tensor.shape)}",
                expected=f"{counts[0]} numbers",
                fix="the file is damaged: download it again",
            )
    return down.shape[0]


def _remark(
    tensors: Mapping[str, Tensor], others: Mapping[str, Tensor], parts: Collection[str]
) -> str:
    """Warn about what the numbers are, or say nothing where only their shapes are known.

    Raises:
        EgoXInputError: NaN or infinity.
    """
    values = {
        name: x
        for name, x in {**tensors, **others}.items()
        if isinstance(x, Tensor) and not x.is_meta
    }
    broken = [name for name, x in values.items() if not x.float().isfinite().all()]
    if broken:
        raise EgoXInputError(
            "LoRA file",
            got=f"NaN or infinity in {len(broken)} of {len(values)} tensors, such as {broken[0]}",
            expected="finite numbers",
            fix="download it again, or take a checkpoint from before its training diverged",
        )
    factors = (".lora_A.weight", ".lora_B.weight", ".alpha")
    changes = [
        all(values[part + end].float().any() for end in factors if part + end in values)
        for part in parts
        if values
    ]
    if any(changes) or others or not values or any(name.endswith(".dora_scale") for name in values):
        return ""
    return "all of its changes are 0: it was saved before it was trained"


def _without_alpha(state: Collection[str], tensors: Collection[str]) -> str:
    """Warn about a file of PEFT's that lost its settings."""
    if any(name.endswith(".alpha") for name in tensors):
        return ""
    if not all(name.startswith("base_model.model.") for name in state):
        return ""
    weights, settings = PEFT_FILES
    return (
        f"alpha is not known, and the rank is taken for it: PEFT writes {settings}, which is read "
        f"next to {weights}"
    )


def _peft_entries(metadata: Mapping[str, str], file: Path | None) -> Mapping[str, Any]:
    """Read PEFT's settings of the transformer, if there are any: beside the file, under diffusers'
    key, as JSON under another, or one by one."""
    weights, settings = PEFT_FILES
    contents: list[object] = [metadata]
    for key in sorted(metadata, key=lambda key: key == PEFT_METADATA_KEY):
        if "lora_alpha" in str(metadata[key]):
            with suppress(EgoXInputError):
                contents.append(parse_json(str(metadata[key]), "PEFT's metadata"))
    if file is not None and file.name == weights and file.with_name(settings).is_file():
        contents.append(read_json(file.with_name(settings), settings))
    for content in reversed(contents):
        if isinstance(content, Mapping):
            lora_entries = {k.rpartition(".")[2]: v for k, v in content.items() if k[:5] != "text_"}
            if "lora_alpha" in lora_entries:
                return lora_entries
    return {}


def _peft_scale(entries: Mapping[str, Any], module: str, rank: int) -> float | None:
    """Compute alpha / rank of a module by PEFT's settings, from ``rank`` where they state none.

    Raises:
        EgoXInputError: a pattern for single modules that can't be followed.
    """
    alpha = _of_module(entries, "alpha_pattern", module, entries.get("lora_alpha"))
    stated_rank = _of_module(entries, "rank_pattern", module, entries.get("r", rank))
    try:
        alpha, stated_rank = float(alpha), float(stated_rank)
    except (TypeError, ValueError):
        return None
    if not 0 < stated_rank < math.inf or not math.isfinite(alpha):
        return None
    # Rank-stabilised LoRA divides by the root of the rank.
    stabilised = str(entries.get("use_rslora")).lower() == "true"
    return alpha / stated_rank**0.5 if stabilised else alpha / stated_rank


def _of_module(entries: Mapping[str, Any], name: str, module: str, usual: Any) -> Any:
    """Find the value of the first pattern that a module's name ends with, as PEFT chooses it."""
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
    return usual
