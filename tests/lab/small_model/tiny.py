"""Define small clip sizes for tests."""

from lab.small_model.settings import ClipSettings

TINY_CLIPS = ClipSettings(size=32, exo_width=64, frames=5)
