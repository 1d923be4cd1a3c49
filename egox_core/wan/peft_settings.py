"""Read alpha and rank of a LoRA from PEFT's settings: the file beside it or its metadata."""

import math
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import EgoXInputError
from ..safe_files import parse_json, read_json

PEFT_METADATA_KEY = "lora_adapter_metadata"
"""Metadata key under which newer diffusers keep alpha and rank; the released files don't have it
(quirks 41)."""
PEFT_FILES = "adapter_model.safetensors", "adapter_config.json"
"""PEFT's own names of a LoRA's weights, which have no alpha, and of the settings beside them."""
_REPEATED = re.compile(r"\)[*+?{]|[*+?{].*[*+?{]")  # patterns that may take for ever


def missing_alpha_warning(state: Collection[str], tensors: Collection[str]) -> str:
    """Warn about a PEFT file without alpha, whose settings file is missing."""
    if any(name.endswith(".alpha") for name in tensors):
        return ""
    if not all(name.startswith("base_model.model.") for name in state):
        return ""
    weights_name, settings_name = PEFT_FILES
    return (
        f"alpha is not known, and the rank is taken for it: PEFT writes {settings_name}, which is "
        f"read next to {weights_name}"
    )


def peft_entries(metadata: Mapping[str, str], file: Path | None) -> Mapping[str, Any]:
    """Read PEFT's settings of a LoRA from the settings file beside it or from its metadata."""
    weights_name, settings_name = PEFT_FILES
    contents: list[object] = [metadata]
    for key in sorted(metadata, key=lambda key: key == PEFT_METADATA_KEY):
        if "lora_alpha" in str(metadata[key]):
            with suppress(EgoXInputError):
                contents.append(parse_json(str(metadata[key]), "PEFT's metadata"))
    if file is not None and file.name == weights_name and file.with_name(settings_name).is_file():
        contents.append(read_json(file.with_name(settings_name), settings_name))
    for content in reversed(contents):
        if isinstance(content, Mapping):
            lora_entries = {
                name.rpartition(".")[2]: value
                for name, value in content.items()
                if name[:5] != "text_"
            }
            if "lora_alpha" in lora_entries:
                return lora_entries
    return {}


def peft_scale(entries: Mapping[str, Any], module: str, rank: int) -> float | None:
    """Compute alpha / rank of a module by PEFT's settings, or return None if they give no alpha.

    Raises:
        EgoXInputError: a pattern for single modules that can't be followed.
    """
    alpha = _pattern_value(entries, "alpha_pattern", module, entries.get("lora_alpha"))
    stated_rank = _pattern_value(entries, "rank_pattern", module, entries.get("r", rank))
    try:
        alpha, stated_rank = float(alpha), float(stated_rank)
    except (TypeError, ValueError):
        return None
    if not 0 < stated_rank < math.inf or not math.isfinite(alpha):
        return None
    # Rank-stabilised LoRA divides by the root of the rank.
    stabilised = str(entries.get("use_rslora")).lower() == "true"
    return alpha / stated_rank**0.5 if stabilised else alpha / stated_rank


def _pattern_value(entries: Mapping[str, Any], name: str, module: str, default: Any) -> Any:
    """Look up a LoRA module's setting in PEFT's patterns, by the end of the module's name."""
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
    return default
