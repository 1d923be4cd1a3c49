"""Draw and encode training rooms in separate processes, and load them for training."""

from __future__ import annotations

from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from egox_core.frozen import frozen
from egox_core.safe_files import atomic_write
from egox_core.types import GgaGeometry
from egox_train.train.samples import TrainSample

from .clips import draw_clip
from .files import WorkFiles
from .latents import DIRECTION_NAMES, VARIANTS, LatentMaker
from .settings import FIRST_SEED, SMALL_TRAINING, DemoTraining, Split

TEST_PICTURE_NAMES = ("ego", "prior", "seen")


def draw_rooms(
    number: int,
    workers: int,
    folder: Path,
    small: bool,
    device: str | None,  # None: a GPU if there is one
    enough_rooms: Event,
) -> None:
    """Draw every ``workers``-th room, those first that are needed first."""
    torch.set_num_threads(1)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    latent_maker = LatentMaker(WorkFiles().vae, device)
    training_settings = SMALL_TRAINING if small else DemoTraining()

    def seeds(split: Split, count: int) -> range:
        return range(FIRST_SEED[split] + number, FIRST_SEED[split] + count, workers)

    first_seed, *other_seeds = seeds("train", max(training_settings.rooms, number + 1))
    room_order: list[tuple[Split, int]] = [("train", first_seed)]
    room_order += [
        ("validation", seed) for seed in seeds("validation", training_settings.validation_rooms)
    ]
    room_order += [("test", seed) for seed in seeds("test", training_settings.test_rooms)]
    room_order += [("train", seed) for seed in other_seeds]
    for split, seed in room_order:
        if split == "train" and seed != first_seed and enough_rooms.is_set():
            return
        write_room(folder, split, seed, training_settings, latent_maker, device)


def write_room(
    folder: Path,
    split: Split,
    seed: int,
    training: DemoTraining,
    maker: LatentMaker,
    device: str = "cpu",
) -> Path:
    """Draw and encode the clips of one room, and write them to a file."""
    clip, _ = draw_clip(seed, training.clips, classes=split == "test", device=device)
    tensors = {
        f"{variant_number}/{name}": tensor.contiguous()
        for variant_number, variant in enumerate(VARIANTS if split == "train" else VARIANTS[:1])
        for name, tensor in maker.tensors(clip, variant).items()
    }
    if split == "test":
        tensors |= {f"pictures/{name}": getattr(clip, name) for name in TEST_PICTURE_NAMES}
    file = folder / f"{split}-{seed}.safetensors"
    grid_text = "x".join(map(str, clip.geometry.grid))
    with atomic_write(file) as temporary_file:
        save_file(tensors, temporary_file, {"grid": grid_text})
    return file


@frozen
class StoredClip:
    """Encoded clip on the training device."""

    latents: dict[str, Tensor]  # [16, t, h, w] bfloat16
    geometry: GgaGeometry


class Rooms:
    """Encoded rooms of one split on the training device, extended while more are drawn."""

    def __init__(
        self, folder: Path, split: Split, training: DemoTraining, device: torch.device
    ) -> None:
        self.folder, self.split, self.device = folder, split, device
        clips = training.clips
        # In tokens: a latent is an eighth of the picture, a token two of them.
        self.grid = (
            1 + (clips.frames - 1) // 4,
            clips.size // 16,
            clips.exo_width // 16,
            clips.size // 16,
        )
        self.rays = clips.rays
        self.clips: list[StoredClip] = []
        self.files: list[Path] = []

    def read_new_files(self) -> int:
        """Read the files of newly drawn rooms, and return the number of rooms."""
        for file in sorted(set(self.folder.glob(f"{self.split}-*.safetensors")) - {*self.files}):
            try:
                loaded_tensors = load_file(file, device=str(self.device))
            except (OSError, SafetensorError):  # still being written on a system without renames
                continue
            self.files.append(file)
            for clip_number in sorted(
                {name.split("/")[0] for name in loaded_tensors} - {"pictures"}
            ):
                clip_tensors = {
                    name.split("/")[1]: tensor
                    for name, tensor in loaded_tensors.items()
                    if name.startswith(f"{clip_number}/")
                }
                directions = {name: clip_tensors.pop(name) for name in DIRECTION_NAMES}
                geometry = GgaGeometry(grid=self.grid, rays=self.rays, **directions)
                self.clips.append(StoredClip(latents=clip_tensors, geometry=geometry))
        return len(self.files)

    def sample(
        self,
        # The ego view's condition: prior (next to exo), or partial or ego_first (alone).
        condition: str,
        clip_numbers: list[int],
        text: Tensor,  # [tokens, text_dim]
    ) -> TrainSample:
        """Stack clips to a batch of training samples."""
        clips = [self.clips[i] for i in clip_numbers]
        exo_latents, ego_latents, condition_latents = (
            torch.stack([clip.latents[name] for clip in clips])
            for name in ("exo", "ego", condition)
        )
        is_ego_alone = condition != "prior"
        return TrainSample(
            clips=tuple(map(str, clip_numbers)),
            exo=exo_latents[..., :0] if is_ego_alone else exo_latents,
            ego=ego_latents,
            cond_ego=condition_latents,
            text=text.expand(len(clip_numbers), -1, -1),
            geometry=() if is_ego_alone else tuple(clip.geometry for clip in clips),
            first_known=condition != "partial",
        )
