"""Take the released weights' tint from an ego video, or match it to the exo video's white.

The released LoRA draws everything too blue, whatever the light. Fixed gains take that back. They
fade towards white, which isn't tinted and would turn yellow, and keep each pixel's luma.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import EgoXInputError, check_choice
from ..frame_store import store_frames
from ..frozen import frozen
from ..progress import Progress, no_progress

LUMA = (0.299, 0.587, 0.114)
FADE_FROM, FADE_TO = 0.5, 0.85
"""Value of a pixel's darkest channel, 0...1, between which the gains fade to none."""
WHITE_POWER = 6.0
"""Of the mean that finds the light's colour: the bright count more, as in shades of grey."""
MOST_GAIN = 1.5
"""Two cameras' whites differ by less."""


@frozen
class Tint:
    """Gains that take a LoRA's tint back, and what they were fitted on."""

    KEY: ClassVar[str] = "egox.tint"  # of a LoRA file's metadata

    gains: tuple[float, float, float]  # of red, green and blue
    clips: int  # outputs with their true ego videos
    sites: int  # places that they were recorded at
    lens: str  # camera preset that they were drawn for
    strength: float  # of the LoRA
    fitted: str  # how

    @classmethod
    def fit(
        cls,
        drawn_means: Tensor,  # [N, 3] of the clips' drawn videos
        true_means: Tensor,  # [N, 3] of their true ego videos
        sites: int,
        lens: str = "",
        strength: float = 1.0,
    ) -> Tint:
        """Fit a LoRA's gains by the mean colours of its clips and of their true ego videos."""
        gains = (true_means * drawn_means).sum(0) / drawn_means.square().sum(0)
        red, green, blue = (gains / gains[1]).tolist()
        return cls(
            gains=(red, green, blue),
            clips=len(drawn_means),
            sites=sites,
            lens=lens,
            strength=strength,
            fitted=FITTED,
        )

    @classmethod
    def of(cls, text: str) -> Tint:
        """Read a tint from a LoRA file's metadata.

        Raises:
            EgoXInputError: something else than three positive gains.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            red, green, blue = map(float, fields.pop("gains"))
            tint = cls(gains=(red, green, blue), **fields)
        except (ValueError, TypeError, KeyError):
            tint = None
        if tint is None or not all(0 < gain < math.inf for gain in tint.gains):
            raise EgoXInputError(
                f"{cls.KEY} of the LoRA's file",
                got=text[:60],
                expected="gains of red, green and blue",
                fix="fit them again, or choose the colours as drawn",
            )
        return tint

    def text(self) -> str:
        """Write the tint for a LoRA file's metadata."""
        return json.dumps(asdict(self))

    def words(self, loras: str) -> str:
        """Describe what the gains were measured on, beside the LoRAs that a video was made with."""
        sentence = (
            f"Tint taken back as fitted on {self.clips} outputs of {self.sites} sites at LoRA "
            f"strength {self.strength:g}"
        )
        if self == RELEASED_TINT:
            sentence += ", if this is the released LoRA"
        is_of_strength = loras.endswith(f"at strength {self.strength:g}")
        is_measured = "," not in loras and (is_of_strength or f"+ {self.strength:g} x " in loras)
        return sentence if is_measured or not loras else f"{sentence}, not measured for {loras}"


FITTED = "least squares over the clips' mean colours, relative to green"
RELEASED_TINT = Tint(
    gains=(1.044, 1.0, 0.893),
    clips=16,
    sites=5,
    lens="aria_released",
    strength=1.0,
    fitted=FITTED,
)


def recolour(
    video: Tensor,  # [T, H, W, 3] float 0...1
    colour: str,  # as drawn, tint or as exo
    exo: Tensor | None = None,  # [T, H, W, 3] float 0...1
    *,
    tint: Tint = RELEASED_TINT,
    progress: Progress = no_progress,
) -> Tensor:  # [T, H, W, 3], the video itself if nothing changes
    """Take a LoRA's tint from a video, or match its white to the exo video's.

    Raises:
        EgoXInputError: an unknown choice, *as exo* without the exo video.
    """
    check_choice("colour", colour, ("as drawn", "tint", "as exo"), "choose one of them")
    if colour == "as drawn":
        return video
    gains = tint.gains
    if colour == "as exo":
        if exo is None:
            raise EgoXInputError(
                "colour",
                got="'as exo' without the exo video",
                expected="its frames",
                fix="give the exo frames, or choose 'tint'",
            )
        gains = white_gains(video, exo)

    def recoloured():
        for number, frame in enumerate(video):
            progress(number, len(video), "take the tint back")
            yield apply_gains(frame.float(), gains)

    return store_frames(recoloured(), len(video))


def apply_gains(
    frame: Tensor,  # [..., 3] float 0...1
    gains: Sequence[float],
) -> Tensor:  # [..., 3]
    """Multiply channels by gains that fade towards white, and keep each pixel's luma."""
    darkest = frame.amin(-1, keepdim=True)
    fade = ((darkest - FADE_FROM) / (FADE_TO - FADE_FROM)).clamp(0, 1)
    strength = 1 - fade * fade * (3 - 2 * fade)
    changed = frame * (1 + (frame.new_tensor(gains) - 1) * strength)
    luma = frame.new_tensor(LUMA)
    return (changed + ((frame - changed) @ luma)[..., None]).clamp(0, 1)


def white_gains(video: Tensor, exo: Tensor) -> tuple[float, float, float]:
    """Compute the gains from a video's white to the exo video's, relative to green."""
    whites = torch.stack([_light_colour(frames) for frames in (exo, video)])
    whites = whites / whites[:, 1:2]
    red, green, blue = (whites[0] / whites[1]).clamp(1 / MOST_GAIN, MOST_GAIN).tolist()
    return red, green, blue


def _light_colour(frames: Tensor) -> Tensor:  # [3]
    sampled = frames[:: max(1, len(frames) // 9)]
    means = [frame.float().flatten(0, 1).pow(WHITE_POWER).mean(0) for frame in sampled]
    return torch.stack(means).mean(0).pow(1 / WHITE_POWER).clamp_min(1e-3)
