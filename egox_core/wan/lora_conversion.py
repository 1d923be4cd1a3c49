"""Convert a LoRA of any known naming, and check its matrices and numbers.

The host's stock loader skips files in the released naming
(``transformer.blocks.0.attn1.to_q.lora_A.weight``) without an error, so a conversion here counts
what it matched and refuses a file that matches nothing."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frozen import frozen
from .lora_keys import (
    BLOCK_MODULE_NAME,
    DIFFUSERS_PREFIX,
    LORA_SUFFIXES,
    MID_SUFFIX,
    NATIVE_PREFIX,
    OF_HOSTS,
    Naming,
    count_kinds,
    name_native_parts,
    product_of,
    rename_native_part,
    split_key,
)
from .peft_settings import missing_alpha_warning, peft_entries, peft_scale
from .weights import SCALES

WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
"""Types of numbers that need a scale."""
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
        summary = (
            f"{self.matched} tensors matched, {len(self.unmatched)} unmatched; rank {ranks}; "
            f"alpha/rank {scales}"
        )
        summary += f"; not used: {count_kinds(self.unmatched)}" if self.unmatched else ""
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
            f"warning: not EgoX's own file, which has rank {RELEASED_RANK} on q, k, v and o of "
            f"both attentions: {differences}"
        )

    def check_fits(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
        """List the LoRA's parts that a model with weights of these ``shapes`` lacks.

        ``shapes``: native weight name -> shape, without prefix.

        Raises:
            EgoXInputError: no part is in the model, or one has another size there (a LoRA for
                another model).
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
    module_and_suffix = {key: split_key(key) for key in state}
    native_parts = name_native_parts({module for module, _ in module_and_suffix.values()})
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
        name = prefix + rename_native_part(module_name, to) + suffix
        if name in key_of_name:
            raise EgoXInputError(
                "LoRA file",
                got=f"{key_of_name[name]} and {key}, both for {module_name}",
                expected="one pair of matrices for each part",
                fix="give the file of one model; this one may contain both models of Wan 2.2",
            )
        place_match = BLOCK_MODULE_NAME.fullmatch(module)
        key_of_name[name] = key
        module_of[name.removesuffix(suffix)] = place_match[2] if place_match else module
        tensors[name] = _scaled_tensor(key, tensor, state, suffix)
    matched_count = len(tensors)
    only_products = products and any(
        product_of(name) for name in other_tensors if name.startswith(NATIVE_PREFIX)
    )
    if not only_products and not any(key.endswith(".lora_A.weight") for key in tensors):
        raise _no_pairs_error(unmatched, len(state))
    peft_settings = peft_entries(metadata or {}, file)
    ranks, scales = set(), set()
    for module_name in module_of:
        rank = _checked_rank(module_name, tensors)
        alpha = tensors.get(module_name + ".alpha")
        scale = peft_scale(peft_settings, module_of[module_name], rank)
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
        or missing_alpha_warning(state, tensors),
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
            fix=(
                f"{'' if host_knows else convert_advice}load it with ComfyUI's own Load LoRA, "
                "which knows this kind"
            ),
        )
    key_by_stem = {key.rsplit(".", n)[0]: key for key in unmatched for n in (1, 2, 3)}
    for module in name_native_parts(key_by_stem):
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
        got=f"{count} tensors: {count_kinds(unmatched) or 'none'}",
        expected="lora_A and lora_B of a Wan transformer",
        fix="choose a LoRA that was made for Wan image-to-video",
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
            fix=(
                "have its trainer save the LoRA in bfloat16 or float16: nothing here knows the "
                "scale of whole numbers"
            ),
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
            got=(
                f"NaN or infinity in {len(broken_names)} of {len(values)} tensors, such as "
                f"{broken_names[0]}"
            ),
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
