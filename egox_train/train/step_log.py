"""Log a training run to a JSON lines file, TensorBoard or Weights & Biases."""

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from egox_core.errors import needs_package
from egox_core.safe_files import atomic_write

from .config import TrainConfig, config_to_share


class Tracker(Protocol):
    """Interface of a service that displays a training run, such as TensorBoard."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log named values of one training step in the tracker."""

    def show(self, step: int, videos: Sequence[Path]) -> None:
        """Log sample videos of one training step in the tracker."""

    def close(self) -> None:
        """Write the tracker's buffered values at the end of a training run."""


class StepLog:
    """Log of a training run in ``metrics.jsonl``, with each step at most once.

    A resumed run first drops the lines behind its checkpoint.
    """

    def __init__(self, config: TrainConfig, first_step: int, is_active: bool) -> None:
        self.file = Path(config.output) / "metrics.jsonl"
        self.trackers: list[Tracker] = []
        if not is_active:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        earlier_lines = [line for line in self._lines() if json.loads(line)["step"] <= first_step]
        with atomic_write(self.file) as temporary_file:
            temporary_file.write_text("".join(line + "\n" for line in earlier_lines), "utf-8")
        tracker_factories: Mapping[str, Callable[[TrainConfig, int], Tracker]] = {
            "tensorboard": TensorBoard,
            "wandb": WeightsAndBiases,
        }
        self.trackers = [
            tracker_factories[name](config, first_step) for name in config.log.trackers
        ]

    def _lines(self) -> list[str]:
        if not self.file.is_file():
            return []
        lines = self.file.read_text("utf-8").splitlines()
        return [
            line for line in lines if line.endswith("}")
        ]  # a killed run may have left half a line

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the training values after ``step`` optimizer steps to the file and all trackers."""
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        for tracker in self.trackers:
            tracker.write(step, values)

    def show(self, step: int, videos: Sequence[Path]) -> None:
        """Log sample videos in all trackers."""
        for tracker in self.trackers:
            tracker.show(step, videos)

    def note(self, step: int, text: str) -> None:
        """Log a text about one step in the file."""
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, "note": text}, ensure_ascii=False) + "\n")

    def has_value(self, step: int, key: str) -> bool:
        """Check whether a named value was logged at a step."""
        return any(line["step"] == step and key in line for line in map(json.loads, self._lines()))

    def close(self) -> None:
        """Write the buffered values of all trackers.

        A process that is killed loses their last lines, never the file's.
        """
        for tracker in self.trackers:
            tracker.close()
        self.trackers = []


def bucket_losses(
    sigmas: Sequence[float], losses: Sequence[float], buckets: int
) -> dict[str, float]:
    """Average the loss separately for each range of noise levels.

    The names are ``loss/sigma_0.25-0.50`` and so on. Empty ranges are left out.
    """
    losses_by_bucket: dict[int, list[float]] = {}
    for sigma, loss in zip(sigmas, losses, strict=True):
        losses_by_bucket.setdefault(min(int(sigma * buckets), buckets - 1), []).append(loss)
    return {
        f"loss/sigma_{i / buckets:.2f}-{(i + 1) / buckets:.2f}": sum(v) / len(v)
        for i, v in sorted(losses_by_bucket.items())
    }


def _log_folder(config: TrainConfig) -> Path:
    folder = Path(config.output) / "log"
    folder.mkdir(parents=True, exist_ok=True)  # wandb would write elsewhere
    return folder


class TensorBoard:
    """Tracker that writes TensorBoard events.

    The events are in ``log/``. After a resume it hides the steps behind the checkpoint."""

    def __init__(self, config: TrainConfig, first_step: int) -> None:
        with needs_package(
            "tensorboard",
            "tracker tensorboard",
            expected="the train extra",
            instead=", or leave the tracker out",
        ):
            from torch.utils.tensorboard import SummaryWriter
        self.writer = SummaryWriter(str(_log_folder(config)), purge_step=first_step + 1)

    def close(self) -> None:
        self.writer.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def show(self, step: int, videos: Sequence[Path]) -> None:
        """Do nothing, because TensorBoard can't show mp4 videos."""


class WeightsAndBiases:
    """Tracker that logs to Weights & Biases.

    There is one run of the service per output folder, even after resumes.

    WANDB_PROJECT, WANDB_ENTITY, WANDB_NAME, WANDB_RUN_GROUP and WANDB_MODE (offline keeps
    everything in the folder) are read from the environment.
    """

    def __init__(self, config: TrainConfig, first_step: int) -> None:
        with needs_package(
            "wandb",
            "tracker wandb",
            expected="the track extra",
            instead=", or leave the tracker out",
        ):
            import wandb
        folder = _log_folder(config)
        id_file = folder / "wandb_run_id"
        if not id_file.is_file():
            with atomic_write(id_file) as temporary_file:
                temporary_file.write_text(uuid.uuid4().hex[:12], "utf-8")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "egox"),
            dir=str(folder),
            resume="allow",
            id=id_file.read_text("utf-8").strip(),
            config=config_to_share(config),
            name=os.environ.get("WANDB_NAME", Path(config.output).name),
        )
        self.video = wandb.Video

    def close(self) -> None:
        self.run.finish()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def show(self, step: int, videos: Sequence[Path]) -> None:
        self.run.log(
            {f"validation/{file.stem}": self.video(str(file), format="mp4") for file in videos},
            step=step,
        )
