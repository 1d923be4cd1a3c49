"""Load training samples from the cache, and choose the samples of each step.

All latents in model space.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import lru_cache

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.types import GgaGeometry

from ..data.cache_store import CacheReader
from ..fingerprint import fingerprint
from .config import SamplesConfig

LATENTS = (
    "exo",
    "ego",
    "prior",
    "grey",
    "exo_first",
    "ego_first",
    "partial",
    "text",
    "image",
    "image_exo",
    "image_ego",
    "query_dirs",
    "key_dirs",
    "key_trust",
    "grid",
)


@frozen
class TrainSample:
    """Training sample of one clip or of a batch of clips, with all inputs of the loss."""

    clips: tuple[str, ...]  # B names, for messages
    exo: Tensor  # [B, 16, t, h, w_exo] clean exo latent (for plain image-to-video: w_exo = 0)
    ego: Tensor  # [B, 16, t, h, w_ego] true ego latent
    # [B, 16, t, h, w_ego] prior latent; of a single view see ``first_known``
    cond_ego: Tensor
    text: Tensor  # [B, tokens, text_dim]
    # [B, image tokens, image_dim]; None: the model has no image embedding
    image: Tensor | None = None
    geometry: tuple[GgaGeometry | None, ...] = ()  # B of them, or none
    # of a single view: True, the condition is its first frame, then grey, as in image-to-video;
    # False, the whole video with a prior's holes
    first_known: bool = True

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Size of the canvas in latents, (t, h, w_exo, w_ego)."""
        _, _, t, h, w_ego = self.ego.shape
        return t, h, self.exo.shape[-1], w_ego

    def to(self, device: torch.device | str, dtype: torch.dtype) -> TrainSample:
        """Move the sample's latents and embeddings to a device and dtype.

        The geometry is moved too, but stays float32 because it enters a logarithm."""
        moved_tensors = {
            f.name: getattr(self, f.name).to(device=device, dtype=dtype)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return replace(
            self,
            **moved_tensors,
            geometry=tuple(g if g is None else g.to(device) for g in self.geometry),
        )


def collate(samples: Sequence[TrainSample]) -> TrainSample:
    """Join samples of equal size to a batch.

    Raises:
        EgoXInputError: clips of different sizes; names them.
    """
    first_sample = samples[0]
    for other_sample in samples[1:]:
        if (
            other_sample.grid != first_sample.grid
            or other_sample.text.shape[1:] != first_sample.text.shape[1:]
        ):
            raise EgoXInputError(
                "clips of one batch",
                got=(
                    f"{first_sample.clips[0]} of {first_sample.grid}, text "
                    f"{tuple(first_sample.text.shape[1:])} and {other_sample.clips[0]} of "
                    f"{other_sample.grid}, text {tuple(other_sample.text.shape[1:])}"
                ),
                expected="one size",
                fix="cache all clips at one size, or train with batch_size 1",
            )
    joined_fields = {
        f.name: torch.cat([getattr(s, f.name) for s in samples])
        for f in fields(first_sample)
        if isinstance(getattr(first_sample, f.name), Tensor)
    }
    return replace(
        first_sample,
        **joined_fields,
        clips=tuple(c for s in samples for c in s.clips),
        geometry=tuple(g for s in samples for g in s.geometry),
    )


@frozen
class TrainingItem:
    """Training item: a clip with both views, or one view alone."""

    clip: str
    view: str = "canvas"  # canvas | exo | ego | partial, the ego view known in parts
    has_empty_caption: bool = False  # whether the caption is the empty one


class CachedSamples:
    """Training samples of one split of a cache.

    Raises:
        EgoXInputError: the cache was made with another image embedding or ray geometry than the
            configuration asks for, or lacks what the task needs.
    """

    def __init__(self, config: SamplesConfig, split: str) -> None:
        self.config = config
        self.reader = CacheReader(config.cache)
        self._check_settings()
        clips = self.reader.clips(split)
        view_names: tuple[str, ...] = ("canvas",)
        if config.task == "base_i2v":
            # A cache may name its views: without exo, or with the ego view known in parts.
            cached_views = self.reader.index.settings["views"]
            view_names = ("exo", "ego") if cached_views is True else tuple(cached_views)
        self.groups: list[list[TrainingItem]] = [
            [TrainingItem(clip=c, view=v) for c in clips] for v in view_names
        ]

    @property
    def content_hash(self) -> str:
        """Hash of the cache's clips, models and settings."""
        index = self.reader.index
        return fingerprint(
            {
                "shards": dict(index.shards),
                "clips": [[entry.clip, entry.split] for entry in index.entries],
            }
        )[:16]

    def _check_settings(self) -> None:
        cached_settings, conditioning_settings = (
            self.reader.index.settings,
            self.config.conditioning,
        )
        if self.config.task == "base_i2v":
            if not cached_settings.get("views"):
                raise EgoXInputError(
                    "cache",
                    got="no single views",
                    expected="views for plain image-to-video",
                    fix="make the cache with --views",
                )
            return
        defaults = {"hidden_lines": "draw", "text_encoding": "released"}
        checked_names = ["rays", "image_embedding", *defaults]
        if self.reader.index.models.get("text", "zeros:").startswith("zeros"):
            checked_names.remove("text_encoding")
        for key in checked_names:
            cached_value = cached_settings.get(key, defaults.get(key))
            configured_value = getattr(conditioning_settings, key)
            if cached_value not in (None, "none", configured_value):
                step_words = "prepare the clips" if key == "hidden_lines" else "make the cache"
                raise EgoXInputError(
                    f"cache setting {key}",
                    got=repr(cached_value),
                    expected=repr(configured_value),
                    fix=f"{step_words} again with --{key.replace('_', '-')}, or train with "
                    f"conditioning.{key}={cached_value!r}",
                )

    def load(self, item: TrainingItem) -> TrainSample:
        """Load a training item from the cache as a batch of one sample."""
        tensors = self.reader.tensors(item.clip, LATENTS)
        text_embedding = self._caption_embedding(item, tensors)
        if item.view != "canvas":
            is_partial = item.view == "partial"
            view_name = "ego" if is_partial else item.view
            latent = _as_batch(tensors[view_name])
            image_embedding = tensors.get(f"image_{view_name}")
            return TrainSample(
                clips=(f"{item.clip}:{item.view}",),
                exo=latent[..., :0],
                ego=latent,
                cond_ego=_as_batch(tensors["partial" if is_partial else f"{view_name}_first"]),
                text=text_embedding,
                image=None if image_embedding is None else _as_batch(image_embedding),
                first_known=not is_partial,
            )
        prior_latent = (
            tensors["grey"] if self.config.conditioning.prior == "none" else tensors["prior"]
        )
        if self.config.conditioning.prior == "zero":
            prior_latent = torch.zeros_like(prior_latent)
        image_embedding = tensors.get("image")
        return TrainSample(
            clips=(item.clip,),
            exo=_as_batch(tensors["exo"]),
            ego=_as_batch(tensors["ego"]),
            cond_ego=_as_batch(prior_latent),
            text=text_embedding,
            image=None if image_embedding is None else _as_batch(image_embedding),
            geometry=(_geometry(tensors, self),),
        )

    def _caption_embedding(
        self, item: TrainingItem, tensors: dict[str, Tensor]
    ) -> Tensor:  # [1, tokens, text_dim]
        """Choose the text embedding of a clip's caption, or of the empty caption."""
        return _as_batch(
            self.reader.empty_caption(item.clip) if item.has_empty_caption else tensors["text"]
        )

    def items_of_step(self, step: int, global_batch: int) -> list[tuple[TrainingItem, int]]:
        """List the training items of one optimizer step with their sample numbers.

        A pure function of seed, step and batch, so a resumed run and one on more processes see the
        same samples. Groups of different size take turns; within a group every epoch is a new
        permutation."""
        step_items, clip_group = [], self.groups[step % len(self.groups)]
        first_number = step // len(self.groups) * global_batch
        for global_number in range(first_number, first_number + global_batch):
            epoch, index = divmod(global_number, len(clip_group))
            epoch_order = _item_order(len(clip_group), self.config.seed, epoch)
            sample_number = step * global_batch + global_number - first_number
            step_items.append(
                (
                    replace(
                        clip_group[epoch_order[index]],
                        has_empty_caption=self._drops_caption(sample_number),
                    ),
                    sample_number,
                )
            )
        return step_items

    def _drops_caption(self, number: int) -> bool:
        dropout_share = self.config.conditioning.caption_dropout
        return (
            dropout_share > 0
            and float(
                torch.rand((), generator=sample_generator(self.config.seed, number, "caption"))
            )
            < dropout_share
        )


def sample_generator(seed: int, number: int, purpose: str) -> torch.Generator:
    """Create a random generator for one sample."""
    sha256_digest = hashlib.sha256(f"{seed}:{number}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(sha256_digest[:7], "big"))


def draw_noise(
    sample: TrainSample,
    generator: torch.Generator,
    whole_canvas: bool,
) -> Tensor:  # [1, 16, t, h, w_ego], or of the whole canvas
    """Draw standard normal noise for the latents of one clip."""
    t, h, w_exo, w_ego = sample.grid
    width = w_ego + (w_exo if whole_canvas else 0)
    return torch.randn(1, sample.ego.shape[1], t, h, width, generator=generator)


@lru_cache(maxsize=8)
def _item_order(count: int, seed: int, epoch: int) -> list[int]:
    return torch.randperm(count, generator=sample_generator(seed, epoch, "order")).tolist()


def _as_batch(tensor: Tensor) -> Tensor:
    return tensor.float()[None]


def _geometry(tensors: dict[str, Tensor], samples: CachedSamples) -> GgaGeometry | None:
    if "key_dirs" not in tensors:
        return None
    return GgaGeometry(
        query_dirs=tensors["query_dirs"].float(),
        key_dirs=tensors["key_dirs"].float(),
        key_trust=tensors["key_trust"].float(),
        grid=tuple(tensors["grid"].tolist()),
        rays=str(samples.reader.index.settings.get("rays", "released")),
    )
