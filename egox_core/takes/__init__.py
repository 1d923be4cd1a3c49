"""Recordings on disk: frames, depth, exo camera, ego path.

In: a depth or meta.json file, and the frames in use. Out:
:class:`~egox_core.types.DepthVideo`, :class:`~egox_core.types.TakeMeta`, all for those frames. Files
of bad content are refused with :class:`~egox_core.errors.EgoXInputError`."""

from .depth_files import load_depth_file
from .depth_inputs import take_depth
from .meta import read_meta
