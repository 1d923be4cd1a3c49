"""Load the base transformer from a diffusers folder or a single file, and save it."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.safe_files import atomic_write, visible_files
from egox_core.sizes import MODEL_CHANNELS
from egox_core.wan import StreamedWeights, check_weights, convert_transformer, read_header

from .weights import apply_scales, file_metadata, subfolder

HEAD_DIM = 128  # of every published Wan; other models say their heads in the metadata


def load_base(path: Path, dtype: torch.dtype = torch.float32) -> WanTransformer3DModel:
    """Load the Wan transformer with frozen weights.

    Raises:
        EgoXInputError: as :func:`base_without_weights`; weights that don't fit the configuration,
            or memory.
    """
    model = base_without_weights(path)
    try:
        loaded_model = (
            _read_folder(path, dtype) if path.is_dir() else _read_file(model, path, dtype)
        )
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        file_bytes = sum(file.stat().st_size for file in weight_files(path))
        raise EgoXInputError(
            f"memory for base model {path.name}",
            got=(
                f"too little for its {file_bytes / 1e9:.0f} GB, which the system wants as memory "
                "and swap together"
            ),
            expected="as much, or a smaller file",
            fix=(
                "close other programs, add swap, or take the file that ends in _fp8_scaled or _bf16"
            ),
        ) from error
    return cast_base(loaded_model, dtype)


def base_without_weights(path: Path) -> WanTransformer3DModel:
    """Build the Wan transformer from file headers alone, without weights.

    Raises:
        EgoXInputError: nothing there, pickled, not a Wan transformer, not a 36-channel
            image-to-video one.
    """
    file_words = f"base model {path.name}"
    if path.is_dir():
        config = _read_config(path)
    else:
        check_weights(path, "model")
        weight_shapes: dict[str, Any] = {
            n: SimpleNamespace(shape=s)
            for n, s in StreamedWeights([path], file_words).shapes().items()
        }
        weights, unknown_names = convert_transformer(weight_shapes, "diffusers")
        if unknown_names:
            raise EgoXInputError(
                file_words,
                got=f"{len(unknown_names)} tensors such as {unknown_names[0]}",
                expected="a plain Wan transformer",
                fix="camera, VACE and other variants can't be trained; give plain Wan I2V",
            )
        try:
            config = transformer_config(weights, file_metadata(path, file_words))
        except (KeyError, ValueError) as error:
            raise _incomplete(file_words, error) from error
    with torch.device("meta"):
        model: Any = WanTransformer3DModel.from_config(config)
    model_config = model.config
    if model_config.in_channels != MODEL_CHANNELS:
        raise EgoXInputError(
            file_words,
            got=f"{model_config.in_channels} input channels",
            expected=f"{MODEL_CHANNELS} (Wan image-to-video)",
            fix=(
                "give Wan 2.1 I2V 14B, Wan 2.1 Fun InP or Wan 2.2 I2V; text-to-video and Fun "
                "Control models can't take the exo half"
            ),
        )
    return model


def weight_files(path: Path) -> list[Path]:
    """List the safetensors files of a base model, which is a single file or a diffusers folder."""
    if not path.is_dir():
        return [path]
    return visible_files(subfolder(path, "transformer"), "*.safetensors")


def storage_dtype(path: Path) -> str:
    """Choose float32 if the base model's weights are float32, else bfloat16."""
    bytes_by_dtype = Counter[str]()
    for file in weight_files(path):
        for name, entry in read_header(file, f"base model {path.name}").items():
            if name != "__metadata__":
                bytes_by_dtype[entry["dtype"]] += math.prod(entry["shape"])
    return "float32" if bytes_by_dtype.most_common(1)[0][0] == "F32" else "bfloat16"


def cast_base(model: WanTransformer3DModel, dtype: torch.dtype) -> WanTransformer3DModel:
    """Convert the weights of the transformer to ``dtype``, except some that must stay float32."""
    float32_modules = tuple(model._keep_in_fp32_modules or ())
    for name, parameter in model.named_parameters():
        name_parts = name.split(".")
        parameter.data = parameter.data.to(
            torch.float32 if any(p in float32_modules for p in name_parts) else dtype
        )
    return model


