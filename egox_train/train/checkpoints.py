"""Save and load training checkpoints.

    checkpoints/step-00000500/trainable.safetensors   float32 weights that are trained
                              optimizer.pt            optimizer and EMA state (tensors only: read
                              with weights_only) state.json              step, configuration, global
                              batch, base hash

There is no random state to keep: noise, timesteps and order follow from the seed and the sample's
number, dropout from the seed and the step.
"""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import struct
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from egox_core.errors import EgoXInputError, intact
from egox_core.frozen import frozen
from egox_core.safe_files import atomic_write, file_lock, read_json_object, replace_folder

PREFIX = "step-"
STATE_FIELDS: Mapping[str, type] = {
    "step": int,
    "config": dict,
    "global_batch": int,
    "base_hash": str,
    "cache_hash": str,
    "kernel": str,
}
"""Of :class:`TrainState`, what state.json has."""
TORCH_ERRORS = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
"""Raised by torch's and safetensors' readers at damaged files."""
logger = logging.getLogger(__name__)
FREE_TO_CHANGE = (
    "steps",
    "checkpoint",
    "validation",
    "log",
    "output",
    "cache",
    "base",
    "batch_size",
    "gradient_accumulation",
)
"""Settings that a resumed run may have otherwise; paths may move, what they hold is checked by
hash. Of batch and accumulation the global batch counts, see :func:`.launch.micro_steps_for`."""


@frozen
class TrainState:
    """Complete state of a training run, as saved in a checkpoint."""

    step: int  # optimizer steps done
    weights: Mapping[str, Tensor]  # what is trained, by name, float32
    optimizer: Mapping[str, Any]
    ema: Mapping[str, Any] | None
    config: Mapping[str, Any]
    base_hash: str
    cache_hash: str
    global_batch: int  # clips per step, of all processes
    kernel: str = ""  # of guided attention, which a resumed run takes again


def checkpoint_folders(output: Path) -> list[Path]:
    """List the finished checkpoints of an output folder, oldest first."""
    return sorted(
        p for p in (output / "checkpoints").glob(f"{PREFIX}*") if (p / "state.json").is_file()
    )


def save_checkpoint(output: Path, state: TrainState, keep_count: int) -> Path:
    """Save a checkpoint, then delete the oldest beyond ``keep_count``.

    Raises:
        EgoXInputError: the disk is full (or the file system refuses); nothing half-written is left.
    """
    folder = output / "checkpoints" / f"{PREFIX}{state.step:08d}"
    temporary_folder = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        with file_lock(folder):
            temporary_folder.mkdir(parents=True)
            with atomic_write(temporary_folder / "trainable.safetensors") as weights:
                save_file(
                    {k: v.detach().cpu().contiguous() for k, v in state.weights.items()}, weights
                )
            torch.save(
                {"optimizer": state.optimizer, "ema": state.ema}, temporary_folder / "optimizer.pt"
            )
            state_fields = {name: getattr(state, name) for name in STATE_FIELDS}
            (temporary_folder / "state.json").write_text(
                json.dumps(state_fields, indent=1), "utf-8"
            )
            replace_folder(temporary_folder, folder)
    except (
        Exception
    ) as error:  # safetensors and torch.save have error types of their own for a full disk
        shutil.rmtree(temporary_folder, ignore_errors=True)
        checkpoints = checkpoint_folders(output)
        raise EgoXInputError(
            f"checkpoint at step {state.step}",
            got=f"it can't be written ({error})",
            expected="room on the disk",
            fix="free some space and start again: training continues from "
            f"{checkpoints[-1].name if checkpoints else 'the beginning'}, which is untouched",
        ) from error
    for old_folder in checkpoint_folders(output)[:-keep_count]:
        shutil.rmtree(old_folder, ignore_errors=True)
    return folder


def load_checkpoint(folder: Path) -> TrainState:
    """Load the training state from a checkpoint folder.

    Raises:
        EgoXInputError: something in it can't be read.
    """
    file_words = f"checkpoint {folder.name}"
    fix_text = "training continues from the one before; remove this folder"
    # Older ones had no other kernel.
    state_fields: dict[str, Any] = {
        "kernel": "sdpa",
        **read_json_object(folder / "state.json", file_words),
    }
    with intact(file_words, TORCH_ERRORS, expected="a whole checkpoint", fix=fix_text):
        trained_weights = load_file(folder / "trainable.safetensors")
        saved_state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    if (
        not all(
            isinstance(state_fields.get(name), field_type)
            for name, field_type in STATE_FIELDS.items()
        )
        or not isinstance(saved_state, dict)
        or not isinstance(saved_state.get("optimizer"), dict)
    ):
        raise EgoXInputError(
            file_words,
            got="a checkpoint file of a different form",
            expected="a whole checkpoint",
            fix=fix_text,
        )
    return TrainState(
        weights=trained_weights,
        optimizer=saved_state["optimizer"],
        ema=saved_state.get("ema"),
        **{name: state_fields[name] for name in STATE_FIELDS},
    )


def last_checkpoint(output: Path) -> TrainState | None:
    """Load the newest readable checkpoint, or return None if there is none.

    Raises:
        EgoXInputError: there are some, and none of them can be read.
    """
    first_error = None
    for folder in reversed(checkpoint_folders(output)):
        try:
            checkpoint_state = load_checkpoint(folder)
        except EgoXInputError as error:
            logger.warning("%s", error)
            first_error = first_error or error
            continue
        if first_error is not None:
            logger.warning("training continues from %s instead", folder.name)
        return checkpoint_state
    if first_error is not None:
        raise first_error
    return None


def _with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the defaults of newer settings to an older checkpoint's configuration."""
    from .config import parse_config

    try:
        return parse_config(config).model_dump(mode="json")
    except EgoXInputError:
        return config


def check_resumable(
    state: TrainState, config: Mapping[str, Any], base_hash: str, cache_hash: str
) -> None:
    """Refuse to resume a checkpoint with another base model, cache or setting.

    Raises:
        EgoXInputError: names what differs.
    """
    old_config = _with_defaults(state.config)
    differing_settings = [
        k for k in config if k not in FREE_TO_CHANGE and old_config.get(k) != config[k]
    ]
    if state.base_hash != base_hash:
        differing_settings.append(f"base model ({state.base_hash} then, {base_hash} now)")
    if state.cache_hash != cache_hash:
        differing_settings.append("cache contents")
    if differing_settings:
        raise EgoXInputError(
            "resumed training",
            got=f"other {', '.join(differing_settings)} than the checkpoint",
            expected="the same settings",
            fix="restore them, or train into a different output folder",
        )
