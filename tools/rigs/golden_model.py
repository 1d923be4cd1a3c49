"""Load the tiny golden transformer as a model of ComfyUI, with its own WanModel class and
patcher."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from tools.setup.layout import REPO_ROOT

from .model_rig import import_core_module

GOLDEN = REPO_ROOT / "tests" / "golden"
SETTINGS = {  # tests/golden/tiny_config.json in the host's words
    "image_model": "wan2.1",
    "model_type": "i2v",
    "in_dim": 36,
    "out_dim": 16,
    "dim": 64,
    "num_heads": 2,
    "num_layers": 2,
    "ffn_dim": 96,
    "freq_dim": 32,
    "text_dim": 24,
    "text_len": 512,
    "eps": 1e-6,
    "qk_norm": True,
    "cross_attn_norm": True,
}
IMAGE_DIM = 20


def load_golden(name: str, folder: Path = GOLDEN) -> dict[str, Tensor]:
    """Load the tensors of ``name.safetensors``."""
    return load_file(folder / f"{name}.safetensors")


def select_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the tensors whose key starts with ``prefix``, and remove the prefix."""
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def load_golden_model(pack: ModuleType) -> Any:
    """Load a float32 ModelPatcher of the golden weights, and check that every one of them fits."""
    import comfy.ldm.wan.model
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.ops
    import comfy.supported_models
    import torch

    config = comfy.supported_models.WAN21_I2V({**SETTINGS, "dtype": torch.float32})
    model = comfy.model_base.WAN21(config, image_to_video=True, device=torch.device("cpu"))
    operations = {
        "operations": comfy.ops.manual_cast,
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    # The class fixes 1280 features of CLIP vision; the golden has 20.
    model.diffusion_model.img_emb = comfy.ldm.wan.model.MLPProj(
        IMAGE_DIM, SETTINGS["dim"], operation_settings=operations
    )
    weights, unmatched = import_core_module(pack, "wan").convert_transformer(
        select_prefix(load_golden("tiny_transformer"), "weights.")
    )
    assert not unmatched, unmatched
    model.diffusion_model.load_state_dict(weights, strict=True)
    model.diffusion_model.requires_grad_(False).eval()
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(
        model, load_device=device, offload_device=torch.device("cpu")
    )
