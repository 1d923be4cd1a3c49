"""The Wan model's side of a canvas: its input, its names, its encoders, its schedule.

In: latents of exo, ego prior and noise, all in model space. Out: the 36 channels of the whole
canvas (:func:`build_mask`, :func:`model_input`; :func:`widen` puts the exo half beside what a
host samples), the ego half of what the model returns (:func:`crop_ego`), LoRA files under the
names that a host reads (:func:`convert_lora`) and the authors' noise levels
(:func:`released_schedule`). The words: :mod:`.prompt`, and :mod:`.caption` where a language
model writes them.

What needs more than torch is named by its module, so that a host's start doesn't pay for it:
:mod:`.vision` (transformers, when one is opened), :mod:`.weights`."""

from .canvas import build_mask, crop_ego, model_input, widen
from .lora_keys import convert_lora
from .schedule import released_schedule
