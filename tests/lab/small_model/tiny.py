"""Define the clip sizes of the small model's tests."""

from lab.small_model.settings import ClipSettings

TINY = ClipSettings(size=32, exo_width=64, frames=5)
