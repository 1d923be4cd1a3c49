"""Train one stage of the small model for a given time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_train.train.config import ConditioningConfig, TrainConfig
from egox_train.train.export import write_results
from egox_train.train.loop import moving_average
from egox_train.train.loss import draw_sigmas, flow_loss
from egox_train.train.model import (
    TrainableModel,
    learning_rate,
    make_optimizer,
    make_trainable,
    set_learning_rate,
)
from egox_train.train.samples import TrainSample

from .rooms import Rooms
from .settings import Stage

NOISE_LEVELS = (0.999, 0.8, 0.5, 0.2, 0.1, 0.05)
"""Noise levels of the losses on held-out rooms."""
SAVE_EVERY_S = 20.0
TOLD_EVERY_S = 5.0
LOSSES_MARGIN = 1.2
"""Time kept for the last held-out losses, over what the first ones took."""
RESOLUTION = 10_000
"""Steps that the learning rate's curve is cut in, over a stage's time."""


@frozen
class StageRun:
    """Training stage: its model, its files and its clips."""

    config: TrainConfig
    stage: Stage
    conditions: tuple[str, ...]  # of the samples, in turns
    batch: int
    rooms_until: float  # of time.monotonic: then there are rooms, or the run ends
    until: float  # of time.monotonic
    write_shipped: Callable[[Path, Path], None]  # from the run's folder to the file
    target: Path


def train_stage(
    run: StageRun,
    rooms: Rooms,
    held_out: Rooms,
    text: Tensor,  # [tokens, text_dim], on the device
    print_message: Callable[[str], None],
    # Waits a moment for the first rooms, and says whether any are still drawn.
    wait: Callable[[], bool],
    # Called before each step.
    each_step: Callable[[], None],
    # Called with the steps so far after each save.
    saved: Callable[[int], None],
) -> dict[str, Any]:
    """Train until the stage's end, write the weights, and return figures about the training.

    Raises:
        EgoXInputError: a loss that isn't a number, no rooms in time, or ever.
    """
    start_time_s = last_message_s = time.monotonic()
    is_drawing = True
    while not rooms.read_new_files() or not held_out.read_new_files():
        if not is_drawing:  # before this look, so that the last rooms were in it
            raise EgoXInputError(
                "rooms",
                got="no process that draws any more",
                expected="some rooms of each split",
                fix="see the error of a process above",
            )
        is_drawing = wait()
        if time.monotonic() > run.rooms_until:
            raise EgoXInputError(
                "rooms",
                got=f"{len(rooms.files)} to train on and {len(held_out.files)} held out in time",
                expected="one of each before the share of waiting is over",
                fix="give more --minutes, or fewer --workers where the machine has few cores",
            )
        if time.monotonic() - last_message_s > TOLD_EVERY_S:
            last_message_s = time.monotonic()
            seconds_left = run.rooms_until - last_message_s
            print_message(
                f"waiting for the first rooms: {last_message_s - start_time_s:.0f} s, at most "
                f"{seconds_left:.0f} more"
            )
    waited_s = time.monotonic() - start_time_s
    config, device = run.config, text.device
    model = make_trainable(config, device)
    model.model.to(device)
    optimizer = make_optimizer(config.optimizer, model.parameters)
    weight_average = moving_average(config, model.parameters, None)
    assert weight_average is not None  # the settings have a decay

    def averaged(task: Callable[[], Any]) -> Any:
        weight_average.store(model.parameters)
        weight_average.copy_to(model.parameters)
        try:
            return task()
        finally:
            weight_average.restore(model.parameters)

    def save() -> None:
        write_results(config, model.tensors(), model, step)
        run.write_shipped(Path(config.output), run.target)

    def held_out_losses() -> dict[str, Mapping[str, float]]:
        held_out.read_new_files()
        return {
            condition_kind: _losses(
                model, config.conditioning, held_out, condition_kind, text, run.batch
            )
            for condition_kind in run.conditions
        }

    clip_generator = torch.Generator().manual_seed(config.seed)
    noise_generator = torch.Generator(device).manual_seed(config.seed)
    measure_start_s = time.monotonic()
    step, saved_s, losses_before = 0, time.monotonic(), averaged(held_out_losses)
    train_until_s = run.until - LOSSES_MARGIN * (time.monotonic() - measure_start_s)
    losses = torch.zeros((), device=device)
    training_start_s, time_share = time.monotonic(), 0.0
    seconds_left = max(train_until_s - training_start_s, 1e-3)
    while not step or time_share < 1:
        each_step()
        rooms.read_new_files()
        condition_kind = run.conditions[step % len(run.conditions)]
        count = min(run.batch, len(rooms.clips))
        clip_numbers = torch.randint(
            0, len(rooms.clips), (count,), generator=clip_generator
        ).tolist()
        batch_sample = rooms.sample(condition_kind, clip_numbers, text)
        sigmas = draw_sigmas(config.timesteps, count, clip_generator).to(device)
        noise_latent = torch.randn(batch_sample.ego.shape, generator=noise_generator, device=device)
        step_rate = learning_rate(config.optimizer, round(time_share * RESOLUTION), RESOLUTION)
        set_learning_rate(optimizer, step_rate)
        loss = _loss(model, config.conditioning, batch_sample, noise_latent, sigmas)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters, config.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        weight_average.step(model.parameters)
        step += 1
        time_share = (time.monotonic() - training_start_s) / seconds_left
        losses = losses.lerp(loss.detach(), max(1 / step, 0.01))
        if time.monotonic() - saved_s > SAVE_EVERY_S:
            _check(losses, step)
            averaged(save)
            saved(step)
            saved_s = time.monotonic()
            print_message(
                f"{run.target.name}: {step} steps, {len(rooms.files)} rooms, loss {losses:.4f}"
            )
    _check(losses, step)
    averaged(save)
    saved(step)
    return {
        "steps": step,
        "batch": run.batch,
        "clips seen": step * run.batch,
        "rooms": len(rooms.files),
        "seconds": round(time.monotonic() - start_time_s, 1),
        "seconds without rooms": round(waited_s, 1),
        "loss": round(float(losses), 4),
        "held out before": losses_before,
        "held out": averaged(held_out_losses),
    }


def _check(losses: Tensor, step: int) -> None:
    """Raise an error if a loss isn't finite."""
    if not torch.isfinite(losses):
        raise EgoXInputError(
            "loss", got=f"{losses} at step {step}", expected="a number", fix="lower the rate"
        )


