"""Test the small model's clips and latents at sizes of seconds."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from egox_core.cameras.path import CameraPath
from egox_core.gga.geometry import gga_geometry
from lab.drawn import make_take
from lab.small_model.clips import clip_spec, draw_clip
from lab.small_model.settings import FIRST_SEED, MAX_ROOMS, SMALL
from tests.lab.small_model.tiny import TINY
from tests.poses import replace_ego

pytest.importorskip("diffusers")

from lab.small_model.files import WorkFiles  # noqa: E402
from lab.small_model.latents import LatentMaker, mirror_geometry  # noqa: E402
from lab.small_model.rooms import Rooms, write_room  # noqa: E402


def test_splits_share_no_scene():
    assert FIRST_SEED["test"] == 950_000
    ranges = sorted((FIRST_SEED[s], FIRST_SEED[s] + MAX_ROOMS[s]) for s in FIRST_SEED)
    assert all(before[1] <= after[0] for before, after in zip(ranges, ranges[1:], strict=False))


def test_a_mirrored_clip_has_the_angles_of_the_mirrored_scene():
    """Mirror depth, cameras and path of a scene for comparison."""
    take = make_take(clip_spec(100_003, TINY))
    depth, path, options = take.depth_video(), take.trajectory(), "exact"
    sizes = {"frames": TINY.frames, "exo_size": (64, 32), "ego_size": (32, 32)}
    assert path.ego.camera.quarter_turns == 1 and not path.ego.camera.distortion
    across = torch.diag(torch.tensor([-1.0, 1, 1])).double()  # exo pictures, and the world
    on_sensor = torch.diag(torch.tensor([1.0, -1, 1])).double()  # the ego picture is stored turned
    world = torch.block_diag(across, torch.ones(1, 1).double())
    exo, ego = depth.exo.camera, path.ego.camera  # pixel centres lie on whole numbers
    mirrored_geometry = gga_geometry(
        replace(
            depth,
            depth_m=depth.depth_m.flip(-1),
            exo=CameraPath.of_exo(
                replace(exo, cx=exo.width - 1 - exo.cx), across @ depth.exo.pose @ world
            ),
        ),
        replace_ego(
            path,
            w2c=on_sensor @ path.ego.w2c @ world,
            lens=replace(ego, cy=ego.height - 1 - ego.cy),
        ),
        options,
        **sizes,
    )
    ours = mirror_geometry(gga_geometry(depth, path, options, **sizes))

    def angles(geometry):
        return geometry.query_dirs @ geometry.key_dirs.transpose(1, 2)

    assert torch.allclose(angles(ours), angles(mirrored_geometry), atol=1e-5) and torch.equal(
        ours.key_trust, mirrored_geometry.key_trust
    )
    assert not torch.allclose(angles(ours), angles(mirror_geometry(ours)), atol=0.1)


def test_a_room_file_is_what_its_seed_says(tmp_path):
    """Check that the second variant is mirrored and recoloured."""
    training = replace(SMALL, clips=TINY)
    maker = LatentMaker(WorkFiles().vae)
    for split in ("train", "test"):
        write_room(tmp_path, split, FIRST_SEED[split] + 1, training, maker)
    rooms = Rooms(tmp_path, "train", training, torch.device("cpu"))
    assert rooms.read_new_files() == 1 and rooms.read_new_files() == 1 and len(rooms.clips) == 2
    first, second = rooms.clips
    clip, take = draw_clip(100_001, TINY)
    assert take.spec == clip_spec(100_001, TINY) and clip.ego.shape == (5, 32, 32, 3)
    assert not clip.prior[~clip.coverage].any() and clip.coverage.any()
    assert first.geometry.grid == clip.geometry.grid
    assert torch.equal(first.geometry.key_dirs, clip.geometry.key_dirs)
    assert torch.equal(second.geometry.key_dirs, mirror_geometry(clip.geometry).key_dirs)
    assert not torch.equal(first.latents["ego"], second.latents["ego"])
    # The VAE is causal; of the partial video all frames are known, with holes.
    ego = first.latents["ego"]
    assert torch.allclose(ego[:, :1], first.latents["ego_first"][:, :1], atol=0.05)
    apart = [
        (ego - first.latents[name]).float().abs()[:, 1:].mean() for name in ("partial", "ego_first")
    ]
    assert 0 < apart[0] < apart[1]
    sample = rooms.sample("prior", [1, 0], torch.zeros(2, 8))
    assert torch.equal(sample.ego[1], ego) and len(sample.geometry) == 2
    alone = rooms.sample("ego_first", [0], torch.zeros(2, 8))
    assert alone.exo.shape[-1] == 0 and alone.first_known
    file_tensors = load_file(tmp_path / "test-950001.safetensors")
    assert torch.equal(file_tensors["pictures/ego"], draw_clip(950_001, TINY)[0].ego)
    assert {name.split("/")[0] for name in file_tensors} == {"0", "pictures"}
