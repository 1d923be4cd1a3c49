"""Task ``predict``: moments of several exo views as samples, their loss, and held-out ones.

No depth labels anywhere. Each draw follows from the sample's number alone, so that a resumed run
sees the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..data.cache_store import fingerprint
from ..errors import EgoXInputError
from ..metrics.image import psnr
from ..predict.moment import ViewMoment, read_moment
from ..predict.network import PredictedView
from ..predict.rays import batch_views
from ..trajectory.poses import camera_centre
from .config import TrainConfig
from .loss import StepResult
from .samples import permutation, sample_generator

HEAD_JITTER_M = 0.05
POSE_JITTER_DEG, POSE_JITTER_SHARE = 2.0, 1 / 3
"""Errors of real head poses: the head's place always, the gaze in a share of the samples."""
UP_SHARE = 0.5
"""Of the samples that are told where gravity points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentItem:
    """One moment with what is drawn of it."""

    clip: str
    views: tuple[int, ...]
    targets: tuple[int, ...]  # ego pictures; empty: the exo picture ``other`` instead
    other: int = -1

    @property
    def name(self) -> str:
        """For messages."""
        return self.clip


class MomentSamples:
    """Moments of one split: ``cache/<split>/*.safetensors``.

    Raises:
        EgoXInputError: there are none.
    """

    def __init__(self, config: TrainConfig, split: str) -> None:
        self.config = config
        self.files = {
            file.stem: file for file in sorted((Path(config.cache) / split).glob("*.safetensors"))
        }
        if not self.files:
            raise EgoXInputError(
                "cache",
                got=f"no moments of split {split}",
                expected=f"{split}/*.safetensors",
                fix="draw them, or make them of prepared clips",
            )
        self._kept: dict[str, ViewMoment] = {}

    @property
    def content_hash(self) -> str:
        """Changes with any file's name or size."""
        return fingerprint({name: file.stat().st_size for name, file in self.files.items()})[:16]

    def load(self, clip: str) -> ViewMoment:
        """The moment, kept in memory from its first use on (some 0.6 MB)."""
        if clip not in self._kept:
            self._kept[clip] = read_moment(self.files[clip])
        return self._kept[clip]

    def items_of_step(self, step: int, global_batch: int) -> list[tuple[MomentItem, int]]:
        """As :meth:`.samples.CachedSamples.items_of_step`; a step has one number of views and one
        kind of target."""
        own, names = self.config.predict, list(self.files)
        generator = sample_generator(self.config.seed, step, "views")
        count = own.counts[int(torch.randint(len(own.counts), (), generator=generator))]
        to_exo = float(torch.rand((), generator=generator)) < own.exo_targets
        items = []
        for number in range(step * global_batch, (step + 1) * global_batch):
            epoch, index = divmod(number, len(names))
            clip = names[permutation(len(names), self.config.seed, epoch)[index]]
            items.append((self._drawn(clip, count, to_exo, number), number))
        return items

    def _drawn(self, clip: str, count: int, to_exo: bool, number: int) -> MomentItem:
        moment, generator = self.load(clip), sample_generator(self.config.seed, number, "moment")
        views = torch.randperm(len(moment.exo), generator=generator).tolist()
        if len(views) < count + to_exo:
            raise EgoXInputError(
                f"moment {clip}",
                got=f"{len(views)} exo views",
                expected=f"{count + to_exo} or more",
                fix="train with fewer predict.counts, or without this moment",
            )
        gazes = torch.randperm(len(moment.ego), generator=generator)[
            : self.config.predict.gazes
        ].tolist()
        return MomentItem(
            clip=clip,
            views=tuple(views[:count]),
            targets=() if to_exo else tuple(gazes),
            other=views[count] if to_exo else -1,
        )


def predict_step(
    model: nn.Module,  # ViewPredictor
    samples: MomentSamples,
    items: Sequence[tuple[MomentItem, int]],
    *,
    augment: bool = True,
) -> tuple[StepResult, PredictedView]:
    """The loss of a batch, and what was predicted."""
    config = samples.config
    moments, poses, heads = [], [], []
    for item, number in items:
        moment = samples.load(item.clip)
        head = camera_centre(moment.ego_w2c[0])
        if item.other >= 0:
            moment = replace(
                moment,
                ego=moment.exo[item.other][None],
                ego_camera=moment.exo_cameras[item.other],
                ego_w2c=moment.exo_w2c[item.other][None],
            )
        else:
            moment = replace(
                moment,
                ego=moment.ego[list(item.targets)],
                ego_w2c=moment.ego_w2c[list(item.targets)],
            )
        pose = moment.ego_w2c
        if augment:
            generator = sample_generator(config.seed, number, "augment")
            moment = recoloured(moment, generator)
            if float(torch.rand((), generator=generator)) >= UP_SHARE:
                moment = replace(moment, up=None)
            head = head + HEAD_JITTER_M / math.sqrt(3) * torch.randn(
                3, generator=generator, dtype=torch.float64
            )
            if item.other < 0 and float(torch.rand((), generator=generator)) < POSE_JITTER_SHARE:
                pose = torch.stack([jittered(w2c, generator) for w2c in pose])
        moments.append(moment)
        poses.append(pose)
        heads.append(head)
    device = next(model.parameters()).device
    height, width = moments[0].ego.shape[1:3]
    scale = config.predict.size / height
    truth = torch.stack([m.ego for m in moments]).to(device).movedim(-1, 2).float() / 255
    truth = _resized(truth, round(height * scale), round(width * scale / 4) * 4)
    batch = batch_views(moments, [item.views for item, _ in items], poses, heads).to(device)
    prediction = model(batch, truth.shape[-1], truth.shape[-2])
    losses = predict_losses(prediction, truth)
    return StepResult(
        loss=losses.mean(),
        per_clip=losses.detach(),
        prediction=prediction.rgb.detach(),
        target=truth,
    ), prediction


def recoloured(moment: ViewMoment, generator: torch.Generator) -> ViewMoment:
    """All pictures with exchanged colour channels and other gains: more palettes than there are
    rooms."""
    order = torch.randperm(3, generator=generator)
    gain = 0.7 + 0.6 * torch.rand(3, generator=generator)

    def change(pictures: Tensor) -> Tensor:
        return (pictures[..., order].float() * gain).clamp(0, 255).to(torch.uint8)

    return replace(moment, exo=change(moment.exo), ego=change(moment.ego))


def jittered(w2c: Tensor, generator: torch.Generator) -> Tensor:  # [3, 4] -> [3, 4] float64
    """The pose of a camera turned by some degrees about its own place."""
    x, y, z = (
        math.radians(POSE_JITTER_DEG) / math.sqrt(3) * torch.randn(3, generator=generator)
    ).tolist()
    turn = torch.linalg.matrix_exp(
        torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    )
    return turn @ w2c


def predict_losses(
    prediction: PredictedView, truth: Tensor
) -> Tensor:  # truth [B, N, 3, h, w] -> [B]
    """Errors of the picture, of the coarse one and of what the walk met, and how well the
    variance tells of them."""
    small = _resized(truth, *prediction.coarse.shape[-2:])
    fine, coarse = prediction.rgb - truth, prediction.coarse - small
    walked = prediction.composite - small
    error = coarse.detach().square().mean(2)
    told = error * (-prediction.log_variance).exp() + prediction.log_variance
    return (
        20 * _mean(fine.square())
        + _mean(fine.abs())
        + 20 * _mean(coarse.square())
        + _mean(coarse.abs())
        + 10 * _mean(walked.square())
        + 0.02 * _mean(told)
    )


def _mean(values: Tensor) -> Tensor:  # [B, ...] -> [B]
    return values.flatten(1).mean(1)


def _resized(pictures: Tensor, height: int, width: int) -> Tensor:  # [B, N, 3, h, w]
    return interpolate(pictures.flatten(0, 1), (height, width), mode="area").unflatten(
        0, pictures.shape[:2]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutMoments:
    """Validation moments, one exo view and the wearer's own gaze; stands in for
    :class:`.validation.HeldOut`."""

    samples: MomentSamples
    items: tuple[MomentItem, ...]
    samples_wanted: bool = False

    @classmethod
    def of(cls, config: TrainConfig) -> HeldOutMoments | None:
        """None where no validation is wanted, or there is nothing to validate on."""
        if not config.validation.every or not (Path(config.cache) / "validation").is_dir():
            return None
        samples = MomentSamples(config, "validation")
        clips = list(samples.files)[: config.validation.clips]
        return cls(
            samples=samples,
            items=tuple(MomentItem(clip=c, views=(0,), targets=(0,)) for c in clips),
        )

    def load_share(
        self, process: int, processes: int, *, even: bool
    ) -> list[tuple[int, MomentItem]]:
        """(number, item) of one process."""
        return [
            (number, self.items[number]) for number in range(process, len(self.items), processes)
        ]

    @torch.no_grad()
    def score(
        self,
        model: nn.Module,
        scope: object,
        share: Sequence[tuple[int, MomentItem]],
        step: int,
        vae: object,
        **how: object,
    ) -> Tensor:  # [items, 3]: 1, loss, PSNR
        """Loss and PSNR of a share."""
        rows = torch.zeros(len(self.items), 5, dtype=torch.float64)
        for number, item in share:
            result, _ = predict_step(model, self.samples, [(item, 0)], augment=False)
            score = psnr(
                result.prediction[0].clamp(0, 1).movedim(1, -1), result.target[0].movedim(1, -1)
            )
            rows[number, :4] = torch.tensor((1.0, float(result.loss), 0.0, float(score.mean())))
        return rows

    def values(self, rows: Tensor) -> dict[str, float]:
        """Means by the name that they have in the log."""
        loss, _, score = rows[:, 1:4].mean(0).tolist()
        return {"validation/loss": loss, "validation/psnr": score}

    def videos(self, step: int) -> list[Path]:
        """None are written."""
        return []
