"""Find the depth among an EXR picture's layers and parts."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..archives import MAX_FRAME_BYTES
from ..arrays import rectangle
from ..errors import EgoXInputError, intact, needs_package

EXR_ERRORS = (MemoryError, OSError, OverflowError, RuntimeError, TypeError, ValueError)
"""Raised by OpenEXR at damaged files."""
DEPTH_LAYER = re.compile(r"depth$|(?:^|\.)z$", re.IGNORECASE)
"""Names that renderers give: depth, ViewLayer.Depth, FinalImage…_WorldDepth, Z."""
MIST = re.compile(r"mist$", re.IGNORECASE)
"""Blender's pass of that name: 0 to 1 between two distances that the file doesn't say."""
LAYER_NAMES, BARE_NAMES = ("Z", "V", "R"), ("Z", "Y", "V")
NEXT_TO = {"Z": {"X", "Y"}, "Y": {"X", "RY"}, "V": {"U"}}
"""Channels next to which one is a part of a vector, or of a colour."""
Layer = tuple[str, bool, dict[str, np.ndarray]]  # name, whether its channels have none, channels


def decode_exr(content: bytes, file: str) -> np.ndarray:  # [H, W] of the display window, as stored
    """Decode the depth of an EXR frame, with NaN where the file has no data.

    A layer named depth or z comes first, then a channel Z, Y or V without a layer, a file's only
    channel, and three equal ones.

    Raises:
        EgoXInputError: damaged, no depth, two that differ.
    """
    frame_label = f"depth frame {file}"
    with needs_package("OpenEXR", frame_label, expected="the extra `geometry`"):
        import OpenEXR
    layers: dict[tuple[int, str], Layer] = {}
    channel_names: list[str] = []
    # Its reader wants a path; the file is closed before reading, as Windows asks.
    with tempfile.TemporaryDirectory(prefix="egox_") as folder:
        path = Path(folder) / "frame.exr"
        path.write_bytes(content)
        with intact(frame_label, EXR_ERRORS, expected="an intact EXR file"):
            with OpenEXR.File(str(path), separate_channels=True) as exr:
                for number, part in enumerate(exr.parts):
                    for name, channel in part.channels.items():
                        layer, _, leaf = name.rpartition(".")
                        title = layer or str(part.header.get("name", ""))
                        channel_names.append(f"{title}.{leaf}".lstrip("."))
                        channels = layers.setdefault((number, layer), (title, not layer, {}))[2]
                        if MIST.search(layer or leaf):
                            continue
                        # Letters in any case (depth.r, z), and both where a layer has both.
                        leaf = leaf if leaf.upper() in channels else leaf.upper()
                        channels[leaf] = _to_display_window(channel.pixels, part.header)
    depths = _depth_channels([*layers.values()])
    if not depths or any(not np.array_equal(depths[0], depth, True) for depth in depths[1:]):
        raise EgoXInputError(
            frame_label,
            got=(
                f"{'several depths' if depths else 'no depth'} among the channels "
                f"{sorted(channel_names)}"
            ),
            expected="one layer named depth or Z, or a channel Z, Y or V",
            fix="write the depth as channel Z",
        )
    return depths[0]


def _depth_channels(layers: list[Layer]) -> list[np.ndarray]:
    """Collect the depth channels among an EXR file's layers."""

    def scalar_channels(
        channels: Mapping[str, np.ndarray], names: tuple[str, ...]
    ) -> list[np.ndarray]:
        scalar_names = [
            candidate
            for candidate in names
            if candidate in channels and not NEXT_TO.get(candidate, set()) & channels.keys()
        ]
        return [channels[name] for name in scalar_names[:1]]

    depths = []
    for title, _, channels in layers:
        if DEPTH_LAYER.search(title):
            depths += scalar_channels(channels, LAYER_NAMES if len(channels) > 1 else (*channels,))
    unnamed_layers = [
        channels for _, is_unnamed, channels in layers if is_unnamed or len(layers) == 1
    ]
    for name in BARE_NAMES:
        depths = depths or [
            value for channels in unnamed_layers for value in scalar_channels(channels, (name,))
        ]
    named_depths = [
        channels[candidate]
        for channels in unnamed_layers
        for candidate in channels
        if len(candidate) > 1 and DEPTH_LAYER.search(candidate)
    ]
    all_values = [
        value for *_, channels in layers for name, value in channels.items() if name != "A"
    ]
    depths = depths or named_depths or (all_values if len(all_values) == 1 else [])
    colours = [
        [channels[letter] for letter in "RGB"]
        for channels in unnamed_layers
        if {*"RGB"} <= channels.keys()
    ]
    return depths or [
        red
        for red, green, blue in colours
        if np.array_equal(red, green, True) and np.array_equal(red, blue, True)
    ]


def _to_display_window(pixels: np.ndarray, header: Mapping) -> np.ndarray:  # [H, W] float32
    """Place the pixels of an EXR data window in the display window."""
    data_window, display_window = (
        np.array(header[key], dtype=np.int64) for key in ("dataWindow", "displayWindow")
    )  # [2, 2] of first and last (x, y)
    (left, top), (width, height) = (
        display_window[0] - data_window[0],
        display_window[1] - display_window[0] + 1,
    )
    if min(width, height) < 1 or width * height > MAX_FRAME_BYTES // 4:
        raise ValueError(f"a display window of {width}x{height} px")
    values = np.array(pixels, dtype=np.float32)
    if values.shape != tuple((data_window[1] - data_window[0] + 1)[::-1]):
        return values  # thinned, as colours are
    return rectangle(values, int(left), int(top), int(width), int(height), np.nan)
