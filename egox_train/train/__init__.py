"""Train a LoRA or a base model on a cache of clips, and sample from it, without ComfyUI.

In: a :class:`TrainConfig` (YAML and overrides: :func:`load_config`) that names a base, a cache and
a folder. Out: a LoRA file that says how it was trained (:mod:`.loop`; the loss stands in
:mod:`.loss`), the same in other namings or fused (:mod:`.export`), ego videos of a whole cache
(:mod:`.generate`). :class:`ConditioningConfig` is what the model sees of exo, prior and geometry;
``ConditioningConfig.from_lora`` reads it back from a file.

Only the configuration is imported here; the other modules need accelerate, diffusers and peft.
"""

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

if TYPE_CHECKING:
    from .config import ConditioningConfig, TrainConfig, load_config, parse_config

__getattr__ = lazy_names(
    __name__,
    {
        "config": (
            "ConditioningConfig",
            "TrainConfig",
            "load_config",
            "parse_config",
        )
    },
)
