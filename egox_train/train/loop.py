"""Run the training loop in one process or in many."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import atomic_write, clear_leftovers

from ..wan.diffusers_processor import GgaScope
from ..wan.transformer import base_without_weights, storage_dtype
from ..wan.vae import VaeEncoder
from .checkpoints import (
    TrainState,
    check_resumable,
    checkpoint_folders,
    last_checkpoint,
    save_checkpoint,
)
from .config import TrainConfig, dump_config
from .export import write_results
from .launch import (
    accelerate_handlers,
    check_launch,
    detect_launch,
    micro_steps_for,
    resume_notes,
)
from .loss import StepResult, draw_sigmas, flow_loss
from .memory import check_memory, this_machine
from .model import (
    TrainableModel,
    learning_rate,
    make_optimizer,
    make_trainable,
    set_learning_rate,
)
from .number_types import settle_types
from .samples import CachedSamples, TrainingItem, collate, draw_noise, sample_generator
from .sharded import full_tensor, is_sharded, load_optimizer_state, optimizer_state
from .step_log import StepLog, bucket_losses
from .stop_request import StopRequest
from .validation import RESULT_NAMES, HeldOutClips, check_validation

logger = logging.getLogger(__name__)


@frozen
class TrainOutcome:
    """Result of a training run."""

    step: int
    finished: bool  # False: stopped by a signal, saved, can be resumed
    last_loss: float


def train(config: TrainConfig, *, progress: Progress = no_progress) -> TrainOutcome:
    """Train up to ``config.steps`` optimizer steps, continuing from the last checkpoint.

    On another number of processes than the checkpoint's its global batch is kept, by more or fewer
    micro-steps.

    Raises:
        EgoXInputError: bad base, cache or settings; settings that no test covers together; a
            checkpoint of another run or with a global batch that these processes can't share; a
            loss that is not finite (names the clip; the last good checkpoint stays); a full disk.
    """
    accelerator = Accelerator(
        gradient_accumulation_steps=config.gradient_accumulation,
        kwargs_handlers=accelerate_handlers(),
        mixed_precision="no",
    )  # dtypes are the configuration's own, see TrainableModel
    launch_kind = detect_launch(accelerator)
    resumed_state = last_checkpoint(Path(config.output))
    earlier_config = None if resumed_state is None else resumed_state.config
    settled_configs = [settle_types(config, accelerator.device, earlier_config)]
    # On a CPU that multiplies as fast in both types, processes may have measured otherwise.
    (config,) = broadcast_object_list(settled_configs)
    check_launch(config, launch_kind)
    check_validation(config)
    if accelerator.is_main_process:
        clear_leftovers(Path(config.output) / "checkpoints")
    cached_samples = CachedSamples(config, "train")
    held_out_clips = HeldOutClips.of(config, cached_samples.reader)
    if held_out_clips is None and config.validation.every and accelerator.is_main_process:
        logger.warning(
            "validation is off: the cache holds no validation clip. For held-out losses prepare "
            "more takes or larger split fractions; validation.every=0 says that none are wanted"
        )
    micro_steps = micro_steps_for(config, accelerator.num_processes, resumed_state)
    accelerator.gradient_accumulation_steps = micro_steps
    if accelerator.is_main_process:  # before the base is read
        shard_count = accelerator.num_processes if launch_kind == "fsdp2" else 1
        for line in memory_lines(config, cached_samples, accelerator.device, shard_count):
            logger.info(line)
    trainable = make_trainable(config, accelerator.device)
    if resumed_state is not None:
        check_resumable(
            resumed_state,
            config.model_dump(mode="json"),
            trainable.base_hash,
            cached_samples.content_hash,
        )
        trainable.load_tensors(resumed_state.weights, f"checkpoint at step {resumed_state.step}")
        trainable.scope.kernels.resumed_name = resumed_state.kernel
        for note in resume_notes(config, micro_steps, accelerator.num_processes, resumed_state):
            if accelerator.is_main_process:
                logger.warning(note)
    optimizer = make_optimizer(config.optimizer, trainable.parameters)
    model, optimizer = accelerator.prepare(
        trainable.model, optimizer, device_placement=[not config.memory.block_offload, True]
    )
    trainable.model = accelerator.unwrap_model(model)
    # FSDP2 puts new parameters in their place.
    trainable.parameters = [p for p in trainable.model.parameters() if p.requires_grad]
    if resumed_state is not None:
        load_optimizer_state(trainable.model, optimizer, resumed_state.optimizer)
    training_run = _Run(
        config=config,
        accelerator=accelerator,
        samples=cached_samples,
        trainable=trainable,
        model=model,
        optimizer=optimizer,
        accumulation=micro_steps,
        held_out=held_out_clips,
        scope=trainable.scope,
        ema=moving_average(
            config, trainable.parameters, None if resumed_state is None else resumed_state.ema
        ),
    )
    return training_run.run_steps(0 if resumed_state is None else resumed_state.step, progress)


def memory_lines(
    config: TrainConfig, samples: CachedSamples, device: torch.device, shards: int = 1
) -> list[str]:
    """Predict the memory of a training step for the largest clip of the cache, as text.

    Raises:
        EgoXInputError: as :func:`~.memory.check_memory`; a cache of another text width than the
            base's.
    """
    first_samples = [samples.load(items[0]) for items in samples.groups]
    largest_grid = max((sample.grid for sample in first_samples), key=math.prod)
    base_path = Path(config.base)
    empty_model, text_dim = base_without_weights(base_path), first_samples[0].text.shape[-1]
    model_config: Any = empty_model.config
    if text_dim != model_config.text_dim:
        raise EgoXInputError(
            "cache",
            got=f"captions of {text_dim} numbers a token",
            expected=f"{model_config.text_dim}, as base model {base_path.name} takes them",
            fix="make the cache with the text encoder of this base; for captions of zeros "
            f"--text zeros:512x{model_config.text_dim}",
        )
    stored_type = "float32" if config.memory.base_dtype == "float32" else "bfloat16"
    is_mapped = not base_path.is_dir() and storage_dtype(base_path) == stored_type
    machine = this_machine(device)
    return check_memory(
        config, empty_model, largest_grid, machine, shards=shards, is_mapped=is_mapped
    )


def describe_training(config: TrainConfig) -> list[str]:
    """Check settings, cache and base model, and predict the memory of a step, without training.

    Raises:
        EgoXInputError: as :func:`train`, before it reads the base.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = settle_types(config, device)
    check_launch(config, "one")
    check_validation(config)
    cached_samples = CachedSamples(config, "train")
    lines = memory_lines(config, cached_samples, device)
    if device.type == "cpu":
        lines.append("no GPU here: nothing was compared")
    return lines


