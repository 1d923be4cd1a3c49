"""Read the training settings in a LoRA's metadata, and compare a graph's inputs with them.

Our trainer writes ``egox.*`` metadata. Files of the EgoX authors carry none: there ``auto`` means
``released``. The trainer's own reader is :meth:`ConditioningConfig.from_lora`, which stands on
:func:`trained_with`."""

import math
from collections.abc import Mapping
from typing import Any

from ..errors import EgoXInputError
from ..types import GGA_MODES, HIDDEN_LINES, IMAGE_EMBEDDING_MODES, MASK_MODES, RAY_MODES

AUTO = "auto"
FALLBACK = "released"
PREFIX = "egox."
MERGED = "egox.merged"
"""Metadata of a base into which a LoRA was merged: the LoRA's digest."""
FORM = "egox.form"
"""Metadata of a file made of a LoRA that has the released one's parts and rank: its name."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "mask_mode": MASK_MODES,
    "image_embedding": IMAGE_EMBEDDING_MODES,
    "gga_mode": GGA_MODES,
    "rays": RAY_MODES,
    "hidden_lines": HIDDEN_LINES,
}
"""Inputs that may be ``auto``, and what they may become."""
ABLATIONS: Mapping[str, tuple[str, str]] = {
    "exo_clean": (
        "true",
        "the LoRA was trained with a noised exo half, which is kept clean",
    ),
    "prior": ("prior", "the LoRA was trained without an ego prior"),
}
"""Metadata of comparison LoRAs: what every other LoRA has there, and what to say where it
differs."""


USUAL: Mapping[str, str] = {
    "exo": "sees_ego",
    "position_scale": "1",
    "rays": FALLBACK,
    "mask_mode": FALLBACK,
    "gga_mode": FALLBACK,
    "image_embedding": FALLBACK,
    "hidden_lines": "draw",
}
"""Settings of a LoRA that a graph must follow, and what they are where its file says nothing."""


def describe_unusual_settings(metadata: Mapping[str, str]) -> str:
    """Describe a LoRA's unusual training settings that inputs must follow, or return ""."""
    trained_settings = trained_with(metadata)
    unusual_settings = [
        f"{key} {trained_settings.get(key)}"
        for key in USUAL
        if trained_settings.get(key, USUAL[key]) != USUAL[key]
    ]
    if not unusual_settings:
        return ""
    return (
        f"trained with {', '.join(unusual_settings)}, which only the file's metadata say: EgoX's "
        "own nodes follow them, also behind a Load LoRA that hands metadata on (ComfyUI 0.30 does)"
    )


def egox_entries(metadata: Mapping[str, str]) -> dict[str, str]:
    """Select the ``egox.*`` entries of a file's metadata."""
    return {key: value for key, value in metadata.items() if key.startswith(PREFIX)}


def trained_with(metadata: Mapping[str, str]) -> dict[str, str]:
    """Read the ``egox.*`` entries of a LoRA file's metadata, without their prefix.

    Empty if the file has none.
    """
    return {key.removeprefix(PREFIX): value for key, value in egox_entries(metadata).items()}


def check_position_scale(metadata: Mapping[str, str]) -> float:
    """Read the scale of the rotary embedding's heights and widths from a LoRA's metadata.

    Raises:
        EgoXInputError: no number above 0.
    """
    scale_text = trained_with(metadata).get("position_scale", "1")
    try:
        scale = float(scale_text)
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        raise EgoXInputError(
            f"{PREFIX}position_scale of the LoRA's file",
            got=scale_text,
            expected="a number above 0",
            fix="take the file as its trainer wrote it",
        )
    return scale


def resolve_auto(
    name: str, choice: str, metadata: Mapping[str, str], fallback: str | None = FALLBACK
) -> Any:  # of CHOICES[name], or the fallback
    """Replace the choice ``auto`` by the LoRA's training setting, or else by the fallback.

    Inference must have that mode.

    The released trainer's own quirks (rays and picture ``trainer``) have no counterpart at
    inference: its LoRAs are used with the released inference.
    """
    if choice != AUTO:
        return choice
    trained_value = trained_with(metadata).get(name)
    return trained_value if trained_value in CHOICES[name] else fallback


def contradictions(inputs: Mapping[str, str | float], metadata: Mapping[str, str]) -> list[str]:
    """Describe each input that differs from the setting that the LoRA was trained with.

    ``inputs`` holds any of :data:`CHOICES` and ``lambda_g``. λ_g of the released trainer's mode
    isn't held against the
    input: it trains with 1 and infers with 3 (quirks 19).
    """
    trained_settings = trained_with(metadata)
    sentences = [
        sentence
        for name, (usual_value, sentence) in ABLATIONS.items()
        if trained_settings.get(name, usual_value) != usual_value
    ]
    for name, value in inputs.items():
        trained_value = trained_settings.get(name)
        if trained_value is None or (name in CHOICES and trained_value not in CHOICES[name]):
            continue
        if name == "lambda_g":
            try:
                is_same = (
                    float(trained_value) == float(value)
                    or trained_settings.get("mode") == "trainer"
                )
            except ValueError:  # a word of a newer trainer, as with the choices above
                continue
        else:
            is_same = trained_value == value
        if not is_same:
            sentences.append(f"the LoRA was trained with {name} {trained_value}, not {value}")
    return sentences
