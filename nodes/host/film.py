"""Make a video of several clips side by side, which is only drawn when a node saves it."""

from collections.abc import Callable, Mapping
from functools import cached_property

from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from ...egox_core.video import exo_label, side_by_side
from .video import native_video

LABELS = {"truth": "ground truth"}
"""Names that users see in place of a clip's name."""
Clips = Mapping[str, Tensor | None]
"""Frames [T, H, W, 3] 0...1 by name, in the order in which they are shown. None: not known."""


class Film(Input.Video):
    """Show clips side by side under their names, as a video of ComfyUI."""

    def __init__(
        self,
        collect: Callable[[], Clips],
        fps: float,
        audio: Input.Audio | None = None,
        # The exo clip's label then says so.
        lens_guessed: bool = False,
    ) -> None:
        self._collect, self._fps, self._audio = collect, fps, audio
        self.lens_guessed = lens_guessed

    @cached_property
    def clips(self) -> dict[str, Tensor]:
        """Clips that are known, by name."""
        return {name: clip for name, clip in self._collect().items() if clip is not None}

    @cached_property
    def _video(self) -> InputImpl.VideoFromComponents:
        labels_by_name = {**LABELS, "exo": exo_label(self.lens_guessed)}
        labels = [labels_by_name.get(name, name) for name in self.clips]
        return native_video(side_by_side(list(self.clips.values()), labels), self._fps, self._audio)

    def get_components(self) -> Types.VideoComponents:
        """Draw the film, or return the drawn one."""
        return self._video.get_components()

    def save_to(self, path, *args, **options) -> None:
        """Save the film as ComfyUI saves a video."""
        self._video.save_to(path, *args, **options)

    def as_trimmed(self, *args, **options) -> Input.Video | None:
        """Cut a part out of the film as ComfyUI does."""
        return self._video.as_trimmed(*args, **options)