def moving_average(
    config: TrainConfig,
    # All of them are on one device.
    parameters: Sequence[nn.Parameter],
    # State of a checkpoint, on the CPU.
    state: Mapping[str, Any] | None,
) -> EMAModel | None:
    """Create the moving average of the trained weights, or return None without one."""
    if not config.ema_decay:
        return None
    average_model = EMAModel(parameters, decay=config.ema_decay, foreach=True)
    if state is not None:
        average_model.load_state_dict(dict(state))
        average_model.to(
            parameters[0].device
        )  # load_state_dict leaves it where the file was read to
    return average_model


@dataclass(slots=True, kw_only=True)
class _Run:
    """State of one training run: model, optimizer, samples and settings."""

    config: TrainConfig
    accelerator: Accelerator
    samples: CachedSamples
    trainable: TrainableModel
    model: nn.Module
    optimizer: Any
    # micro-steps of a step; the configuration's, unless a resumed run has other processes
    accumulation: int
    held_out: HeldOutClips | None
    ema: EMAModel | None
    scope: GgaScope

    def run_steps(self, first_step: int, progress: Progress) -> TrainOutcome:
        config, is_main_process = self.config, self.accelerator.is_main_process
        if is_main_process:
            output_folder = Path(config.output)
            output_folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(output_folder / "config.yaml") as temporary_file:
                temporary_file.write_text(dump_config(config), "utf-8")
        step_log = StepLog(config, first_step, is_main_process)
        loss, last_note = float("nan"), ""
        self.model.train()
        with StopRequest() as stop_request, closing(step_log):
            step, saved_step, last_save_s = first_step, first_step, time.monotonic()
            # A run that died while it validated had its weights saved, but not this line of the
            # curve.
            if (
                self._validates_at(step)
                and self._any_process(
                    is_main_process and not step_log.has_value(step, RESULT_NAMES[0])
                )[0]
            ):
                self._validate(step, step_log)
            while step < config.steps:
                start_time_s = time.perf_counter()
                sigmas, losses, gradient_norm = self._step(step)
                step += 1
                if is_main_process and self.scope.note != last_note:
                    last_note = self.scope.note
                    step_log.note(step, last_note)
                loss = sum(losses) / len(losses)
                if is_main_process and (step % config.log.every == 0 or step == config.steps):
                    step_log.write(
                        step,
                        {
                            "loss": loss,
                            "gradient_norm": gradient_norm,
                            "learning_rate": learning_rate(
                                config.optimizer, step - 1, config.steps
                            ),
                            **bucket_losses(sigmas, losses, config.log.timestep_buckets),
                        },
                    )
                minutes_since_save = (time.monotonic() - last_save_s) / 60
                is_stopping, is_due = self._any_process(
                    stop_request.requested,
                    is_main_process and 0 < config.checkpoint.minutes <= minutes_since_save,
                )
                if (
                    step % config.checkpoint.every == 0
                    or step == config.steps
                    or is_stopping
                    or is_due
                ):
                    self._save(step)
                    saved_step, last_save_s = step, time.monotonic()
                if self._validates_at(step) and not is_stopping:
                    self._validate(step, step_log)
                progress(
                    step,
                    config.steps,
                    f"loss {loss:.4f}, {time.perf_counter() - start_time_s:.2f} s per step",
                )
                if is_stopping:
                    break
        if saved_step != step:
            self._save(step)
        final_tensors = self._final_tensors()  # on all processes: each may hold a part
        if is_main_process:
            write_results(config, final_tensors, self.trainable, step)
        self.accelerator.wait_for_everyone()
        return TrainOutcome(step=step, finished=step >= config.steps, last_loss=loss)

    def _step(self, step: int) -> tuple[list[float], list[float], float]:
        """Run one optimizer step, and return noise levels, losses and the gradient's norm."""
        config, accelerator = self.config, self.accelerator
        process_count, batch_size = accelerator.num_processes, config.batch_size
        step_items = self.samples.items_of_step(step, self._global_batch())
        set_learning_rate(self.optimizer, learning_rate(config.optimizer, step, config.steps))
        torch.manual_seed(_dropout_seed(config.seed, step, accelerator.process_index))
        noise_levels, losses, gradient_norm = [], [], 0.0
        for micro_step in range(self.accumulation):
            first_item = (micro_step * process_count + accelerator.process_index) * batch_size
            batch_items = step_items[first_item : first_item + batch_size]
            with accelerator.accumulate(self.model):
                sigmas, step_result = self._forward(batch_items)
                clip_results = accelerator.gather(
                    torch.stack((sigmas.double(), step_result.clip_losses.double())).T.contiguous()
                )
                self._check_finite(
                    clip_results[:, 1], step_items[micro_step * process_count * batch_size :], step
                )
                noise_levels += clip_results[:, 0].tolist()
                losses += clip_results[:, 1].tolist()
                accelerator.backward(step_result.loss)
                if accelerator.sync_gradients:
                    gradient_norm = float(
                        full_tensor(
                            accelerator.clip_grad_norm_(
                                self.trainable.parameters, config.optimizer.max_grad_norm
                            )
                        )
                    )
                    if not gradient_norm < float("inf"):
                        self._raise_not_finite(
                            "gradient", ", ".join(sorted({i.clip for i, _ in step_items})), step
                        )
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.step(self.trainable.parameters)
        return noise_levels, losses, gradient_norm

    def _global_batch(self) -> int:
        return self.config.batch_size * self.accumulation * self.accelerator.num_processes

    def _forward(self, items: Sequence[tuple[TrainingItem, int]]) -> tuple[Tensor, StepResult]:
        """Compute the loss of these items at random noise levels."""
        config, device, dtype = self.config, self.accelerator.device, self.trainable.compute_dtype
        clip_samples = [self.samples.load(item) for item, _ in items]
        noise, sigma_list = [], []
        for clip_sample, (_, sample_number) in zip(clip_samples, items, strict=True):
            random_generator = sample_generator(config.seed, sample_number, "noise")
            sigma_list.append(draw_sigmas(config.timesteps, 1, random_generator))
            noise.append(
                draw_noise(clip_sample, random_generator, not config.conditioning.exo_clean)
            )
        batch, batch_sigmas = collate(clip_samples), torch.cat(sigma_list).to(device)
        with torch.autocast(device.type, dtype=dtype, enabled=self.trainable.autocast):
            loss_result = flow_loss(
                self.model,
                self.scope,
                batch.to(device, dtype),
                torch.cat(noise).to(device, dtype),
                batch_sigmas,
                config.conditioning,
            )
        return batch_sigmas, loss_result

    def _check_finite(self, losses: Tensor, items: list, step: int) -> None:
        bad_clips = [
            items[i][0].clip for i in (~torch.isfinite(losses)).nonzero().flatten().tolist()
        ]
        if bad_clips:
            self._raise_not_finite("loss", ", ".join(bad_clips), step)

    def _raise_not_finite(self, quantity: str, clips: str, step: int) -> None:
        checkpoints = checkpoint_folders(Path(self.config.output))
        raise EgoXInputError(
            f"{quantity} at step {step + 1}",
            got=f"NaN or infinity from clip {clips}",
            expected="finite numbers",
            fix="look at that clip, or lower the learning rate; the last good checkpoint "
            f"is {checkpoints[-1].name if checkpoints else 'none'}",
        )

    def _validates_at(self, step: int) -> bool:
        return self.held_out is not None and step > 0 and step % self.config.validation.every == 0

    def _validate(self, step: int, step_log: StepLog) -> None:
        """Compute the validation loss, and log an error instead of ending the training.

        What can fail on one process alone stands before the forwards or after them, since spread
        weights need all processes in each."""
        held_out, accelerator, error_text = self.held_out, self.accelerator, None
        if held_out is None:
            return
        result_rows = torch.zeros(len(held_out.items), 1 + len(RESULT_NAMES), dtype=torch.float64)
        held_out_clips, vae = [], None
        try:
            held_out_clips = held_out.load_share(
                accelerator.process_index,
                accelerator.num_processes,
                equal_counts=is_sharded(self.trainable.model),
            )
            vae_file = self.config.validation.vae
            if held_out.makes_sample_videos and held_out_clips and vae_file is not None:
                vae = VaeEncoder(Path(vae_file), accelerator.device)
        except Exception as error:
            error_text = error
        if not self._any_process(error_text is not None)[0]:
            try:
                result_rows = held_out.score(
                    accelerator.unwrap_model(self.model),
                    self.scope,
                    held_out_clips,
                    step,
                    vae,
                    device=accelerator.device,
                    dtype=self.trainable.compute_dtype,
                    autocast=self.trainable.autocast,
                )
            except Exception as error:
                error_text = error
        if error_text is not None:
            logger.warning(
                "validation at step %d failed, training continues: %s: %s",
                step,
                type(error_text).__name__,
                error_text,
            )
        mean_values = held_out.values(accelerator.reduce(result_rows.to(accelerator.device), "sum"))
        if accelerator.is_main_process and mean_values is not None:
            step_log.write(step, mean_values)
            step_log.show(step, held_out.videos(step))
        elif accelerator.is_main_process:
            step_log.note(
                step,
                f"validation failed: {type(error_text).__name__}: {error_text}"
                if error_text is not None
                else "validation failed on another process, which says why",
            )

    def _save(self, step: int) -> None:
        train_state = TrainState(
            step=step,
            weights=self.trainable.tensors(),
            optimizer=optimizer_state(self.trainable.model, self.optimizer),
            ema=None if self.ema is None else self.ema.state_dict(),
            config=self.config.model_dump(mode="json"),
            base_hash=self.trainable.base_hash,
            cache_hash=self.samples.content_hash,
            global_batch=self._global_batch(),
            kernel=self.scope.kernels.name,
        )
        if self.accelerator.is_main_process:
            save_checkpoint(Path(self.config.output), train_state, self.config.checkpoint.keep)
        self.accelerator.wait_for_everyone()

    def _final_tensors(self) -> dict[str, Tensor]:
        """Choose the trained weights to save, or their moving average."""
        if self.ema is None:
            return self.trainable.tensors()
        self.ema.store(self.trainable.parameters)
        self.ema.copy_to(self.trainable.parameters)
        tensors = {k: v.clone() for k, v in self.trainable.tensors().items()}
        self.ema.restore(self.trainable.parameters)
        return tensors

    def _any_process(self, *flags: bool) -> list[bool]:
        """Combine flags of all processes by a logical or."""
        if self.accelerator.num_processes == 1:
            return list(flags)
        local_flags = torch.tensor([flags], dtype=torch.float32, device=self.accelerator.device)
        return self.accelerator.gather(local_flags).any(dim=0).tolist()


def _dropout_seed(seed: int, step: int, process: int) -> int:
    return sample_generator(seed, step, f"dropout {process}").initial_seed()
