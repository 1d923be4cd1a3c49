"""The curve of a run: one JSON line a logged step, and the same to TensorBoard or Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import needs_package
from ..safe_files import write_whole
from .config import TrainConfig

Tracker = tuple[Callable[[int, Mapping[str, float]], None], Callable[[], None]]  # write, close


class StepLog:
    """Writes ``metrics.jsonl``; a resumed run first drops the lines behind its checkpoint, so no step stands twice."""

    def __init__(self, config: TrainConfig, first_step: int, active: bool) -> None:
        self.file = Path(config.output) / "metrics.jsonl"
        self.trackers: list[Tracker] = []
        if not active:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        before = [line for line in self._lines() if json.loads(line)["step"] <= first_step]
        with write_whole(self.file) as temporary:
            temporary.write_text("".join(line + "\n" for line in before), encoding="utf-8")
        self.trackers = [_tracker(name, config) for name in config.log.trackers]

    def _lines(self) -> list[str]:
        if not self.file.is_file():
            return []
        lines = self.file.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.endswith("}")]  # a killed run may have left half a line

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """``step`` counts optimizer steps done."""
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        for write, _ in self.trackers:
            write(step, values)

    def note(self, step: int, text: str) -> None:
        """Words in the file alone: what happened at that step."""
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, "note": text}, ensure_ascii=False) + "\n")

    def has(self, step: int, key: str) -> bool:
        """Whether a value of that name was written at that step, by this run or the one that it goes on from."""
        return any(line["step"] == step and key in line for line in map(json.loads, self._lines()))

    def close(self) -> None:
        """Hands over what trackers still hold; a process that is killed loses their last lines, never the file's."""
        for _, close in self.trackers:
            close()
        self.trackers = []


def bucket_losses(sigmas: Sequence[float], losses: Sequence[float], buckets: int) -> dict[str, float]:
    """Mean loss by range of noise level: ``loss/sigma_0.25-0.50`` and so on; empty ranges are left out."""
    sums: dict[int, list[float]] = {}
    for sigma, loss in zip(sigmas, losses, strict=True):
        sums.setdefault(min(int(sigma * buckets), buckets - 1), []).append(loss)
    return {f"loss/sigma_{i / buckets:.2f}-{(i + 1) / buckets:.2f}": sum(v) / len(v) for i, v in sorted(sums.items())}


def _tracker(name: str, config: TrainConfig) -> Tracker:
    folder = Path(config.output) / "log"
    folder.mkdir(parents=True, exist_ok=True)  # wandb would write elsewhere
    if name == "tensorboard":
        with needs_package("tensorboard", "tracker tensorboard", expected="the train extra",
                           instead=", or leave the tracker out"):
            from torch.utils.tensorboard import SummaryWriter
        writer = SummaryWriter(str(folder))

        def to_tensorboard(step: int, values: Mapping[str, float]) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)
            writer.flush()

        return to_tensorboard, writer.close
    with needs_package("wandb", "tracker wandb", expected="the track extra", instead=", or leave the tracker out"):
        import wandb
    # WANDB_MODE=offline in the environment keeps everything in the folder.
    run = wandb.init(project="egox", dir=str(folder), config=config.model_dump(mode="json"))
    return lambda step, values: run.log(dict(values), step=step), run.finish