def _loss(
    model: TrainableModel,
    conditioning: ConditioningConfig,
    sample: TrainSample,
    noise: Tensor,
    sigmas: Tensor,
) -> Tensor:
    """Compute the flow matching loss of a batch of training samples."""
    device, dtype = noise.device, model.compute_dtype
    sample = sample.to(device, dtype)
    with torch.autocast(device.type, dtype, enabled=model.autocast):
        step_result = flow_loss(
            model.model, model.scope, sample, noise.to(dtype), sigmas, conditioning
        )
    return step_result.loss


@torch.no_grad()
def _losses(
    model: TrainableModel,
    conditioning: ConditioningConfig,
    rooms: Rooms,
    kind: str,
    text: Tensor,
    batch: int,
) -> Mapping[str, float]:
    """Compute the loss of held-out clips at several noise levels."""
    clip_numbers = list(range(len(rooms.clips)))
    mean_losses = {}
    for noise_level in NOISE_LEVELS:
        noise_generator = torch.Generator(text.device).manual_seed(round(noise_level * 1000))
        total = 0.0
        for first_clip in range(0, len(clip_numbers), batch):
            batch_numbers = clip_numbers[first_clip : first_clip + batch]
            batch_sample = rooms.sample(kind, batch_numbers, text)
            noise_latent = torch.randn(
                batch_sample.ego.shape, generator=noise_generator, device=text.device
            )
            sigmas = torch.full((len(batch_numbers),), noise_level, device=text.device)
            total += float(_loss(model, conditioning, batch_sample, noise_latent, sigmas)) * len(
                batch_numbers
            )
        mean_losses[str(noise_level)] = round(total / len(clip_numbers), 4)
    return mean_losses
