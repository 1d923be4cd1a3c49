"""Train both stages of the small model within a time limit, and measure the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from egox_core.errors import EgoXInputError
from egox_core.safe_files import atomic_write, write_json
from egox_train.train.config import TrainConfig
from egox_train.wan.text import read_embedding

from .drawers import Drawers
from .files import WorkFiles
from .lotus import save_text_embedding
from .parts import write_parts
from .report import COLUMNS, report
from .rooms import Rooms
from .settings import DemoTraining
from .training import NOISE_LEVELS, RESOLUTION, StageRun, train_stage
from .transformer import base_values, lora_values, ship_base, ship_lora


def train_small_model(
    out: Path,
    training: DemoTraining,
    drawers: Drawers,
    # Of the first look; figures are added, and each time ``figures.json`` is written.
    record: dict[str, Any],
    *,
    minutes: float,
    # Folder for runs, in which the processes draw.
    work_folder: Path,
    device: str = "cpu",
    # None if the host makes it.
    text: Path | None = None,
    # Of time.monotonic, when the minutes began; None: now.
    started: float | None = None,
    print_line: Callable[[str], None],
) -> dict[str, Any]:
    """Draw the rooms, train both stages and measure the result.

    The processes are ended before the figures.

    Raises:
        EgoXInputError: no text embedding, no time, processes that can't draw, a loss that isn't a
            number.
    """
    started = time.monotonic() if started is None else started
    shipped_files, new_files = WorkFiles(), WorkFiles(work_folder / "weights")

    def write_record(doing: str) -> None:
        record["doing"] = doing
        record["seconds"] = round(time.monotonic() - started, 1)
        write_json(out / "figures.json", record)

    write_record("text")
    if text is None:
        text = work_folder / "text.safetensors"
        save_text_embedding(text)
    torch_device = torch.device(device)
    embedding = read_embedding(text).to(torch_device)
    ready_time = time.monotonic()
    seconds_left = started + 60 * minutes - ready_time
    if seconds_left <= 0:
        raise EgoXInputError(
            "minutes",
            got=f"imports and text that took {ready_time - started:.0f} of {60 * minutes:.0f} s",
            expected="time to train",
            fix="give more --minutes",
        )

    def stage_end_time(share: float) -> float:
        return ready_time + seconds_left * share

    print_line(_plan(training, started, ready_time, seconds_left, minutes))
    training_rooms, held_out_rooms, test_rooms = (
        Rooms(work_folder, split, training, torch_device)
        for split in ("train", "validation", "test")
    )
    for file in (new_files.base, new_files.lora):
        file.parent.mkdir(parents=True, exist_ok=True)
    stage_plan = {
        "base": (
            training.base,
            ("partial", "ego_first"),
            base_values(shipped_files.base, training),
            ship_base,
            new_files.base,
        ),
        "lora": (
            training.lora,
            ("prior",),
            lora_values(new_files.base, shipped_files.lora, training),
            ship_lora,
            new_files.lora,
        ),
    }
    record |= {
        "device": _device_name(torch_device),
        "ready after seconds": round(ready_time - started, 1),
    }
    for name, (stage, condition_kinds, values, ship_weights, target) in stage_plan.items():
        config = TrainConfig(
            **values, cache=work_folder, output=work_folder / name, steps=RESOLUTION
        )
        stage_run = StageRun(
            config=config,
            stage=stage,
            conditions=condition_kinds,
            batch=training.batch_on_cpu if torch_device.type == "cpu" else stage.batch,
            rooms_until=stage_end_time(training.first_rooms_until),
            until=stage_end_time(stage.until),
            write_shipped=ship_weights,
            target=target,
        )

        write_record(name)

        def draw_on() -> None:
            if time.monotonic() > stage_end_time(training.drawing_until):
                drawers.stop_event.set()

        def saved(step: int, name: str = name, target: Path = target) -> None:
            write_parts(target, out)
            seconds = round(time.monotonic() - started, 1)
            record[name] = {"steps": step, "saved after seconds": seconds}
            write_record(name)

        record[name] = train_stage(
            stage_run,
            training_rooms,
            held_out_rooms,
            embedding,
            print_line,
            drawers.wait,
            draw_on,
            saved,
        )
    drawers.end()
    record["rooms drawn"] = {
        room_set.split: room_set.read_new_files()
        for room_set in (training_rooms, held_out_rooms, test_rooms)
    }

    def keep(rows: Mapping[str, Mapping[str, float]]) -> None:
        record["test rooms"] = rows
        write_record("figures")
        with atomic_write(out / "figures.md") as temporary_file:
            temporary_file.write_text(_table(record), encoding="utf-8")

    keep({})
    models = {"new": new_files, "shipped": shipped_files}
    if test_rooms.files:
        end_time = stage_end_time(training.figures_until)
        report(models, test_rooms, embedding, training, out, end_time, keep, print_line)
    else:
        print_line("no test room was drawn in time: no figures")
    write_record("nothing: all is done")
    return record


def _plan(training: DemoTraining, started: float, ready: float, left: float, minutes: float) -> str:
    """Compute when each training stage ends, in seconds from the start."""
    start_seconds, ready_share_s = ready - started, 60 * minutes * training.ready_until
    stage_ends = {
        "first rooms": training.first_rooms_until,
        "base": training.base.until,
        "LoRA": training.lora.until,
        "figures": training.figures_until,
    }
    stage_texts = ", ".join(
        f"{name} until {start_seconds + left * end_share:.0f} s"
        for name, end_share in stage_ends.items()
    )
    late_text = (
        f", {ready_share_s:.0f} were meant for it: all others have less"
        if start_seconds > ready_share_s
        else ""
    )
    return f"imports and text took {start_seconds:.1f} s{late_text}; {stage_texts}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _table(record: Mapping[str, Any]) -> str:
    """Format the training result as Markdown."""
    lines = [
        f"{record['device']}, {record['minutes']:g} minutes, rooms: {record['rooms drawn']}",
        "",
    ]
    for name in ("base", "lora"):
        stage_record = record[name]
        lines.append(
            f"{name}: {stage_record['steps']} steps of {stage_record['batch']}, "
            f"{stage_record['rooms']} rooms, {stage_record['seconds']} s, of which "
            f"{stage_record['seconds without rooms']} s without any"
        )
    lines += ["", _row("held-out loss at noise level", NOISE_LEVELS), _rule(len(NOISE_LEVELS))]
    for name in ("base", "lora"):
        for moment_name in ("held out before", "held out"):
            for condition_kind, losses in record[name][moment_name].items():
                lines.append(_row(f"{name}, {condition_kind}, {moment_name}", losses.values()))
    lines += ["", _row("test rooms", (*COLUMNS, "rooms")), _rule(len(COLUMNS) + 1)]
    lines += [_row(name, row.values()) for name, row in record["test rooms"].items()]
    return "\n".join(lines) + "\n"


def _row(first: str, values: Iterable[Any]) -> str:
    return "| " + " | ".join(map(str, (first, *values))) + " |"


def _rule(columns: int) -> str:
    return "|" + " --- |" * (columns + 1)
