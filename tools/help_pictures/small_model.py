"""What the small model of models/demo makes of a room it never saw, by the released loop and without a host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from egox_core.gga.diffusers_processor import rotate
from egox_core.gga.record import AttentionRecord
from lab.drawn import make_take
from lab.small_model.clips import clip_spec
from lab.small_model.held_out import HeldOutClip, clip_of_take
from lab.small_model.sampler import SampleSettings, SmallModelSampler
from lab.small_model.settings import FIRST_SEED, DemoTraining

STEPS = DemoTraining().transformer.sample_steps
"""As the demo's graph."""


class CapturingSampler(SmallModelSampler):
    """Keeps what chosen blocks compare in chosen steps, as EgoX Attention Capture does in the host's model."""

    def capture(self, clip: HeldOutClip, settings: SampleSettings,
                wanted: set[tuple[int, int]]) -> dict[tuple[int, int], AttentionRecord]:
        """(step, block) -> its queries and keys, of a sampling run of its own."""
        model, scope = self._model(settings)
        records: dict[tuple[int, int], AttentionRecord] = {}
        with _listening(model, scope, settings.steps, wanted, records):
            self.generate([clip], settings)
        return records


@contextmanager
def _listening(model: nn.Module, scope: Any, steps: int, wanted: set[tuple[int, int]],
               records: dict[tuple[int, int], AttentionRecord]) -> Iterator[None]:
    calls = [0] * len(model.blocks)

    def listen(block: int, attention: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
        step, calls[block] = calls[block], calls[block] + 1
        if (step, block) not in wanted:
            return
        # diffusers' block calls it by position: hidden states, text, mask, rotary embedding.
        hidden, rotary = inputs[0], inputs[3] if len(inputs) > 3 else named["rotary_emb"]
        geometry = scope.geometry[0]
        t, h, w_exo, w_ego = geometry.grid
        q, k = (rotate(norm(layer(hidden)).unflatten(2, (attention.heads, -1)), rotary)[0].flatten(1)
                for norm, layer in ((attention.norm_q, attention.to_q), (attention.norm_k, attention.to_k)))
        ego = q.unflatten(0, (t * h, w_exo + w_ego))[:, w_exo:].flatten(0, 1)
        records[step, block] = AttentionRecord(
            q_ego=ego.detach().clone(), k=k.detach().clone(), heads=attention.heads, grid=geometry.grid, block=block,
            blocks=len(model.blocks), step=step, steps=steps, sigma=float("nan"), geometry=geometry,
            options=scope.options, guided=True, latent_frames=tuple(range(t)))

    handles = [block.attn1.register_forward_pre_hook(
        lambda attention, inputs, named, number=number: listen(number, attention, inputs, named), with_kwargs=True)
        for number, block in enumerate(model.blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class SmallModel:
    """The first test scene, and videos of it; each is sampled once a run of the script."""

    def __init__(self) -> None:
        self._videos: dict[SampleSettings, Tensor] = {}

    @cached_property
    def clip(self) -> HeldOutClip:
        """The room of sample/calm_room as the training draws such rooms, at the model's own size."""
        training = DemoTraining()
        return clip_of_take(make_take(clip_spec(FIRST_SEED["test"], training.clips)), training.transformer.preset)

    @property
    def defaults(self) -> dict[str, Any]:
        """The demo's settings; the shift is the sampler's own."""
        return {"steps": STEPS}

    @cached_property
    def sampler(self) -> CapturingSampler:
        return CapturingSampler.shipped()

    def ego(self, **settings: Any) -> Tensor:  # [T, S, S, 3] uint8
        """The ego video; ``settings`` as :class:`SampleSettings` has them."""
        key = SampleSettings(**{**self.defaults, **settings})
        if key not in self._videos:
            self._videos[key] = torch.from_numpy(self.sampler.generate([self.clip], key)[0])
        return self._videos[key]

    def records(self, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], AttentionRecord]:
        """(step, block) -> what was compared there."""
        return self.sampler.capture(self.clip, SampleSettings(**self.defaults), wanted)
