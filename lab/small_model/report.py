"""Measure trained models on the test rooms against the shipped model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor

from egox_core.metrics import keep_observed
from egox_train.contact_sheet import SheetRow, make_contact_sheet, write_png
from egox_train.metrics.frame_metrics import frame_metrics
from egox_train.train.config import TrainConfig
from egox_train.train.model import make_trainable
from egox_train.train.sampling import sample_ego
from egox_train.wan.vae import VaeEncoder

from .files import WorkFiles
from .rooms import Rooms
from .settings import DemoTraining
from .transformer import lora_values

COLUMNS = (
    "psnr",
    "ssim",
    "outlines",
    "psnr_now",
    "psnr_earlier",
    "psnr_doubtful",
    "psnr_unobserved",
)
SHEET_ROOMS = 8
VARIANTS: Mapping[str, Mapping[str, float]] = {
    "": {},
    ", λ_g 0": {"lambda_g": 0.0},
    ", LoRA strength 0": {"strength": 0.0},
}
"""Suffix of a row, and what it is sampled with; the first one is also shown with what exo observed
put back."""


def report(
    models: Mapping[str, WorkFiles],
    # The test split.
    rooms: Rooms,
    text: Tensor,  # [tokens, text_dim], on the device
    training: DemoTraining,
    # Folder of rooms.png.
    out: Path,
    # Of time.monotonic: the rooms of a row that are not there by then are left out, and later rows.
    end_time: float,
    # Called with the rows so far.
    save_figures: Callable[[Mapping[str, Mapping[str, float]]], None],
    print_line: Callable[[str], None],
) -> None:
    """Sample the test rooms with each model, and compare the samples with the true ego videos."""
    rooms.read_new_files()
    pictures = [_load_test_pictures(file) for file in rooms.files]
    vae = VaeEncoder(WorkFiles().vae, text.device)
    rows: dict[str, dict[str, float]] = {}
    sheet_videos = {
        name: [test_pictures[name] for test_pictures in pictures] for name in ("prior", "truth")
    }

    def add_row(name: str, videos: list[Tensor]) -> None:
        figures = []
        for video, test_pictures in zip(videos, pictures, strict=False):
            if figures and time.monotonic() > end_time:
                break
            figures.append(_figures(video, test_pictures))
        if figures:
            mean_figures = {column: round(_mean(figures, column), 4) for column in COLUMNS}
            rows[name] = {**mean_figures, "rooms": len(figures)}
            save_figures(rows)
            print_line(f"{name}: {rows[name]['psnr']:.2f} dB in {len(figures)} rooms")

    for name_suffix, strengths in VARIANTS.items():
        for name, files in models.items():
            if rows and time.monotonic() > end_time:
                return
            config = _config(files, training, strengths.get("lambda_g", training.lambda_g))
            strength = strengths.get("strength", 1.0)
            videos_made = _sample_rooms(config, rooms, text, training, vae, strength, end_time)
            add_row(name + name_suffix, videos_made)
            if not strengths:
                sheet_videos[name] = videos_made
                _write_sheet(out / "rooms.png", sheet_videos)
                kept_videos = [
                    keep_observed(video, test_pictures["prior"], test_pictures["seen"], 1.0)[0]
                    for video, test_pictures in zip(videos_made, pictures, strict=False)
                ]
                add_row(f"{name}, observed kept", kept_videos)
    add_row("prior", sheet_videos["prior"])


def _config(files: WorkFiles, training: DemoTraining, lambda_g: float) -> TrainConfig:
    values = lora_values(files.base, files.lora, training)
    values["conditioning"] = {**values["conditioning"], "lambda_g": lambda_g}
    return TrainConfig(**values, cache=files.shipped, output=files.shipped, steps=1)


def _sample_rooms(
    config: TrainConfig,
    rooms: Rooms,
    text: Tensor,
    training: DemoTraining,
    vae: VaeEncoder,
    strength: float,
    end_time: float,
) -> list[Tensor]:  # [T, H, W, 3] float32 0...1 each
    """Sample the ego videos of test rooms until the time is over."""
    model = make_trainable(config, text.device)
    model.model.to(text.device).eval()
    if not strength:
        for layer in model.model.modules():
            if isinstance(layer, BaseTunerLayer):
                layer.enable_adapters(False)
    videos = []
    for room_number in range(len(rooms.files)):
        if videos and time.monotonic() > end_time:
            break
        room_sample = rooms.sample("prior", [room_number], text).to(
            text.device, model.compute_dtype
        )
        latent = sample_ego(
            model.model,
            model.scope,
            room_sample,
            config.conditioning,
            steps=training.sample_steps,
            shift=training.shift,
            autocast=True,
        )
        videos.append(vae.decode(latent[0].float()))
    return videos


def _load_test_pictures(file: Path) -> dict[str, Tensor]:
    """Load the true ego video, the prior and the visibility classes of a test room."""
    loaded_tensors = load_file(file)
    return {
        "truth": loaded_tensors["pictures/ego"].float() / 255,
        "prior": loaded_tensors["pictures/prior"].float() / 255,
        "seen": loaded_tensors["pictures/seen"],
    }


def _figures(video: Tensor, true_pictures: Mapping[str, Tensor]) -> dict[str, float | None]:
    values: dict[str, Any] = dict(
        frame_metrics(video, true_pictures["truth"], seen=true_pictures["seen"])
    )
    return {**values, "outlines": outline_share(video, true_pictures["truth"])}


def outline_share(
    video: Tensor,  # [T, H, W, 3] 0...1
    truth: Tensor,  # [T, H, W, 3]
) -> float:
    """Compute how much of the true video's outlines another video reproduces."""
    generated_gradients, true_gradients = (
        torch.stack([grey_video.diff(dim=1)[:, :, :-1], grey_video.diff(dim=2)[:, :-1]])
        for grey_video in (frames.double().mean(-1) for frames in (video, truth))
    )
    return float(
        (generated_gradients * true_gradients).sum()
        / true_gradients.square().sum().clamp_min(1e-12)
    )


def _mean(figures: list[dict[str, float | None]], column: str) -> float:
    values = [row[column] for row in figures if row.get(column) is not None]
    return sum(values) / len(values) if values else float("nan")


def _write_sheet(file: Path, videos: Mapping[str, list[Tensor]]) -> None:
    """Write a contact sheet that compares the models' pictures of some rooms."""
    names = tuple(videos)
    rows = [
        SheetRow(
            pictures=[
                (videos[name][room][len(videos[name][room]) // 2] * 255).round().byte().numpy()
                for name in names
            ],
            labels=names,
        )
        for room in range(min(SHEET_ROOMS, *map(len, videos.values())))
    ]
    write_png(file, make_contact_sheet(rows))
