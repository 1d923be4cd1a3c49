"""Build the model, the optimizer and the learning rate schedule for the training loop.

The base is in its storage type, the LoRA (or all weights) in float32, memory options applied. The
learning rate is a pure function of the step, so that a resumed run needs no state for it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egox_core.errors import EgoXInputError, intact, needs_package
from egox_core.wan import check_run_files

from ..compute_type import DTYPES
from ..wan.diffusers_processor import GgaScope, install_gga
from ..wan.transformer import load_base
from ..wan.weights import subfolder, weights_hash
from .compiled import compile_blocks
from .config import OptimizerConfig, TrainConfig
from .lora import add_lora, load_lora_tensors, lora_tensors, start_from_lora
from .offload import offload_blocks, offload_checkpoints, store_base


@dataclass(slots=True, kw_only=True)
class TrainableModel:
    """Wan transformer of diffusers, prepared for training."""

    model: nn.Module
    parameters: list[nn.Parameter]  # those that are trained, float32
    scope: GgaScope
    base_hash: str
    compute_dtype: torch.dtype  # of latents and activations
    autocast: bool  # what is trained stays float32 while computing in bfloat16
    lora: bool

    def tensors(self) -> dict[str, Tensor]:  # by name, as trained
        """Copy the trained weights to the CPU, by name."""
        if self.lora:
            return lora_tensors(self.model)
        return {k: v.detach().cpu().clone() for k, v in self.model.named_parameters()}

    def load_tensors(
        self,
        tensors: Mapping[str, Tensor],  # by name, as trained
        subject: str,  # used in error messages
    ) -> None:
        """Load trained weights, as :meth:`tensors` returns them, into the model.

        Raises:
            EgoXInputError: tensors of another model.
        """
        if self.lora:
            load_lora_tensors(self.model, tensors, subject)
            return
        fix_text = "train into a different output folder"
        with intact(subject, (RuntimeError,), expected="weights of this base", fix=fix_text):
            self.model.load_state_dict(tensors)


def make_trainable(config: TrainConfig, device: torch.device) -> TrainableModel:
    """Load the base model and prepare it for the training task of ``config``, types settled.

    Raises:
        EgoXInputError: bad base (see :func:`..wan.transformer.load_base`), LoRA target that it
            lacks, missing packages.
    """
    memory_settings, trains_lora = config.memory, config.trains_lora
    compute_dtype = DTYPES[memory_settings.compute_dtype]
    if not trains_lora and memory_settings.base_dtype != "float32":
        raise EgoXInputError(
            "memory.base_dtype",
            got=memory_settings.base_dtype,
            expected="float32 when all weights are trained",
            fix="set memory.base_dtype=float32 (compute_dtype may be bfloat16)",
        )
    storage_dtype = DTYPES.get(memory_settings.base_dtype, torch.bfloat16)
    base_path = Path(config.base)
    check_run_files(base_path, config.init_lora)
    base_model = load_base(base_path, storage_dtype)
    base_hash = weights_hash(subfolder(base_path, "transformer"), "base model")
    if trains_lora:
        base_model.requires_grad_(False)
        store_base(base_model, memory_settings.base_dtype)
        parameters = add_lora(base_model, config.lora, config.seed)
        if config.init_lora is not None:
            start_from_lora(base_model, config.init_lora, config.lora, base_hash)
    else:
        base_model.requires_grad_(True)
        parameters = list(base_model.parameters())
    gga_scope = install_gga(base_model, config.conditioning.position_scale)
    if memory_settings.gradient_checkpointing:
        base_model.enable_gradient_checkpointing()
    if memory_settings.checkpoint_offload:
        offload_checkpoints(base_model)
    if memory_settings.block_offload:
        offload_blocks(base_model, device)
    if memory_settings.compile:
        compile_blocks(base_model, device)
    return TrainableModel(
        model=base_model,
        parameters=parameters,
        scope=gga_scope,
        base_hash=base_hash,
        compute_dtype=compute_dtype,
        autocast=compute_dtype != torch.float32,
        lora=trains_lora,
    )


def make_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Create the configured optimizer for the trainable parameters.

    Raises:
        EgoXInputError: 8-bit Adam without bitsandbytes; Muon in a torch without it, or for what
            isn't a matrix.
    """
    common_options: dict[str, Any] = {
        "lr": config.learning_rate,
        "weight_decay": config.weight_decay,
    }
    if config.name == "adafactor":
        return torch.optim.Adafactor(parameters, **common_options)
    if config.name == "adamw8bit":
        with needs_package(
            "bitsandbytes",
            "optimizer adamw8bit",
            expected="the train extra",
            instead=", or use adamw",
        ):
            from bitsandbytes.optim import AdamW8bit
        return AdamW8bit(parameters, betas=config.betas, eps=config.eps, **common_options)
    if config.name == "muon":
        return _muon(parameters, common_options)
    return torch.optim.AdamW(parameters, betas=config.betas, eps=config.eps, **common_options)


def _muon(
    parameters: Iterable[nn.Parameter], common_options: dict[str, Any]
) -> torch.optim.Optimizer:
    """Build the Muon optimizer with steps scaled to the size of Adam's.

    The momentum step is replaced by the nearest orthogonal matrix (K. Jordan and others,
    2024), scaled so that AdamW's learning rates apply (Liu and others, 2025)."""
    if not hasattr(torch.optim, "Muon"):
        raise EgoXInputError(
            "optimizer.name",
            got=f"muon, which torch {torch.__version__} lacks",
            expected="torch 2.9 or newer",
            fix="update torch, or set optimizer.name=adamw",
        )
    try:
        return torch.optim.Muon(parameters, adjust_lr_fn="match_rms_adamw", **common_options)
    except ValueError as error:
        raise EgoXInputError(
            "optimizer.name",
            got=f"muon: {error}",
            expected="matrices alone, as a LoRA's",
            fix="set optimizer.name=adamw for a base",
        ) from error


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Compute the learning rate of one optimizer step from the schedule.

    It is constant, or a linear warm-up and then a cosine down to ``final_factor``."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    decay_share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    rate_factor = config.final_factor + (1 - config.final_factor) * 0.5 * (
        1 + math.cos(math.pi * min(1.0, decay_share))
    )
    return config.learning_rate * rate_factor


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of all parameter groups of an optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = value
