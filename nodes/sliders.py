"""Define number inputs with a slider over their usual range.

ComfyUI refuses values outside an input's range unless the node checks that input itself in
``validate_inputs``, so a node with a :class:`Slider` calls :meth:`Slider.check` there."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..egox_core.errors import EgoXInputError


@dataclass(frozen=True)
class Slider:
    """Describe a number input by its usual range, step, and widest allowed range."""

    what: str
    usual: tuple[float, float]
    step: float
    wide: tuple[float, float]

    def input(self, name: str, **settings: Any) -> io.Float.Input:
        """Make the node input with a slider."""
        low, high = self.usual
        return io.Float.Input(
            name,
            min=low,
            max=high,
            step=self.step,
            display_mode=io.NumberDisplay.slider,
            **settings,
        )

    def check(self, value: float | None) -> bool | str:
        """Check a slider's value for ``validate_inputs``, and return True or an error message.

        None, a link whose value is unknown yet, is accepted.
        """
        low, high = self.wide
        if value is None or low <= value <= high:
            return True
        return str(
            EgoXInputError(
                self.what,
                got=f"{value:g}",
                expected=f"a number from {low:g} to {high:g}",
                fix=f"{self.usual[0]:g} to {self.usual[1]:g} is usual",
            )
        )
