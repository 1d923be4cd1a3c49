"""Predict the memory of a training step from the shapes of the model's weights.

What is counted, and how well it is known:
- weights, LoRA, gradients, optimizer and EMA states, checkpoints: exact, from the model's shapes;
- activations with gradient checkpointing: plus what autograd keeps of the one block that is being
  recomputed, operation by operation as diffusers' Wan block has them, or what stands outside of the
  blocks, whichever is more;
- one ego frame's attention bias with its temporaries;
- while validation samples are made, instead of gradients and activations: what is kept of exo, and
  one block's forward;
- a flat share more. The sum is .2 and .5 % below the two steps that were measured on cards (14B,
  rank 256, bfloat16 and float8: benchmarks/results/gpu_nvidia_h100_80gb_hbm3.md and the H200's).
``bench gpu`` measures real steps beside it. What waits in the computer's main memory is counted
likewise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import nn

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.gga import kept_size
from egox_core.sizes import PATCH

from .config import TARGET_GROUPS, TrainConfig, parse_config, target_modules
from .number_types import settle_types

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

BYTES_PER_WEIGHT = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float8": 1.0,
}  # float8's scale per row is negligible
OPTIMIZER_BYTES = {
    "adamw": 8.0,
    "adamw8bit": 2.0,
    "adafactor": 0.02,
    "muon": 4.0,
}  # of state, a trained weight
OVERHEAD_SHARE = 0.03
FORWARD_COPIES = 15
"""Tensors as large as the tokens in bfloat16 that live in a block's forward without gradients."""
CARD_BYTES = 1e9
"""Driver, kernels and libraries on a card beside its tensors."""
PROCESS_BYTES = 3e9
"""Main memory of a process that trains, beside what is counted here."""
GB = 1e9
SWITCHES: tuple[Mapping[str, Any], ...] = (
    {"memory.checkpoint_offload": True},
    {"optimizer.name": "adamw8bit"},
    {"memory.checkpoint_offload": True, "optimizer.name": "adamw8bit"},
    {"memory.base_dtype": "bfloat16", "memory.block_offload": True},
    {
        "memory.base_dtype": "bfloat16",
        "memory.block_offload": True,
        "memory.checkpoint_offload": True,
    },
    {
        "memory.base_dtype": "bfloat16",
        "memory.block_offload": True,
        "memory.checkpoint_offload": True,
        "optimizer.name": "adamw8bit",
    },
)
"""Settings that make a LoRA's step smaller and change nothing of what is learnt, the quickest
first."""
TABLE_RANKS = (256, 128, 64, 32)
BASES: Mapping[str, Mapping[str, int]] = {
    "14B": {},
    "1.3B": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
}
"""Sizes of Wan 2.1 I2V 14B, and of Fun 1.3B InP."""
ROWS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("14B", "bfloat16", {}),
    ("14B", "bfloat16; checkpoints on the CPU", SWITCHES[0]),
    ("14B", "float8; checkpoints on the CPU", {"memory.base_dtype": "float8", **SWITCHES[0]}),
    ("14B", "bfloat16; blocks and checkpoints on the CPU", SWITCHES[4]),
    ("14B", "the same, 8-bit Adam", SWITCHES[5]),
    ("14B", "the same, with EMA", {**SWITCHES[5], "ema_decay": 0.999}),
    ("1.3B", "bfloat16", {}),
    ("1.3B", "bfloat16; checkpoints on the CPU", SWITCHES[0]),
)
"""Base, what is said of the settings, and they: rows of :func:`memory_table`."""
CANVASES: Mapping[str, tuple[int, int, int, int]] = {
    "1232x448": (13, 56, 98, 56),
    "704x256": (13, 32, 56, 32),
}
"""(t, h, w_exo, w_ego) in latents, of 49 frames."""


