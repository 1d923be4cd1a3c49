"""Convert high dynamic range (HLG, PQ) and wide gamuts to sRGB.

Light is measured against the reference white of BT.2408, 203 cd/m². Up to KNEE of it nothing
changes but the primaries (BT.2020 to BT.709); what is brighter is rolled off towards the brightest
that the standard range has. Of a wide gamut in the standard range the primaries alone change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

TRANSFERS: Mapping[int, str] = {16: "PQ", 18: "HLG"}
"""Values of a stream's ``color_trc`` (ITU-T H.273)."""
WHITE_NITS = 203.0
HLG_PEAK_NITS = 1000.0
HLG_GAMMA = 1.2
KNEE = 0.75
"""Multiples of the reference white, linear light."""
_LUMA_2020 = np.array((0.2627, 0.6780, 0.0593), dtype=np.float32)
_709_FROM_2020 = np.array(
    ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    dtype=np.float32,
)
_709_FROM_P3 = np.array(
    ((1.2249, -0.2249, 0.0), (-0.0420, 1.0420, 0.0), (-0.0197, -0.0786, 1.0983)), dtype=np.float32
)
GAMUTS: Mapping[int, tuple[str, np.ndarray]] = {
    1: ("", np.eye(3, dtype=np.float32)),
    9: ("BT.2020", _709_FROM_2020),
    11: ("P3", _709_FROM_P3),
    12: ("P3", _709_FROM_P3),
}
"""Values of ``color_primaries`` (H.273) -> name, and linear light of BT.709 from theirs."""
GAMMAS: Mapping[int, str] = {4: "2.2", 13: "2.2"}
"""Values of ``color_trc`` -> the display's gamma, of others 2.4."""
_CODE_COUNT = 2**16
_MAX_WHITES = 16.0
"""Reference whites above which all is the same white."""


def gamut_name(frame: av.VideoFrame) -> str:
    """Name the frame's wide gamut, or return "" for the usual one."""
    return GAMUTS.get(int(frame.color_primaries), ("",))[0]


def sdr_picture(
    frame: av.VideoFrame, transfer: str, converter: VideoReformatter
) -> np.ndarray:  # [H, W, 3] uint8, sRGB
    """Convert a frame with transfer ``HLG``, ``PQ`` or a display gamma to sRGB."""
    # [H, W, 3] uint16
    pixel_codes: Any = converter.reformat(frame, format="rgb48le").to_ndarray()
    linear_light = _linear_light_table(transfer)[pixel_codes]
    _, to_709 = GAMUTS.get(int(frame.color_primaries), GAMUTS[9])
    if transfer == "HLG":  # scene light: the system's gamma acts on its brightness
        linear_light *= ((linear_light @ _LUMA_2020) ** (HLG_GAMMA - 1))[..., None] * np.float32(
            HLG_PEAK_NITS / WHITE_NITS
        )
    linear_light = np.clip(linear_light @ to_709.T, 0, None)
    if transfer not in TRANSFERS.values():
        return np.round(255 * np.minimum(linear_light, 1) ** (1 / float(transfer))).astype(np.uint8)
    return _srgb_table()[
        np.minimum(linear_light * ((_CODE_COUNT - 1) / _MAX_WHITES), _CODE_COUNT - 1).astype(
            np.uint16
        )
    ]


@lru_cache(maxsize=4)
def _linear_light_table(transfer: str) -> np.ndarray:  # [65536] float32
    """Compute the linear light of each 16-bit code: 0...1 for HLG, multiples of the reference white
    for PQ."""
    code_values = np.linspace(0, 1, _CODE_COUNT)
    if transfer == "HLG":
        hlg_a = 0.17883277
        hlg_b = 1 - 4 * hlg_a
        hlg_c = 0.5 - hlg_a * np.log(4 * hlg_a)
        light_values = np.where(
            code_values <= 0.5,
            code_values**2 / 3,
            (np.exp((code_values - hlg_c) / hlg_a) + hlg_b) / 12,
        )
    elif transfer != "PQ":
        light_values = code_values ** float(transfer)
    else:
        pq_m1, pq_m2, pq_c1, pq_c2, pq_c3 = (
            2610 / 16384,
            2523 / 32,
            3424 / 4096,
            2413 / 128,
            2392 / 128,
        )
        power = code_values ** (1 / pq_m2)
        light_values = (
            (np.maximum(power - pq_c1, 0) / (pq_c2 - pq_c3 * power)) ** (1 / pq_m1)
            * 10_000
            / WHITE_NITS
        )
    return light_values.astype(np.float32)


@lru_cache(maxsize=1)
def _srgb_table() -> np.ndarray:  # [65536] uint8
    """Tabulate the sRGB code of linear light from 0 to _MAX_WHITES reference whites."""
    light_values = np.linspace(0, _MAX_WHITES, _CODE_COUNT)
    compressed_light = np.where(
        light_values <= KNEE,
        light_values,
        1 - (1 - KNEE) * np.exp(-(light_values - KNEE) / (1 - KNEE)),
    )
    code_values = np.where(
        compressed_light <= 0.0031308,
        12.92 * compressed_light,
        1.055 * np.maximum(compressed_light, 1e-9) ** (1 / 2.4) - 0.055,
    )
    return np.round(code_values * 255).astype(np.uint8)
