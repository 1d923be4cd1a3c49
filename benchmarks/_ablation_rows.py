"""The rows of the ablation as data: what each is sampled with, and what it is a row of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks._disturbances import DISTURBANCES
from benchmarks._sampler import FULL, SampleSettings

WITHOUT = {"no_gga": "without GGA", "no_prior": "without ego prior", "no_clean_latent": "without clean latent"}
GROUPS = ("parts", "attention", "strength", "robustness")
WRONG_LAMBDA = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; its differences are to ``against`` on the same takes."""

    name: str
    group: str
    settings: SampleSettings
    disturbance: str = ""  # of _disturbances.DISTURBANCES
    against: str = FULL


def rows_of(loras: Sequence[str], settings: SampleSettings, groups: Sequence[str] = GROUPS) -> list[Row]:
    """All rows that these LoRAs allow, the full model first."""
    made = [Row(name=FULL, group="parts", settings=settings)]
    makers = {"parts": lambda: _parts(loras, settings), "attention": lambda: _attention(settings),
              "strength": lambda: _strength(settings), "robustness": lambda: _robustness(settings)}
    for group in groups:
        made += makers[group]()
    return made


def _parts(loras: Sequence[str], settings: SampleSettings) -> list[Row]:
    """The LoRAs that were trained without a part; one with "@2" is of a second seed, compared with the full one's."""
    rows = []
    for lora in loras:
        part, _, seed = lora.partition("@")
        if lora == FULL:
            continue
        name = WITHOUT.get(part, "full" if part == FULL else part) + (f", seed {seed}" if seed else "")
        against = f"full, seed {seed}" if seed and f"{FULL}@{seed}" in loras and part != FULL else FULL
        rows.append(Row(name=name, group="parts", settings=replace(settings, lora=lora), against=against))
    return sorted(rows, key=lambda row: row.against != FULL)  # what is compared with another row comes after it


def _attention(settings: SampleSettings) -> list[Row]:
    modes = (("off", None), ("paper", 1.0), ("power", 1.0), ("power", 2.0))
    return [
        *(Row(name=f"λ_g {value:g}", group="attention", settings=replace(settings, lambda_g=value))
          for value in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)),
        *(Row(name=f"mode {mode}" + (f", λ_g {value:g}" if value else ""), group="attention",
              settings=replace(settings, gga_mode=mode, lambda_g=value)) for mode, value in modes),
        *(Row(name=f"rays {rays}", group="attention", settings=replace(settings, rays=rays))
          for rays in ("released", "exact", "pinhole")),
    ]


def _strength(settings: SampleSettings) -> list[Row]:
    return [Row(name=f"LoRA strength {value:g}", group="strength", settings=replace(settings, strength=value))
            for value in (0.0, 0.25, 0.5, 0.75, 1.25, 1.5)]


def _robustness(settings: SampleSettings) -> list[Row]:
    trusting = replace(settings, soft_trust=True)
    rows = [Row(name="trust mask", group="robustness", settings=trusting)]
    for name in DISTURBANCES:
        if not name:
            continue
        rows.append(Row(name=name, group="robustness", settings=settings, disturbance=name))
        if not name.startswith("pose"):  # trust is told of depth; a wrong pose leaves it as it is
            rows.append(Row(name=f"{name}, trust mask", group="robustness", settings=trusting, disturbance=name,
                            against=name))
    wrong = replace(settings, lambda_g=WRONG_LAMBDA)
    return [*rows, Row(name=f"λ_g {WRONG_LAMBDA:g}", group="robustness", settings=wrong),
            Row(name=f"λ_g {WRONG_LAMBDA:g}, trust mask", group="robustness", settings=replace(wrong, soft_trust=True),
                against=f"λ_g {WRONG_LAMBDA:g}")]
