"""Test the drawn clips on which the small model is trained."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lab.small_model.clips import clip_spec, draw_clip
from lab.small_model.settings import FIRST_SEED, SMALL_TRAINING
from tests.lab.small_model.tiny import TINY_CLIPS

pytest.importorskip("diffusers")

from lab.small_model.files import WorkFiles  # noqa: E402
from lab.small_model.latents import LatentMaker, mirror_geometry  # noqa: E402
from lab.small_model.rooms import Rooms, write_room  # noqa: E402


def test_a_room_file_is_what_its_seed_says(tmp_path):
    """Check that a room's file contains the clip that its seed draws."""
    training_settings = replace(SMALL_TRAINING, clips=TINY_CLIPS)
    latent_maker = LatentMaker(WorkFiles().vae)
    for split in ("train", "test"):
        write_room(tmp_path, split, FIRST_SEED[split] + 1, training_settings, latent_maker)
    rooms = Rooms(tmp_path, "train", training_settings, torch.device("cpu"))
    assert rooms.read_new_files() == 1 and rooms.read_new_files() == 1 and len(rooms.clips) == 2
    first_clip, second_clip = rooms.clips
    clip, take = draw_clip(100_001, TINY_CLIPS)
    assert take.spec == clip_spec(100_001, TINY_CLIPS) and clip.ego.shape == (5, 32, 32, 3)
    assert not clip.prior[~clip.coverage].any() and clip.coverage.any()
    assert first_clip.geometry.grid == clip.geometry.grid
    assert torch.equal(first_clip.geometry.key_dirs, clip.geometry.key_dirs)
    assert torch.equal(second_clip.geometry.key_dirs, mirror_geometry(clip.geometry).key_dirs)
    assert not torch.equal(first_clip.latents["ego"], second_clip.latents["ego"])
    # The VAE is causal; of the partial video all frames are known, with holes.
    ego_latent = first_clip.latents["ego"]
    assert torch.allclose(ego_latent[:, :1], first_clip.latents["ego_first"][:, :1], atol=0.05)
    latent_differences = [
        (ego_latent - first_clip.latents[name]).float().abs()[:, 1:].mean()
        for name in ("partial", "ego_first")
    ]
    assert 0 < latent_differences[0] < latent_differences[1]
    sample = rooms.sample("prior", [1, 0], torch.zeros(2, 8))
    assert torch.equal(sample.ego[1], ego_latent) and len(sample.geometry) == 2
    single_sample = rooms.sample("ego_first", [0], torch.zeros(2, 8))
    assert single_sample.exo.shape[-1] == 0 and single_sample.first_known
    file_tensors = load_file(tmp_path / "test-950001.safetensors")
    assert torch.equal(file_tensors["pictures/ego"], draw_clip(950_001, TINY_CLIPS)[0].ego)
    assert {name.split("/")[0] for name in file_tensors} == {"0", "pictures"}
