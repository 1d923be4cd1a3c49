"""Define and validate the training configuration, from YAML files and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from egox_core.errors import EgoXInputError
from egox_core.gga import GgaOptions
from egox_core.types import GgaMode, HiddenLines, MaskMode
from egox_core.wan import trained_with

from ..options import ComputeType, ImageEmbedding, Mode, Rays, TextEncoding

YAML_ERRORS = (yaml.YAMLError, RecursionError, TypeError, ValueError)
"""Raised by YAML at text that is none, numbers and dates that are none, and keys that can't be."""

MODE_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    # What the nodes do at inference with their own defaults.
    "released": {
        "mask_mode": "released",
        "image_embedding": "released",
        "gga_mode": "released",
        "lambda_g": 3.0,
        "rays": "released",
        "text_encoding": "released",
        "timesteps": "table",
        "shift": 3.0,
    },
    # The released trainer: last pixel frame of exo left known, lambda 1, unshifted table (quirks 31
    # to 33, 36, 38, 39).
    "trainer": {
        "mask_mode": "trainer",
        "image_embedding": "trainer",
        "gga_mode": "released",
        "lambda_g": 1.0,
        "rays": "trainer",
        "text_encoding": "trainer",
        "timesteps": "table",
        "shift": 1.0,
    },
    # Eq. 3 and 4 as written: the whole exo half is known, lambda times every exo key's weight.
    "paper": {
        "mask_mode": "paper",
        "image_embedding": "exo+prior",
        "gga_mode": "paper",
        "lambda_g": 1.0,
        "rays": "exact",
        "text_encoding": "released",
        "timesteps": "table",
        "shift": 3.0,
    },
}
RELEASED_OPTIMIZER: Mapping[str, Any] = {
    # What the released trainer runs with: its script sets none of them, so its defaults. The paper
    # states none.
    "learning_rate": 2e-5,
    "betas": (0.9, 0.95),
    "warmup_steps": 100,
    "decay": "constant",
}
MODE_OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "trainer": RELEASED_OPTIMIZER,
    "paper": RELEASED_OPTIMIZER,
}
MODE_DEFAULT: Any = None
"""Default of the fields that follow ``mode``, put in its place before they are validated."""
ABLATION_FIELD_NAMES = ("prior", "hidden_lines", "exo_clean", "exo_loss", "exo", "position_scale")
"""Fields that hold in any mode: a LoRA that was trained without something, or at other positions,
is sampled so."""
LORA_FIELD_NAMES = ("mode", "mask_mode", "gga_mode", "lambda_g", "rays", *ABLATION_FIELD_NAMES)
"""Fields that a LoRA's metadata sets at sampling; embeddings are those of the cache."""