@frozen
class MemoryEstimate:
    """Predicted GPU memory of a training step in bytes, by purpose."""

    base: float
    lora: float
    gradients: float  # those that are there while the first block goes through backwards
    optimizer: float
    ema: float
    checkpoints: float
    block: float
    outer_tensors: float
    bias: float
    # instead of gradients and activations while validation samples are made; 0: none are
    samples: float

    @property
    def activation_bytes(self) -> float:
        """Bytes of activations at the peak of the backward pass.

        These are the gradient checkpoints, plus the larger of one recomputed block and
        the tensors outside of the blocks."""
        return self.checkpoints + max(self.block + self.bias, self.outer_tensors)

    @property
    def total(self) -> float:
        """Predicted GPU memory in bytes for all purposes."""
        step_bytes = max(self.gradients + self.activation_bytes, self.samples)
        return (1 + OVERHEAD_SHARE) * (self.base + self.trained_bytes - self.gradients + step_bytes)

    @property
    def trained_bytes(self) -> float:
        """Bytes of the trained weights, their gradients and optimizer states."""
        return self.lora + self.gradients + self.optimizer + self.ema

    def __str__(self) -> str:
        return (
            f"predicted peak memory of a step: {self.total / 1e9:.1f} GB (base "
            f"{self.base / 1e9:.1f}, trained weights and their states "
            f"{self.trained_bytes / 1e9:.1f}, activations {self.activation_bytes / 1e9:.1f}"
            + (f"; or validation samples {self.samples / 1e9:.1f}" if self.samples else "")
            + ")"
        )


