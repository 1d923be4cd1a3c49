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
from .lora_settings import FALLBACK, FORM, egox_entries
from .peft_settings import missing_alpha_warning, peft_entries, peft_scale
from .weights import DTYPES, SCALES, unscale

WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
"""Types of numbers that need a scale."""
MATRICES = DOWN, UP = (".lora_A.weight", ".lora_B.weight")
"""Ends of the names of both matrices of a part: A [r, in] and B [out, r]."""
PAIRS = "pairs of lora_A and lora_B"
DAMAGED = "the file is damaged: download it again"
REFUSED: Mapping[str, tuple[str, str]] = {
    "DoRA": (
        "a LoRA without magnitudes",
        "load it in ComfyUI, which takes them, or merge it there",
    ),
    "two models": (
        "one pair of matrices for each part",
        "give the file of one model; this one may contain both models of Wan 2.2",
    ),
    "product of the host's": (
        PAIRS,
        "load it with ComfyUI's own Load LoRA, which knows this kind",
    ),
    "product": (
        PAIRS,
        "convert it to names as diffusion_model.blocks.0.self_attn.q; load it with ComfyUI's own "
        "Load LoRA, which knows this kind",
    ),
    "unknown kind": (
        PAIRS,
        "have its trainer write a LoRA: neither EgoX nor ComfyUI knows this kind",
    ),
    "other model": (
        "lora_A and lora_B of a Wan transformer",
        "choose a LoRA that was made for Wan image-to-video",
    ),
    "half a pair": (PAIRS, "the file is incomplete: download it again"),
    "ranks": ("A [r, in] and B [out, r]", DAMAGED),
    "counts": ("one alpha, and a magnitude of each row or column", DAMAGED),
    "whole numbers": (
        "floating point numbers",
        "have its trainer save the LoRA in bfloat16 or float16: nothing here knows the scale of "
        "whole numbers",
    ),
    "not finite": (
        "finite numbers",
        "download it again, or take a checkpoint from before its training diverged",
    ),
}
"""Kind of a file that is no usable LoRA -> what is expected, and what to do."""
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
    remark: str = ""  # a warning for people

    @property
    def of_host(self) -> dict[str, Tensor]:
        """Tensors of other LoRA kinds, under names that ComfyUI's own loader reads."""
        return {name: x for name, x in self.others.items() if name.startswith(NATIVE_PREFIX)}

    def scale_of(self, part: str) -> float:
        """Compute alpha / rank of a module, which is 1 without an alpha."""
        alpha = self.tensors.get(f"{part}.alpha")
        return 1.0 if alpha is None else float(alpha) / len(self.tensors[part + DOWN])

    @property
    def parts(self) -> list[str]:
        """The modules that the LoRA changes, as the names of the tensors begin."""
        return [name.removesuffix(DOWN) for name in self.tensors if name.endswith(DOWN)]

    @property
    def scales(self) -> tuple[float, ...]:
        """The different values of alpha / rank, falling."""
        return tuple(sorted({self.scale_of(part) for part in self.parts}, reverse=True))

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
        other_parts = self._unreleased_parts()
        if self._has_released_form:
            return ""
        differences = f"rank {', '.join(map(str, self.ranks))}"
        differences += f"; other parts: {', '.join(other_parts[:3])}" if other_parts else ""
        return (
            f"warning: not EgoX's own file, which has rank {RELEASED_RANK} on q, k, v and o of "
            f"both attentions: {differences}"
        )

    def with_form(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """Note in a file's metadata that its LoRA may be the released one, which has none."""
        is_unknown = self._has_released_form and not egox_entries(metadata)
        return {**metadata, **({FORM: FALLBACK} if is_unknown else {})}

    @property
    def _has_released_form(self) -> bool:
        return self.ranks == (RELEASED_RANK,) and not self._unreleased_parts()

    def _unreleased_parts(self) -> list[str]:
        """Name parts that only this LoRA or only the released one has."""
        parts = self._matrix_sizes().keys()
        blocks = {part.split(".")[1] for part in parts if part.startswith("blocks.")}
        released_parts = {f"blocks.{block}.{part}" for block in blocks for part in RELEASED_PARTS}
        return sorted(parts ^ released_parts) + sorted(self.unmatched)

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
        return {
            part.removeprefix(NATIVE_PREFIX): (
                self.tensors[part + UP].shape[0],
                self.tensors[part + DOWN].shape[1],
            )
            for part in self.parts
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
    used_modules = {
        module for module, suffix in module_and_suffix.values() if suffix.startswith(".lora_")
    } - modules_with_mid
    tensors = {}
    unmatched = []
    other_tensors = {}
    sources = {}
    module_of = {}
    for key, tensor in state.items():
        module, suffix = module_and_suffix[key]
        module_name = native_parts.get(module)
        if suffix in SCALES and module in state:
            continue  # goes with its matrix
        if (
            module_name is None
            or module not in used_modules
            or suffix not in LORA_SUFFIXES.values()
        ):
            unmatched.append(key)
            if module not in modules_with_mid:
                name = key if module_name is None else NATIVE_PREFIX + module_name + suffix
                other_tensors[name], sources[name] = tensor, key
            continue
        if to == "diffusers" and suffix == ".dora_scale":
            raise refused_lora("DoRA", f"DoRA ({key})")
        part = prefix + rename_native_part(module_name, to)
        name = part + suffix
        if name in tensors:
            raise refused_lora("two models", f"{sources[name]} and {key}, both for {module_name}")
        place_match = BLOCK_MODULE_NAME.fullmatch(module)
        sources[name] = key
        module_of[part] = place_match[2] if place_match else module
        tensor = unscale(state, key, "LoRA file", scaled_types=DTYPES.values())
        is_flat_magnitude = suffix == ".dora_scale" and tensor.ndim == 1
        tensors[name] = tensor[:, None] if is_flat_magnitude else tensor
    matched_count = len(tensors)
    has_products = any(product_of(name) for name in other_tensors if name.startswith(NATIVE_PREFIX))
    if not (products and has_products) and not any(".lora_A." in name for name in tensors):
        raise _no_pairs_error(unmatched, len(state))
    peft_settings = peft_entries(metadata or {}, file)
    ranks = {}
    for part, module in module_of.items():
        ranks[part] = _checked_rank(part, tensors)
        scale = peft_scale(peft_settings, module, ranks[part])
        if scale is not None:
            tensors.setdefault(f"{part}.alpha", torch.tensor(scale * ranks[part]))
    return LoraConversion(
        tensors=tensors,
        matched=matched_count,
        unmatched=tuple(unmatched),
        others=other_tensors,
        sources=sources,
        ranks=tuple(sorted({*ranks.values()}, reverse=True)),
        remark=_value_warning(tensors, other_tensors, module_of)
        or missing_alpha_warning(state, tensors),
    )


def refused_lora(kind: str, got: str) -> EgoXInputError:
    """Make the error for a file of one of the kinds of :data:`REFUSED`."""
    expected, fix = REFUSED[kind]
    return EgoXInputError("LoRA file", got=got, expected=expected, fix=fix)


def _no_pairs_error(unmatched: Collection[str], count: int) -> EgoXInputError:
    """Make the error for a file of ``count`` tensors without a LoRA pair for a Wan transformer."""
    products = sorted({words for key in unmatched if (words := product_of(key))})
    if products:
        kind = "product of the host's" if any(map(OF_HOSTS.match, unmatched)) else "product"
        return refused_lora(kind, f"{count} tensors of a {' and '.join(products)}")
    key_by_stem = {key.rsplit(".", n)[0]: key for key in unmatched for n in (1, 2, 3)}
    for module in name_native_parts(key_by_stem):
        end = key_by_stem[module].removeprefix(module + ".")
        if end not in ("weight", "bias"):
            got = f"{count} tensors of another kind, such as {end} of {module}"
            return refused_lora("unknown kind", got)
    return refused_lora("other model", f"{count} tensors: {count_kinds(unmatched) or 'none'}")


def _checked_rank(part: str, tensors: Mapping[str, Tensor]) -> int:
    matrix_a, matrix_b = (tensors.get(part + end) for end in MATRICES)
    if matrix_a is None or matrix_b is None:
        halves = "BA" if matrix_a is None else "AB"
        raise refused_lora("half a pair", f"{part}.lora_{halves[0]} without its lora_{halves[1]}")
    if (
        matrix_a.ndim < 2
        or matrix_b.ndim < 2
        or matrix_a.shape[0] != matrix_b.shape[1]
        or matrix_a.shape[0] == 0
    ):
        shapes = f"A {tuple(matrix_a.shape)}, B {tuple(matrix_b.shape)}"
        raise refused_lora("ranks", f"{part}: {shapes}")
    for matrix in (matrix_a, matrix_b):
        if matrix.dtype in WHOLE:
            raise refused_lora("whole numbers", f"{part} in {matrix.dtype}")
    for end, counts in ((".alpha", (1,)), (".dora_scale", (matrix_b.shape[0], matrix_a.shape[1]))):
        tensor = tensors.get(part + end)
        if tensor is not None and tensor.numel() not in counts:
            raise refused_lora("counts", f"{part}{end} of shape {tuple(tensor.shape)}")
    return matrix_a.shape[0]


def _value_warning(
    tensors: Mapping[str, Tensor], others: Mapping[str, Tensor], parts: Collection[str]
) -> str:
    """Warn about a LoRA whose changes are all 0, and refuse NaN and infinity.

    Raises:
        EgoXInputError: NaN or infinity.
    """
    values = {name: tensor for name, tensor in {**tensors, **others}.items() if not tensor.is_meta}
    broken_names = [name for name, tensor in values.items() if not tensor.float().isfinite().all()]
    if broken_names:
        raise refused_lora(
            "not finite",
            f"NaN or infinity in {len(broken_names)} of {len(values)} tensors, such as "
            f"{broken_names[0]}",
        )
    if others or not values or any(name.endswith(".dora_scale") for name in tensors):
        return ""
    for part in parts:
        factors = [values[part + end] for end in (*MATRICES, ".alpha") if part + end in values]
        if all(factor.float().any() for factor in factors):
            return ""
    return "all of its changes are 0: it was saved before it was trained"
