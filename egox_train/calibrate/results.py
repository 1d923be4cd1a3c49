"""Define the results of ``calibrate``."""

import math
from pathlib import Path

import numpy as np

from egox_core.cameras import CameraModel
from egox_core.frozen import frozen

from .scale import Scale
from .sound import Clocks


@frozen
class SolvedExo:
    """Result for one fixed camera: its pose and how it was found, or why it wasn't."""

    name: str
    w2c: np.ndarray | None  # [3, 4] in metres, z up
    lens: CameraModel | None  # of the whole video
    clocks: Clocks | None
    how_found: str
    sd_m: float = math.nan
    sd_deg: float = math.nan
    distance_m: float = math.nan
    notes: tuple[str, ...] = ()


@frozen
class Outcome:
    """Result of ``calibrate``: the cameras found and the files written."""

    exos: tuple[SolvedExo, ...]
    takes: tuple[Path, ...]
    scale: Scale
    notes: tuple[str, ...]
    ego_w2c: np.ndarray  # [T, 3, 4] upright, by the frames of the ego video; NaN: not known
    ego_lens: CameraModel | None  # upright, of the whole video
    earlier_takes: tuple[str, ...]  # of earlier runs, still there
