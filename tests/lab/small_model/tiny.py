"""Define the clip sizes that the tests of the small model use."""

from lab.small_model.settings import ClipSettings

TINY = ClipSettings(size=32, exo_width=64, frames=5)
