"""Write a video with uneven frame times."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="decodes video")


def write_uneven_clip(file: Path) -> Path:
    """Write a video with 30 frames at 30 frames a second, then 30 at 10."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 128, 80, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90)
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((80, 128, 3), 4 * number, np.uint8))
            frame.pts = 3 * number if number < 30 else 90 + 9 * (number - 30)
            frame.time_base = Fraction(1, 90)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file
