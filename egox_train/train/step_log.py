"""The curve of a run: one JSON line a logged step, and the same to TensorBoard or Weights &
Biases."""

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
    """Display of a run's curve beside its file."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add values by name."""

    def show(self, step: int, videos: Sequence[Path]) -> None:
        """Add sample videos, under the names of their files."""

    def close(self) -> None:
        """Write what is still buffered."""


class StepLog:
    """Write ``metrics.jsonl``, where each step stands once.

    A resumed run first drops the lines behind its checkpoint.
    """

    def __init__(self, config: TrainConfig, first_step: int, active: bool) -> None:
        self.file = Path(config.output) / "metrics.jsonl"
        self.trackers: list[Tracker] = []
        if not active:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        earlier_lines = [line for line in self._lines() if json.loads(line)["step"] <= first_step]
        with atomic_write(self.file) as temporary:
            temporary.write_text("".join(line + "\n" for line in earlier_lines), "utf-8")
        kinds: Mapping[str, Callable[[TrainConfig, int], Tracker]] = {
            "tensorboard": TensorBoard,
            "wandb": WeightsAndBiases,
        }
        self.trackers = [kinds[name](config, first_step) for name in config.log.trackers]

    def _lines(self) -> list[str]:
        if not self.file.is_file():
            return []
        lines = self.file.read_text("utf-8").splitlines()
        return [
            line for line in lines if line.endswith("}")
        ]  # a killed run may have left half a line

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values after ``step`` optimizer steps."""
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        for tracker in self.trackers:
            tracker.write(step, values)

    def show(self, step: int, videos: Sequence[Path]) -> None:
        """Show sample videos in the trackers, besides the files in the run's folder."""
        for tracker in self.trackers:
            tracker.show(step, videos)

    def note(self, step: int, text: str) -> None:
        """Write what happened at that step as text, into the file alone."""
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, "note": text}, ensure_ascii=False) + "\n")

    def has(self, step: int, key: str) -> bool:
        """Check whether a value of that name was written at that step, by this run or the one that
        it goes on from."""
        return any(line["step"] == step and key in line for line in map(json.loads, self._lines()))

    def close(self) -> None:
        """Hand over what trackers still hold.

        A process that is killed loses their last lines, never the file's.
        """
        for tracker in self.trackers:
            tracker.close()
        self.trackers = []


def bucket_losses(
    sigmas: Sequence[float], losses: Sequence[float], buckets: int
) -> dict[str, float]:
    """Average the loss by range of noise level.

    The names are ``loss/sigma_0.25-0.50`` and so on. Empty ranges are left out.
    """
    sums: dict[int, list[float]] = {}
    for sigma, loss in zip(sigmas, losses, strict=True):
        sums.setdefault(min(int(sigma * buckets), buckets - 1), []).append(loss)
    return {
        f"loss/sigma_{i / buckets:.2f}-{(i + 1) / buckets:.2f}": sum(v) / len(v)
        for i, v in sorted(sums.items())
    }


def _folder(config: TrainConfig) -> Path:
    folder = Path(config.output) / "log"
    folder.mkdir(parents=True, exist_ok=True)  # wandb would write elsewhere
    return folder


class TensorBoard:
    """Write events to ``log/``, and hide the steps behind the checkpoint of a resumed run."""

    def __init__(self, config: TrainConfig, first_step: int) -> None:
        with needs_package(
            "tensorboard",
            "tracker tensorboard",
            expected="the train extra",
            instead=", or leave the tracker out",
        ):
            from torch.utils.tensorboard import SummaryWriter
        self.writer = SummaryWriter(str(_folder(config)), purge_step=first_step + 1)

    def close(self) -> None:
        self.writer.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def show(self, step: int, videos: Sequence[Path]) -> None:
        """Do nothing, since this tracker's moving pictures are GIF, and the files are in the run's
        folder."""


class WeightsAndBiases:
    """One run of the service for one output folder, however often it is resumed.

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
        folder = _folder(config)
        id_file = folder / "wandb_run_id"
        if not id_file.is_file():
            with atomic_write(id_file) as temporary:
                temporary.write_text(uuid.uuid4().hex[:12], "utf-8")
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