def predict(
    config: TrainConfig,  # types settled
    model: WanTransformer3DModel,  # without a LoRA; its shapes are enough
    grid: tuple[int, int, int, int],  # (t, h, w_exo, w_ego) of the largest canvas, in latents
    *,
    shards: int = 1,  # processes that weights are spread over
) -> MemoryEstimate | None:
    """Predict the peak GPU memory of one training process.

    Returns None if a base is trained or the LoRA targets single modules."""
    memory_settings, targets = config.memory, config.lora.targets
    if not config.trains_lora or not set(targets) <= set(TARGET_GROUPS):
        return None
    t, h, w_exo, w_ego = grid
    tokens = t * (h // 2) * ((w_exo + w_ego) // 2)
    model_config: Any = model.config
    model_dim = model_config.num_attention_heads * model_config.attention_head_dim
    block_count = model_config.num_layers
    activation_bytes = (
        4.0 if memory_settings.base_dtype == "float32" else 2.0
    )  # of other weights, too
    linear_layers = {
        n: linear_layer
        for n, linear_layer in model.blocks.named_modules()
        if isinstance(linear_layer, nn.Linear)
    }
    block_parameters = (
        sum(linear_layer.weight.numel() for linear_layer in linear_layers.values()) / block_count
    )
    float32_modules = tuple(model._keep_in_fp32_modules or ())  # as cast_base has it
    matrix_ids = {id(linear_layer.weight) for linear_layer in linear_layers.values()}
    other_weights_bytes = sum(
        p.numel()
        * (
            4.0
            if any(name_part in float32_modules for name_part in name.split("."))
            else activation_bytes
        )
        for name, p in model.named_parameters()
        if id(p) not in matrix_ids
    )
    block_parameters *= BYTES_PER_WEIGHT[memory_settings.base_dtype]
    device_share = (
        1 if memory_settings.block_offload else block_count
    )  # offload: the visiting block alone
    base_bytes = (device_share * block_parameters + other_weights_bytes) / shards
    if shards > 1:
        base_bytes += block_parameters  # the one that is gathered
    if memory_settings.base_dtype == "float8":
        base_bytes += (
            model_dim * model_config.ffn_dim * 2
        )  # the one weight that is unpacked at a time
    target_names = target_modules(targets)
    trained_parameters = sum(
        config.lora.rank * (linear_layer.in_features + linear_layer.out_features) / shards
        for n, linear_layer in linear_layers.items()
        if n.partition(".")[2] in target_names
    )
    token_rows = tokens * config.batch_size
    hidden_bytes, ffn_bytes = (
        token_rows * width * activation_bytes for width in (model_dim, model_config.ffn_dim)
    )
    low_rank_bytes = token_rows * config.lora.rank * activation_bytes
    block_estimate = _block_activations(
        hidden_bytes,
        ffn_bytes,
        low_rank_bytes,
        4.0 * token_rows * model_dim,
        targets,
        image=bool(model_config.image_dim),
    )
    checkpoint_bytes = 0
    if memory_settings.gradient_checkpointing:  # parked ones: that in use and the next
        checkpoint_bytes = 2 if memory_settings.checkpoint_offload else block_count
    # Summed over micro-steps all are there; else each block's replace its checkpoint.
    gradients = trained_parameters * 4
    if config.gradient_accumulation == 1 and memory_settings.gradient_checkpointing:
        first_block_bytes = checkpoint_bytes * hidden_bytes + gradients / block_count
        gradients = (
            max(first_block_bytes, hidden_bytes + gradients) - checkpoint_bytes * hidden_bytes
        )
    # One ego frame's rows: cosine, its scaled copy, the logarithm, and the cast one (padded by the
    # kernel once). The product kernel makes none; copies in its backward pass take as much.
    guided_biases = config.conditioning.gga_options().biases
    bias_rows = (h // 2) * (w_ego // 2) * tokens if guided_biases else 0
    kept_bytes, samples_bytes = _sampling_bytes(config, model, grid)
    if samples_bytes:  # parked exo: that of the block in use and of the next
        samples_bytes += kept_bytes * (2 if memory_settings.checkpoint_offload else block_count)
        if memory_settings.compute_dtype == "bfloat16":
            samples_bytes += trained_parameters * 2  # the LoRA's copies, which autocast keeps
    return MemoryEstimate(
        base=base_bytes,
        lora=trained_parameters * 4,
        gradients=gradients,
        optimizer=trained_parameters * OPTIMIZER_BYTES[config.optimizer.name],
        ema=trained_parameters * 4 if config.ema_decay else 0.0,
        checkpoints=checkpoint_bytes * hidden_bytes,
        block=block_estimate
        if memory_settings.gradient_checkpointing
        else block_count * block_estimate,
        outer_tensors=token_rows * (model_config.in_channels + 2 * 64) * 4 + 6 * hidden_bytes,
        bias=bias_rows * (3 * 4.0 + 2 * activation_bytes),
        samples=samples_bytes,
    )


def _sampling_bytes(
    config: TrainConfig, model: WanTransformer3DModel, grid: tuple[int, int, int, int]
) -> tuple[float, float]:
    """Estimate what sampling a validation clip keeps of exo in a block, and a block's forward.

    Zeros where no samples are made.
    """
    validation, is_alone = config.validation, config.conditioning.exo == "alone"
    if not validation.every or not validation.sample_steps:
        return 0.0, 0.0
    t, h, w_exo, w_ego = grid
    model_config: Any = model.config
    width = model_config.num_attention_heads * model_config.attention_head_dim
    itemsize = 4 if config.memory.compute_dtype == "float32" else 2
    token_grid = (t, h // PATCH, w_exo // PATCH, w_ego // PATCH)
    keeps_exo = is_alone or validation.recompute_exo != 1
    kept_bytes = kept_size(1, 1, token_grid, width, itemsize) if keeps_exo else 0.0
    widest = max(token_grid[2:]) if is_alone else sum(token_grid[2:])
    return kept_bytes, FORWARD_COPIES * t * token_grid[1] * widest * width * itemsize


def _block_activations(
    hidden: float,
    ffn: float,
    low_rank: float,  # behind the A matrix of a LoRA
    full_bytes: float,  # as hidden, in float32
    targets: Collection[str],
    *,
    image: bool,
) -> float:
    """Estimate the bytes of one block's stored activations and gradients.

    Frozen layers keep no input, since their weights get no gradient; modulation is frozen too.
    """
    norm_bytes = 3 * full_bytes  # float32 input of the three layer norms
    # q and k before their norm; q, k, v, result of the attention; result put together from exo and
    # ego parts
    self_attention = (2 + 4 + 2) * hidden
    # q before its norm, q, result for the text, result for the picture
    cross_attention_bytes = (3 + image) * hidden
    feed_forward = ffn  # input of the activation function
    # (inputs of the LoRA's A matrices that others don't keep, matrices of token length; text is
    # short)
    stored_widths = {"attn1": (1, 4), "attn2": (2, 2), "attn2_image": (0, 0), "ffn": (1, 2)}
    lora_bytes = sum(stored_widths[t][0] * hidden + stored_widths[t][1] * low_rank for t in targets)
    if "ffn" in targets:
        lora_bytes += ffn
    backward_bytes = (
        2 * ffn + 2 * full_bytes
    )  # on both sides of the feed-forward, and of the residual stream
    return (
        norm_bytes
        + self_attention
        + cross_attention_bytes
        + feed_forward
        + lora_bytes
        + backward_bytes
    )


@frozen
class MainMemory:
    """Predicted use of main memory by one process in bytes, by purpose."""

    blocks: float  # of the base that wait there
    checkpoints: float
    kept_exo: float  # of validation samples
    saved_copies: float  # of the trained weights and their states, while they are saved or resumed
    conversion_bytes: float  # the base while it is converted, before it is on the card

    @property
    def total(self) -> float:
        """Predicted peak of main memory in bytes."""
        waiting_bytes = self.blocks + max(self.checkpoints, self.kept_exo, self.saved_copies)
        return PROCESS_BYTES + max(waiting_bytes, self.conversion_bytes)

    def __str__(self) -> str:
        return (
            f"predicted main memory: {self.total / GB:.1f} GB (blocks {self.blocks / GB:.1f}, "
            f"checkpoints {self.checkpoints / GB:.1f}, exo of validation samples "
            f"{self.kept_exo / GB:.1f}, copies while saving "
            f"{self.saved_copies / GB:.1f}, reading the base {self.conversion_bytes / GB:.1f})"
        )


def predict_main(
    config: TrainConfig,
    model: WanTransformer3DModel,
    grid: tuple[int, int, int, int],  # as in predict
    *,
    # The base's file has the type in which it is kept, so that its pages are the system's to drop.
    is_mapped: bool = True,
) -> MainMemory | None:
    """Predict the main memory that one training process uses.

    Returns None if :func:`predict` returns None."""
    memory_settings, step_memory = config.memory, predict(config, model, grid)
    if step_memory is None:
        return None
    model_config: Any = model.config
    linear_parameters = sum(
        linear_layer.weight.numel()
        for linear_layer in model.blocks.modules()
        if isinstance(linear_layer, nn.Linear)
    )
    parameter_count = sum(p.numel() for p in model.parameters())
    bytes_per_weight = BYTES_PER_WEIGHT[
        "float32" if memory_settings.base_dtype == "float32" else "bfloat16"
    ]
    reading_bytes = 0.0 if is_mapped else parameter_count * bytes_per_weight
    if memory_settings.base_dtype == "float8":  # made of the mapped file before it goes to the card
        reading_bytes += linear_parameters * BYTES_PER_WEIGHT["float8"]
    t, h, w_exo, w_ego = grid
    token_rows = config.batch_size * t * (h // 2) * ((w_exo + w_ego) // 2)
    hidden_bytes = (
        token_rows
        * model_config.num_attention_heads
        * model_config.attention_head_dim
        * bytes_per_weight
    )
    return MainMemory(
        blocks=linear_parameters * bytes_per_weight if memory_settings.block_offload else 0.0,
        checkpoints=model_config.num_layers * hidden_bytes
        if memory_settings.checkpoint_offload
        else 0.0,
        kept_exo=model_config.num_layers * _sampling_bytes(config, model, grid)[0]
        if memory_settings.checkpoint_offload
        else 0.0,
        saved_copies=step_memory.lora + step_memory.optimizer + step_memory.ema,
        conversion_bytes=reading_bytes,
    )


@frozen
class Machine:
    """GPU memory and main memory that a training run may use."""

    gpu_bytes: float | None  # None: no accelerator
    main_bytes: float  # free, or to be had by dropping pages of files


def this_machine(device: torch.device) -> Machine:
    """Read the GPU's total memory and the available main memory."""
    total_gpu_bytes = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None
    return Machine(gpu_bytes=total_gpu_bytes, main_bytes=psutil.virtual_memory().available)


def check_memory(
    config: TrainConfig,
    model: WanTransformer3DModel,
    grid: tuple[int, int, int, int],
    machine: Machine,
    *,
    shards: int = 1,
    is_mapped: bool = True,
) -> list[str]:
    """Predict the memory of a training step as text, and refuse settings that need too much.

    Raises:
        EgoXInputError: more than the machine has, with the switches that would fit.
    """
    step_memory = predict(config, model, grid, shards=shards)
    main_estimate = predict_main(config, model, grid, is_mapped=is_mapped)
    if step_memory is None or main_estimate is None:
        return []
    shortage_texts = []
    if machine.gpu_bytes is not None:
        if step_memory.total + CARD_BYTES > machine.gpu_bytes:
            shortage_texts.append(
                f"{step_memory.total / GB:.1f} GB and some {CARD_BYTES / GB:.0f} of the driver on "
                f"a card of {machine.gpu_bytes / GB:.1f} GB"
            )
        if main_estimate.total > machine.main_bytes:
            shortage_texts.append(
                f"{main_estimate.total / GB:.1f} GB of main memory, of which "
                f"{machine.main_bytes / GB:.1f} GB are free"
            )
    if shortage_texts:
        fitting_arguments = (
            fitting_switches(config, model, grid, machine, is_mapped) if shards == 1 else ""
        )
        raise EgoXInputError(
            "memory of a training step",
            got=" and ".join(shortage_texts),
            expected="a step that fits",
            fix=fitting_arguments
            or "train at a smaller size or rank (docs/training.md, Memory), or on a larger card",
        )
    return [str(step_memory), str(main_estimate)]


def fitting_switches(
    config: TrainConfig,
    model: WanTransformer3DModel,
    grid: tuple[int, int, int, int],
    machine: Machine,
    is_mapped: bool = True,
) -> str:
    """Find settings that make a training step fit into memory, as ``--set`` arguments."""
    ranks = [rank for rank in TABLE_RANKS if rank < config.lora.rank]
    smaller_settings: list[Mapping[str, Any]] = [{"ema_decay": None}] if config.ema_decay else []
    smaller_settings += [{"ema_decay": None, "lora.rank": r, "lora.alpha": r} for r in ranks]
    for extra_switches in ({}, *smaller_settings):
        for memory_switches in SWITCHES:
            settings = {**memory_switches, **extra_switches}
            changed_config = apply_settings(config, settings)
            step_memory, main_estimate = (
                f(changed_config, model, grid) for f in (predict, predict_main)
            )
            assert (
                step_memory is not None and main_estimate is not None
            )  # as of the configuration itself
            fits_card = (
                machine.gpu_bytes is None or step_memory.total + CARD_BYTES <= machine.gpu_bytes
            )
            if fits_card and main_estimate.total <= machine.main_bytes:
                set_arguments = " ".join(
                    f"--set {key}={_yaml(value)}" for key, value in settings.items()
                )
                return (
                    f"{set_arguments} (then {step_memory.total / GB:.1f} GB, "
                    f"main memory {main_estimate.total / GB:.1f} GB)"
                )
    return ""


def apply_settings(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """Change values of a configuration by their dotted names."""
    values = config.model_dump()
    for name, value in settings.items():
        *sections, key = name.split(".")
        section_values = values
        for section_name in sections:
            section_values = section_values[section_name]
        section_values[key] = value
    return type(config).model_validate(values)


def _yaml(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}.get(value, str(value))


def meta_model(base: str = "14B", **sizes: int) -> WanTransformer3DModel:
    """Build a Wan image-to-video transformer without weights.

    It has the dimensions of ``base`` unless ``sizes`` changes them."""
    from diffusers import WanTransformer3DModel

    sizes = {**BASES[base], **sizes}
    hidden_width = sizes.get("num_attention_heads", 40) * sizes.get("attention_head_dim", 128)
    with torch.device("meta"):
        return WanTransformer3DModel(
            in_channels=36, out_channels=16, image_dim=1280, added_kv_proj_dim=hidden_width, **sizes
        )


def _table_config() -> TrainConfig:
    """Build the configuration of the tables, on a card."""
    settings = {"base": "", "cache": "", "output": "", "steps": 1, "gradient_accumulation": 8}
    return settle_types(parse_config(settings), torch.device("cuda"))


def memory_table() -> str:
    """Format a Markdown table of the memory that training needs."""
    table_lines = [
        "| canvas | base | kept in | "
        + " | ".join(f"rank {r}" for r in TABLE_RANKS)
        + " | main memory |",
        "|---" * (len(TABLE_RANKS) + 4) + "|",
    ]
    models = {base_name: meta_model(base_name) for base_name in BASES}
    for canvas, grid in CANVASES.items():
        for base_name, row_title, settings in ROWS:
            table_cells, model, config = [], models[base_name], _table_config()
            for lora_rank in TABLE_RANKS:
                changed_settings = {**settings, "lora.rank": lora_rank, "lora.alpha": lora_rank}
                step_memory = predict(apply_settings(config, changed_settings), model, grid)
                assert step_memory is not None  # of a LoRA
                table_cells.append(f"{step_memory.total / GB:.1f}")
            main_estimate = predict_main(apply_settings(config, settings), model, grid)
            assert main_estimate is not None
            table_cells.append(f"{main_estimate.total / GB:.0f}")
            table_lines.append(
                f"| {canvas} | {base_name} | {row_title} | {' | '.join(table_cells)} |"
            )
    return "\n".join((*table_lines, "", *_part_lines(models["14B"])))


def _part_lines(model: WanTransformer3DModel) -> list[str]:
    """Format a Markdown table of the parts of a step for small cards, with validation samples."""
    lines = [
        "| canvas | rank | exo | base | LoRA, optimizer | gradients | checkpoints | a block | step "
        "| with samples | main memory | samples not parked |",
        "|---" * 12 + "|",
    ]
    config = _table_config()
    for canvas, grid in CANVASES.items():
        for rank, exo in ((256, "sees_ego"), (256, "alone"), (128, "sees_ego"), (128, "alone")):
            settings = {**SWITCHES[5], "lora.rank": rank, "conditioning.exo": exo}
            step_config = apply_settings(config, settings)
            sample_config = apply_settings(step_config, {"validation.sample_steps": 50})
            step, samples = (predict(c, model, grid) for c in (step_config, sample_config))
            main = predict_main(sample_config, model, grid)
            assert step is not None and samples is not None and main is not None
            block_bytes = max(step.block + step.bias, step.outer_tensors)
            kept_bytes = (len(model.blocks) - 2) * _sampling_bytes(sample_config, model, grid)[0]
            on_card = replace(samples, samples=samples.samples + kept_bytes)
            sizes = (
                *(step.base, step.trained_bytes - step.gradients, step.gradients),
                *(step.checkpoints, block_bytes, step.total, samples.total),
            )
            cells = " | ".join(f"{size / GB:.1f}" for size in sizes)
            lines.append(
                f"| {canvas} | {rank} | `{exo}` | {cells} | {main.total / GB:.0f} | "
                f"{on_card.total / GB:.1f} |"
            )
    return lines