class _StrictSection(BaseModel):
    """Configuration section that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _mode_of(conditioning: Any) -> str:
    """Find the mode that sets the defaults of a configuration section."""
    if not isinstance(conditioning, Mapping):
        return getattr(conditioning, "mode", "")
    mode = conditioning.get("mode", "released")
    return mode if isinstance(mode, str) else ""


class ConditioningConfig(_StrictSection):
    """Settings for the conditioning on exo video, prior and geometry."""

    mode: Mode = "released"
    mask_mode: MaskMode = MODE_DEFAULT
    image_embedding: ImageEmbedding = MODE_DEFAULT
    gga_mode: GgaMode = MODE_DEFAULT
    lambda_g: float = Field(default=MODE_DEFAULT, ge=0, allow_inf_nan=False)
    rays: Rays = MODE_DEFAULT
    text_encoding: TextEncoding = MODE_DEFAULT
    # The paper's ablations; gga_mode off is the third.
    # False, "without clean latent": the exo half is noised like the ego half
    exo_clean: bool = True
    exo_loss: bool = False  # with exo_clean off: the exo half is learnt, and sampled, too
    # alone: exo attends to exo at time step 0, so that sampling computes it once a run
    exo: Literal["sees_ego", "alone"] = "sees_ego"
    # none, zero: "without ego prior": latent of a grey video, zeros
    prior: Literal["prior", "none", "zero"] = "prior"
    # of the priors: whether they show what is seen through places that exo never saw empty
    hidden_lines: HiddenLines = "draw"
    # of heights and widths in the rotary embedding: .5 lets a base see twice its size as its own
    position_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    # Share of the samples whose caption is the empty one, as guidance (`generate --cfg`) takes it;
    # the released: 0
    caption_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _follow_mode(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        for key, value in MODE_DEFAULTS.get(_mode_of(values), MODE_DEFAULTS["released"]).items():
            if key in cls.model_fields and values.get(key) is None:
                values[key] = value
        return values

    @model_validator(mode="after")
    def _lambda_fits_mode(self) -> ConditioningConfig:
        if self.gga_mode == "paper" and self.lambda_g == 0:
            raise ValueError(
                "lambda_g 0 would silence every exo key in gga_mode paper; use gga_mode off"
            )
        if self.exo_loss and self.exo_clean:
            raise ValueError(
                "exo_loss needs exo_clean false: a clean exo half has nothing to predict"
            )
        if self.exo == "alone" and not self.exo_clean:
            raise ValueError(
                "exo alone needs exo_clean true: a noised exo half is another at each step"
            )
        return self

    @classmethod
    def from_lora(
        cls, metadata: Mapping[str, str], *, mode: str | None = None, **instead: Any
    ) -> ConditioningConfig:
        """Read the conditioning settings that a LoRA was trained with from its file.

        Args:
            mode: another mode than its own, of which only what the LoRA was trained without is then
                kept.
            instead: fields with other values than the LoRA's; None leaves its own.
        """
        trained_settings = {
            key: value for key, value in trained_with(metadata).items() if key in LORA_FIELD_NAMES
        }
        if mode is not None:
            trained_settings = {
                "mode": mode,
                **{
                    key: value
                    for key, value in trained_settings.items()
                    if key in ABLATION_FIELD_NAMES
                },
            }
        return cls.model_validate(
            {
                **trained_settings,
                **{key: value for key, value in instead.items() if value is not None},
            }
        )

    def gga_options(self) -> GgaOptions:
        """Convert the conditioning settings to options of geometry-guided attention."""
        return GgaOptions(mode=self.gga_mode, lambda_g=self.lambda_g)


class TimestepConfig(_StrictSection):
    """Distribution from which noise levels are drawn."""

    kind: Literal["table", "uniform", "logit_normal"] = "table"
    # Computes s' = shift s / (1 + (shift - 1) s); None follows the mode.
    shift: float | None = Field(default=None, gt=0)
    levels: int = Field(default=1000, ge=1)
    # share of the samples whose level is uniform in 0...1 instead: a large shift draws few low ones
    uniform_share: float = Field(default=0.0, ge=0, le=1)
    logit_mean: float = 0.0
    logit_std: float = Field(default=1.0, gt=0)


TARGET_GROUPS: Mapping[str, tuple[str, ...]] = {
    # The released LoRA's eight matrices a block; the image projections stay as they are (quirks,
    # key names).
    "attn1": tuple(f"attn1.{m}" for m in ("to_q", "to_k", "to_v", "to_out.0")),
    "attn2": tuple(f"attn2.{m}" for m in ("to_q", "to_k", "to_v", "to_out.0")),
    "attn2_image": ("attn2.add_k_proj", "attn2.add_v_proj"),
    "ffn": ("ffn.net.0.proj", "ffn.net.2"),
}


class LoraSettings(_StrictSection):
    """Settings of the LoRA, by default those of the released one."""

    rank: int = Field(default=256, ge=1)
    alpha: float = Field(default=256, gt=0)
    targets: tuple[str, ...] = ("attn1", "attn2")  # of TARGET_GROUPS, or names of modules
    dropout: float = Field(default=0.0, ge=0, lt=1)


def target_modules(targets: tuple[str, ...]) -> tuple[str, ...]:
    """List the names of the modules in a block that the LoRA changes.

    Raises:
        EgoXInputError: neither a group nor a module of a block.
    """
    all_modules = {
        module_name for group_modules in TARGET_GROUPS.values() for module_name in group_modules
    }
    module_names: list[str] = []
    for target_name in targets:
        group_members = TARGET_GROUPS.get(target_name) or (
            (target_name,) if target_name in all_modules else ()
        )
        if not group_members:
            raise EgoXInputError(
                "LoRA target",
                got=repr(target_name),
                expected=f"one of {', '.join(TARGET_GROUPS)} or a module",
                fix="the released LoRA trains attn1 and attn2",
            )
        module_names.extend(
            module_name for module_name in group_members if module_name not in module_names
        )
    return tuple(module_names)


class OptimizerConfig(_StrictSection):
    """Settings of the optimizer."""

    name: Literal["adamw", "adamw8bit", "adafactor", "muon"] = "adamw"  # muon: matrices alone
    learning_rate: float = Field(default=1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = Field(default=1e-4, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    decay: Literal["cosine", "constant"] = "cosine"
    # Factor of the learning rate at the last step of the cosine.
    final_factor: float = Field(default=0.0, ge=0, le=1)


class MemoryConfig(_StrictSection):
    """Settings that reduce GPU memory at the cost of speed, and types of numbers."""

    gradient_checkpointing: bool = True
    # auto: as compute_dtype, and float32 where all weights are trained
    base_dtype: Literal["auto", "float32", "bfloat16", "float8"] = "auto"
    # auto: bfloat16 on a GPU, and on a CPU whose products are faster in it, else float32
    compute_dtype: ComputeType = "auto"
    block_offload: bool = False
    checkpoint_offload: bool = False  # the blocks' inputs wait on the CPU for their backward
    compile: bool = False  # blocks compiled by torch: time, not memory; some minutes at the start


class CheckpointConfig(_StrictSection):
    every: int = Field(default=500, ge=1)  # steps
    # A checkpoint is also saved if so many minutes have passed since the last one; 0: only by
    # steps.
    minutes: float = Field(default=0.0, ge=0)
    keep: int = Field(default=3, ge=1)


class ValidationConfig(_StrictSection):
    every: int = Field(default=500, ge=0)  # 0: never
    clips: int = Field(default=4, ge=1)
    # 0 computes only the loss; otherwise the number of steps of samples with PSNR and SSIM.
    sample_steps: int = Field(default=0, ge=0)
    # Samples compute exo at every n-th step; 0: only at the first one.
    recompute_exo: int = Field(default=1, ge=0)
    vae: Path | None = None  # decodes the samples


class LogConfig(_StrictSection):
    every: int = Field(default=10, ge=1)
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    timestep_buckets: int = Field(default=4, ge=1)


class SamplesConfig(_StrictSection):
    """Settings that define the training samples taken from a cache."""

    # base_i2v: all weights, plain image-to-video on single views
    task: Literal["egox_lora", "base_i2v"] = "egox_lora"
    cache: Path
    seed: int = 0
    conditioning: ConditioningConfig = ConditioningConfig()


class TrainConfig(SamplesConfig):
    """Complete configuration of a training run."""

    base: Path  # diffusers folder, or a single file in diffusers or ComfyUI naming
    output: Path
    # weights to start from, optimizer fresh: same base and targets, rank no higher
    init_lora: Path | None = None
    steps: int = Field(ge=1)
    batch_size: int = Field(default=1, ge=1)  # a process and micro-step
    gradient_accumulation: int = Field(default=1, ge=1)
    timesteps: TimestepConfig = TimestepConfig()
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerConfig = OptimizerConfig()
    memory: MemoryConfig = MemoryConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    log: LogConfig = LogConfig()
    ema_decay: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _follow_mode(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        mode = _mode_of(values.get("conditioning") or {})
        timestep_settings, optimizer_settings = (
            values.get("timesteps") or {},
            values.get("optimizer") or {},
        )
        if (
            isinstance(timestep_settings, Mapping)
            and timestep_settings.get("shift") is None
            and mode in MODE_DEFAULTS
        ):
            values["timesteps"] = {**timestep_settings, "shift": MODE_DEFAULTS[mode]["shift"]}
        if isinstance(optimizer_settings, Mapping) and mode in MODE_OPTIMIZER:
            values["optimizer"] = {**MODE_OPTIMIZER[mode], **optimizer_settings}
        return values

    @model_validator(mode="after")
    def _fits_the_task(self) -> TrainConfig:
        if self.init_lora is not None and not self.trains_lora:
            raise ValueError("init_lora is for task egox_lora; a base starts from `base`")
        if self.task != "egox_lora" and self.conditioning.exo == "alone":
            raise ValueError("conditioning.exo=alone is for task egox_lora")
        return self

    @property
    def trains_lora(self) -> bool:
        """True if training changes a LoRA on a frozen base, not the base itself."""
        return self.task == "egox_lora"


def load_config(
    file: Path | None, overrides: Sequence[str] = (), *, more_files: Sequence[Path] = ()
) -> TrainConfig:
    """Load a training configuration from YAML files and overrides of the form ``a.b=value``.

    Raises:
        EgoXInputError: no such file, not YAML, unknown or missing key, value outside its range.
    """
    setting_values: dict[str, Any] = {}
    for config_file in (file, *more_files) if file is not None else ():
        setting_values = _merge_sections(setting_values, _read_yaml(config_file))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise EgoXInputError(
                "override",
                got=repr(override),
                expected="key=value, as optimizer.learning_rate=1e-4",
                fix="write key=value",
            )
        try:
            value = yaml.safe_load(text)
        except YAML_ERRORS as error:
            raise EgoXInputError(
                f"override {key}", got=text, expected="a YAML value", fix="quote the value"
            ) from error
        nested_setting = _parse_number(value)
        for key_part in reversed(key.strip().split(".")):
            nested_setting = {key_part: nested_setting}
        setting_values = _merge_sections(setting_values, nested_setting)
    return parse_config(setting_values)


def parse_config(values: Mapping[str, Any]) -> TrainConfig:
    """Validate a training configuration that is given as a dictionary."""
    try:
        return TrainConfig.model_validate({str(key): value for key, value in values.items()})
    except ValidationError as error:
        lines = [
            (
                f"{'.'.join(map(str, problem['loc'])) or 'configuration'}: {problem['msg']} (got "
                f"{problem['input']!r})"
            )
            for problem in error.errors()[:6]
        ]
        raise EgoXInputError(
            "training configuration",
            got="; ".join(lines),
            expected="known keys with values in range",
            fix="correct these keys; `train_egox.py train --print-defaults` lists all",
        ) from error


def dump_config(config: TrainConfig) -> str:
    """Write the complete configuration as YAML, including all defaults."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_to_share(config: TrainConfig) -> dict[str, Any]:
    """Dump the configuration for publication, with file names in place of full paths."""

    def with_file_names(model_value: Any, serialised_value: Any) -> Any:
        if isinstance(model_value, Mapping):
            return {
                key: with_file_names(model_value[key], value)
                for key, value in serialised_value.items()
            }
        return model_value.name if isinstance(model_value, Path) else serialised_value

    return with_file_names(config.model_dump(), config.model_dump(mode="json"))


def _read_yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise EgoXInputError(
            "training configuration",
            got=f"no file {file}",
            expected="a YAML file",
            fix="give a file that is there, or all settings as --set key=value",
        )
    try:
        values = yaml.safe_load(file.read_text("utf-8")) or {}
    except YAML_ERRORS as error:
        raise EgoXInputError(
            f"training configuration {file.name}",
            got=str(error).replace("\n", " ")[:200],
            expected="valid YAML",
            fix="correct the file",
        ) from error
    if not isinstance(values, dict):
        raise EgoXInputError(
            f"training configuration {file.name}",
            got=type(values).__name__,
            expected="keys and values",
            fix="see configs/train_example.yaml",
        )
    return values


def _merge_sections(
    base_section: dict[str, Any], override_section: dict[str, Any]
) -> dict[str, Any]:
    """Merge two nested configurations, of which the second takes precedence."""
    sections = {
        key: _merge_sections(base_section[key], value)
        for key, value in override_section.items()
        if isinstance(value, dict) and isinstance(base_section.get(key), dict)
    }
    return {**base_section, **override_section, **sections}


def _parse_number(value: Any) -> Any:
    """Convert text to a number if possible, because YAML reads 1e-4 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