def transformer_config(
    weights: Mapping[str, Tensor],  # by diffusers' names
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    """Derive the transformer's configuration from the shapes of its tensors.

    The file's metadata says the number of heads where it isn't dim / 128.
    """
    patch_weight = weights["patch_embedding.weight"]
    model_dim = patch_weight.shape[0]
    settings = json.loads(metadata.get("config", "{}")).get("transformer", {})
    head_count = int(settings.get("num_heads", max(1, model_dim // HEAD_DIM)))
    block_count = 1 + max(int(k.split(".")[1]) for k in weights if k.startswith("blocks."))
    image_norm_weight = weights.get("condition_embedder.image_embedder.norm1.weight")
    image_key_weight = weights.get("blocks.0.attn2.add_k_proj.weight")
    return {
        "patch_size": tuple(patch_weight.shape[2:]),
        "num_attention_heads": head_count,
        "attention_head_dim": model_dim // head_count,
        "in_channels": patch_weight.shape[1],
        "out_channels": weights["proj_out.weight"].shape[0] // math.prod(patch_weight.shape[2:]),
        "text_dim": weights["condition_embedder.text_embedder.linear_1.weight"].shape[1],
        "freq_dim": weights["condition_embedder.time_embedder.linear_1.weight"].shape[1],
        "ffn_dim": weights["blocks.0.ffn.net.0.proj.weight"].shape[0],
        "num_layers": block_count,
        "cross_attn_norm": "blocks.0.norm2.weight" in weights,
        "image_dim": None if image_norm_weight is None else image_norm_weight.shape[0],
        "added_kv_proj_dim": None if image_key_weight is None else image_key_weight.shape[1],
    }


def save_native(
    model: WanTransformer3DModel, file: Path, metadata: Mapping[str, str], dtype: torch.dtype
) -> None:
    """Save the transformer as one safetensors file that ComfyUI can load."""
    weights = {
        k: v.to(dtype).contiguous()
        for k, v in convert_transformer(model.state_dict(), "native")[0].items()
    }
    with atomic_write(file) as temporary_file:
        save_file(weights, temporary_file, metadata={**native_metadata(model), **metadata})


def native_metadata(model: WanTransformer3DModel) -> dict[str, str]:
    """List metadata that ComfyUI can't derive from the shapes of the weights."""
    config: Any = model.config
    settings = {"num_heads": config.num_attention_heads, "text_dim": config.text_dim}
    return {"format": "pt", "config": json.dumps({"transformer": settings})}


def _read_config(path: Path) -> dict[str, Any]:
    """Read the transformer's configuration from a diffusers folder."""
    folder = subfolder(path, "transformer")
    if not (folder / "config.json").is_file():
        raise EgoXInputError(
            f"base model folder {path.name}",
            got="no transformer/config.json or config.json",
            expected="a diffusers folder",
            fix="give the folder of a Wan I2V diffusers model, or a file",
        )
    try:
        config: Any = WanTransformer3DModel.load_config(folder, local_files_only=True)
        return config
    except (OSError, ValueError) as error:
        raise _no_folder(path, error) from error


def _read_folder(path: Path, dtype: torch.dtype) -> WanTransformer3DModel:
    try:
        return WanTransformer3DModel.from_pretrained(
            subfolder(path, "transformer"), torch_dtype=dtype, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        if "allocate memory" in str(error):
            raise MemoryError from error
        raise _no_folder(path, error) from error


def _no_folder(path: Path, error: Exception) -> EgoXInputError:
    return EgoXInputError(
        f"base model folder {path.name}",
        got=str(error).splitlines()[0],
        expected="weights of a Wan transformer",
        fix="download the folder again",
    )


def _read_file(
    model: WanTransformer3DModel, path: Path, dtype: torch.dtype
) -> WanTransformer3DModel:
    file_words = f"base model {path.name}"
    weights, _ = convert_transformer(apply_scales(load_file(path), dtype, file_words), "diffusers")
    # Not through float32: any dtype holds float8 exactly.
    weights = {k: v.to(dtype) if v.element_size() < 2 else v for k, v in weights.items()}
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except (KeyError, RuntimeError, ValueError) as error:
        raise _incomplete(file_words, error) from error
    _materialise_buffers(model)
    return model


def _incomplete(subject: str, error: Exception) -> EgoXInputError:
    return EgoXInputError(
        subject,
        got=str(error).splitlines()[0][:300],
        expected="all tensors of a Wan transformer",
        fix="the file is incomplete: download it again",
    )


def _materialise_buffers(model: WanTransformer3DModel) -> None:
    """Compute the rotary embedding's tables of a model that was built without weights."""
    config: Any = model.config
    model.rope = type(model.rope)(config.attention_head_dim, config.patch_size, 1024)
