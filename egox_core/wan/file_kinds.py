"""Identify what a weight file contains by its header, without reading the weights.

:func:`weight_file` is asked by every door: nodes before a run, merge, export and the trainer."""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frozen import frozen
from ..safe_files import refuse_overwriting
from ..sizes import MODEL_CHANNELS
from .lora_conversion import LoraConversion, convert_lora, refused_lora
from .lora_keys import Naming, is_lora, product_of, rename_parameter
from .lora_settings import MERGED, check_position_scale, egox_entries
from .weights import DTYPES, SCALE_PARTS, read_header, read_tensor, size_words

REPACKAGED = "from Comfy-Org/Wan_2.1_ComfyUI_repackaged (its page has sizes and SHA-256)"
MODEL_FIX = (
    "load an image-to-video Wan transformer with 36 input channels: Wan 2.1 I2V 14B 480P or 720P "
    "(the released LoRA belongs to the 480P one), or the Wan 2.2 I2V high/low noise pair; "
    "text-to-video, Fun Control, VACE, Camera, Animate, S2V, HuMo, SCAIL and Dancer models have "
    "another input and can't hold the EgoX canvas"
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
QUANTISED = "_quantization_metadata"
"""Metadata in which newer files say, layer by layer, how their own tensors are stored."""
IN_BLOCKS = re.compile(r"(^|\.)blocks\.\d+\.")
"""Names of tensors in a transformer's blocks."""
ENDS = ("patch_embedding.weight", "head.modulation")
"""First and last part of a Wan transformer, of which a file that was split has one at most."""


@frozen
class WeightFile:
    """Contents of a weight file, as read from its header."""

    file: Path
    what: str  # the file in error messages
    entries: Mapping[str, Mapping]  # of each tensor, its dtype, shape and data_offsets
    place: str | None  # that it fits ("": none here; None: nobody knows)
    words: str  # the file in words
    # Of a Wan transformer's own weights, by native name.
    shapes: dict[str, tuple[int, ...]]
    names: dict[str, str]  # native name -> name in the file
    missing: tuple[str, ...]  # native names of weights without which the transformer isn't whole
    twice: tuple[str, ...]  # names in the file of weights that another name in it has, too
    others: tuple[str, ...]  # tensors that are no weight of a Wan transformer, nor its scale
    quantised: bool  # some weights need more than their own tensor
    # What holds of the weights however they are stored; all that a file made of this one may copy.
    metadata: dict[str, str]

    @property
    def settings(self) -> dict[str, str]:
        """Settings that the file's LoRA was trained with, from the ``egox.*`` metadata."""
        return egox_entries(self.metadata)

    @property
    def refusal(self) -> tuple[str, str]:
        """Description of the file for an error, and advice if it is a part of a split model."""
        size = size_words(self.file.stat().st_size)
        split_advice = "give the whole model; parts of a split one work only together"
        return f"{self.file.name!r} of {size}: {self.words}", split_advice if self.missing else ""

    def read(self, name: str) -> Tensor:
        """Read one tensor as the file has it.

        Raises:
            EgoXInputError: as :func:`~egox_core.wan.weights.read_tensor`.
        """
        return read_tensor(self.file, self.entries, name, self.what)

    def read_finite(self, name: str) -> Tensor:
        """Read one tensor of a LoRA.

        Raises:
            EgoXInputError: NaN or infinity; as :meth:`read`.
        """
        tensor = self.read(name)
        if not tensor.float().isfinite().all():
            raise refused_lora("not finite", f"NaN or infinity in {name}")
        return tensor

    def lora(
        self, to: Naming = "native", *, values: bool = True, products: bool = False
    ) -> LoraConversion:
        """Convert the file's LoRA to the names of ComfyUI or diffusers.

        Args:
            values: read the tensors; without them there are only shapes and types, and each alpha.
            products: as of :func:`convert_lora`.

        Raises:
            EgoXInputError: as :func:`convert_lora`.
        """
        tensors = {
            name: self.read(name)
            if values or name.endswith(".alpha")
            else torch.empty(
                entry["shape"], dtype=DTYPES.get(entry["dtype"], torch.float32), device="meta"
            )
            for name, entry in self.entries.items()
        }
        return convert_lora(tensors, self.metadata, to, file=self.file, products=products)

    def lora_metadata(self) -> dict[str, str]:
        """Collect a LoRA's metadata, with a note if it may be the released one.

        Raises:
            EgoXInputError: as :func:`convert_lora`.
        """
        return self.lora(values=False, products=True).with_form(self.metadata)

    def check_one_transformer(self) -> str:
        """Refuse a file that isn't exactly one Wan transformer, and describe the tensors that a
        copy leaves out.

        Raises:
            EgoXInputError: two of a weight, or parts in its blocks that no Wan transformer has.
        """
        names_in_blocks = [name for name in self.others if IN_BLOCKS.search(name)]
        if self.twice or names_in_blocks:
            problem = "two of a weight" if self.twice else "parts that no plain Wan transformer has"
            raise EgoXInputError(
                "base model",
                got=(
                    f"{self.file.name} with {problem}, such as {(*self.twice, *names_in_blocks)[0]}"
                ),
                expected="each weight of one plain Wan transformer once",
                fix="give the file that ends in _bf16 or _fp16, without a copy or an adapter in it",
            )
        if not self.others:
            return ""
        return (
            f"{len(self.others)} tensors are not the transformer's and left out, such as "
            f"{self.others[0]}"
        )


def weight_file(file: Path, what: str) -> WeightFile:
    """Read the header of a weight file, which error messages call ``what``.

    Raises:
        EgoXInputError: as :func:`~egox_core.wan.weights.read_header`.
    """
    entries = dict(read_header(file, what))
    metadata = entries.pop("__metadata__", None) or {}
    names = {}
    shapes = {}
    repeated_names = []
    other_names = []
    for name, entry in entries.items():
        native = rename_parameter(name)
        if native in names:
            repeated_names.append(name)
        elif native is not None:
            names[native], shapes[native] = name, tuple(entry["shape"])
        elif not name.endswith(SCALE_PARTS):
            other_names.append(name)
    missing_names = missing_weights(names) if names else ()
    fitting_input, description = _identify_kind(entries)
    if names and fitting_input is None:
        description = "a Wan transformer"
    if missing_names and fitting_input in ("model", None):
        fitting_input = ""
        description += f", of which {len(entries)} tensors are here and {missing_names[0]} is not"
    return WeightFile(
        file=file,
        what=what,
        entries=entries,
        place=fitting_input,
        words=description,
        names=names,
        shapes=shapes,
        missing=missing_names,
        twice=tuple(repeated_names),
        others=tuple(other_names),
        quantised=QUANTISED in metadata or any(name.endswith(SCALE_PARTS) for name in entries),
        metadata={name: text for name, text in metadata.items() if name != QUANTISED},
    )


def missing_weights(natives: Collection[str]) -> tuple[str, ...]:
    """List the native names of weights that a Wan transformer with these weights lacks."""
    blocks = defaultdict[int, set[str]](set)
    for name in natives:
        if name.startswith("blocks."):
            _, number, part = name.split(".", 2)
            blocks[int(number)].add(part)
    parts = sorted(set().union(*blocks.values()))
    block_weights = [
        f"blocks.{n}.{part}" for n in range(max(blocks, default=-1) + 1) for part in parts
    ]
    return tuple(name for name in (*block_weights, *ENDS) if name not in natives)


def _identify_kind(entries: Mapping[str, Mapping]) -> tuple[str | None, str]:
    """Identify which node input a weight file fits, and describe the file in words."""
    shapes = {name: entry["shape"] for name, entry in entries.items()}
    dtypes = {entry["dtype"] for entry in entries.values()}
    fitting_input, description = next(
        (
            place_and_words
            for name_end, *place_and_words in KINDS
            if any(name.endswith(name_end) for name in shapes)
        ),
        (None, f"{len(shapes)} tensors of a different model, such as {next(iter(shapes), 'none')}"),
    )
    if any(map(is_lora, shapes)):
        fitting_input, description = "LoRA", "a LoRA"
    product = next(filter(None, map(product_of, shapes)), "")
    if fitting_input is None and product:
        fitting_input = "LoRA"
        description = f"a {product}"
    sizes = [
        shape for name, shape in shapes.items() if f".{name}".endswith(".patch_embedding.weight")
    ]
    if description.endswith("transformer") and sizes and len(sizes[0]) > 1:
        channels = sizes[0][1]
        description += f" with {channels} input channels"
        if fitting_input and channels in INPUTS:
            description += f" ({INPUTS[channels]})"
        fitting_input = fitting_input if channels == MODEL_CHANNELS else ""
    if fitting_input == "text encoder" and not any(
        name.endswith("spiece_model") for name in shapes
    ):
        fitting_input = ""
        description = f"{description} without its tokenizer (spiece_model)"
    sizes = [shape for name, shape in shapes.items() if name.endswith("embeddings.class_embedding")]
    if fitting_input == "CLIP vision" and sizes[0] != [VISION_WIDTH]:
        fitting_input = ""
        description = f"{description} of another width, {sizes[0]}"
    if any(name.endswith(SCALE_PARTS) for name in shapes):
        description += (
            ", scaled float8" if any(dtype.startswith("F8_") for dtype in dtypes) else ", quantised"
        )
    return fitting_input, description


def check_weights(file: Path, place: str, unknown: bool = False) -> None:
    """Refuse a weight file that is incomplete or doesn't fit its input, by its header alone.

    Args:
        place: model, text encoder, VAE, CLIP vision or LoRA.
        unknown: take a file of no known kind.

    Raises:
        EgoXInputError: says what the file is and what to take.
    """
    weights = weight_file(file, place)
    if weights.place != place and not (unknown and weights.place is None):
        file_text, instead = weights.refusal
        expected, fix = WANTED[place]
        raise EgoXInputError(place, got=file_text, expected=expected, fix=instead or fix)


def check_run_files(base: Path, lora: Path | None = None, vae: Path | None = None) -> None:
    """Refuse weight files that aren't a Wan base model, a LoRA for it and a Wan VAE.

    See :func:`check_weights` and :func:`check_lora`; folders are read later.
    """
    for file, place in ((base, "model"), (vae, "VAE")):
        if file is not None and not file.is_dir():
            check_weights(file, place)
    if lora is not None:
        check_lora(lora, None if base.is_dir() else base)


def check_lora(file: Path, base: Path | None = None) -> None:
    """Refuse a LoRA that is incomplete or doesn't fit the base model, by headers alone.

    Raises:
        EgoXInputError: as above; a base that isn't whole.
    """
    weights = weight_file(file, "LoRA")
    check_position_scale(weights.metadata)
    model = None if base is None else weight_file(base, "model")
    try:
        lora = weights.lora(values=False)
        if model is not None:
            lora.check_fits(model.shapes)
    except EgoXInputError as error:
        model_words = "" if model is None else f", on {model.file.name!r}: {model.words}"
        raise EgoXInputError(
            error.what,
            got=f"{error.got} in {weights.refusal[0]}{model_words}",
            expected=error.expected,
            fix=error.fix,
        ) from error


def check_new_file(
    target: Path, sources: Collection[Path | None], strength: float = 1.0, base: Path | None = None
) -> None:
    """Refuse a merge or conversion with an invalid target, source, strength or base.

    Raises:
        EgoXInputError: no .safetensors, one of the sources itself, a strength that is no number, a
            base into which a LoRA is merged already.
    """
    if target.suffix != ".safetensors":
        raise EgoXInputError(
            "target",
            got=target.name,
            expected="a name ending in .safetensors",
            fix=f"use {target.with_suffix('.safetensors').name}",
        )
    for source in (*sources, base):
        refuse_overwriting(target, source)
    check_strength(strength)
    if base is not None and not base.is_dir():
        if MERGED in weight_file(base, "base model").metadata:
            raise EgoXInputError(
                "base model",
                got=f"{base.name}, into which a LoRA is merged already",
                expected="a base without one",
                fix="give the model's own file",
            )


def check_strength(strength: float) -> None:
    """Refuse a LoRA strength that is NaN or infinite.

    Raises:
        EgoXInputError: NaN or infinity.
    """
    if not math.isfinite(strength):
        raise EgoXInputError(
            "strength of the LoRA",
            got=strength,
            expected="a finite number",
            fix="1 is the LoRA as it was trained",
        )
