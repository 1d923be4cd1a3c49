"""What a LoRA's file says about how it was trained, and how far the chosen inputs follow it.

Our trainer writes ``egox.*`` metadata. Files of the EgoX authors carry none: there ``auto`` means ``released``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..gga.options import GGA_MODES
from ..gga.rays import RAY_MODES
from .canvas import MASK_MODES
from .vision import IMAGE_EMBEDDING_MODES

AUTO = "auto"
FALLBACK = "released"
PREFIX = "egox."
CHOICES: Mapping[str, tuple[str, ...]] = {
    "mask_mode": MASK_MODES,
    "image_embedding": IMAGE_EMBEDDING_MODES,
    "gga_mode": GGA_MODES,
    "rays": RAY_MODES,
}
"""Inputs that may be ``auto``, and what they may become."""


ABLATIONS: Mapping[str, tuple[str, str]] = {
    "exo_clean": ("true", "the LoRA was trained with a noised exo half, which the nodes keep clean"),
    "prior": ("prior", "the LoRA was trained without an ego prior"),
}
"""Metadata of comparison LoRAs: what every other LoRA has there, and what to say where it differs."""


def resolve_auto(name: str, choice: str, metadata: Mapping[str, str]) -> str:
    """``auto`` becomes what the LoRA was trained with, where inference has that mode, else ``released``.

    The released trainer's own quirks (rays and picture ``trainer``) have no counterpart at inference: its LoRAs are
    used with the released inference.
    """
    if choice != AUTO:
        return choice
    trained = metadata.get(PREFIX + name, FALLBACK)
    return trained if trained in CHOICES[name] else FALLBACK


def contradictions(chosen: Mapping[str, str | float], metadata: Mapping[str, str]) -> list[str]:
    """One sentence for each input that differs from what the LoRA was trained with.

    ``chosen`` holds any of the inputs above and ``lambda_g``. λ_g of the released trainer's mode isn't held against the
    choice: it trains with 1 and infers with 3 (quirks 19).
    """
    said = [sentence for key, (usual, sentence) in ABLATIONS.items() if metadata.get(PREFIX + key, usual) != usual]
    for name, value in chosen.items():
        trained = metadata.get(PREFIX + name)
        if trained is None or (name in CHOICES and trained not in CHOICES[name]):
            continue
        if name == "lambda_g":
            same = float(trained) == float(value) or metadata.get(PREFIX + "mode") == "trainer"
        else:
            same = trained == value
        if not same:
            said.append(f"the LoRA was trained with {name} {trained}, not {value}")
    return said
