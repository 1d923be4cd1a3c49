"""The small model's clips and their latents, at sizes that take seconds."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from egox_core.gga.geometry import gga_geometry
from egox_train.data.cache_store import CacheReader
from lab.drawn import make_take
from lab.small_model.clips import (
    clip_spec,
    draw_clip,
    make_clips,
    read_shard,
    shard_files,
)
from lab.small_model.settings import FIRST_SEED, MAX_CLIPS
from tests.lab.small_model.tiny import TINY

pytest.importorskip("diffusers")

from lab.small_model import latents  # noqa: E402
from lab.small_model.files import WorkFiles  # noqa: E402
from tests.refusals import refuses  # noqa: E402


def test_splits_share_no_scene():
    ranges = sorted((FIRST_SEED[s], FIRST_SEED[s] + MAX_CLIPS[s]) for s in FIRST_SEED)
    assert all(before[1] <= after[0] for before, after in zip(ranges, ranges[1:], strict=False))


def test_clips_are_what_their_seed_says(clips):
    held = read_shard(shard_files(clips, "train")[0])
    assert [c.seed for c in held] == [100_000, 100_001, 100_002]
    again, take = draw_clip(100_001, TINY)
    assert torch.equal(again.ego, held[1].ego) and torch.equal(again.prior, held[1].prior)
    assert torch.equal(again.geometry.key_dirs.float(), held[1].geometry.key_dirs)
    assert take.spec == clip_spec(100_001, TINY) and again.ego.shape == (5, 32, 32, 3)
    assert not again.prior[~again.coverage].any() and again.coverage.any()


def test_a_folder_of_other_clips_is_refused(clips):
    with pytest.raises(ValueError, match="other settings"):
        make_clips(clips, "train", 1, replace(TINY, fps=4.0))


def test_latents_of_clips_that_are_not_drawn_yet_are_refused(clips, tmp_path):
    with refuses("1 of 3 shards"):
        latents.make_latents(clips, tmp_path / "latents", None, clips=40)
    assert not (tmp_path / "latents").exists()


def test_a_mirrored_clip_has_the_angles_of_the_mirrored_scene():
    """Against the geometry of a scene that is really mirrored: depth, both cameras and the path."""
    take = make_take(clip_spec(100_003, TINY))
    depth, path, options = take.depth_video(), take.trajectory(), "exact"
    sizes = {"frames": TINY.frames, "exo_size": (64, 32), "ego_size": (32, 32)}
    assert path.camera.quarter_turns == 1 and not path.camera.distortion
    across = torch.diag(torch.tensor([-1.0, 1, 1])).double()  # exo pictures, and the world
    on_sensor = torch.diag(torch.tensor([1.0, -1, 1])).double()  # the ego picture is stored turned
    world = torch.block_diag(across, torch.ones(1, 1).double())
    exo, ego = depth.camera, path.camera  # pixel centres lie on whole numbers
    there = gga_geometry(
        replace(
            depth,
            depth_m=depth.depth_m.flip(-1),
            exo_w2c=across @ depth.exo_w2c @ world,
            camera=replace(exo, cx=exo.width - 1 - exo.cx),
        ),
        replace(
            path, w2c=on_sensor @ path.w2c @ world, camera=replace(ego, cy=ego.height - 1 - ego.cy)
        ),
        options,
        **sizes,
    )
    ours = latents.mirrored(gga_geometry(depth, path, options, **sizes))

    def angles(geometry):
        return geometry.query_dirs @ geometry.key_dirs.transpose(1, 2)

    assert torch.allclose(angles(ours), angles(there), atol=1e-5) and torch.equal(
        ours.key_trust, there.key_trust
    )
    assert not torch.allclose(angles(ours), angles(latents.mirrored(ours)), atol=0.1)


@pytest.fixture(scope="module")
def maker(tmp_path_factory) -> latents.LatentMaker:
    text = tmp_path_factory.mktemp("text") / "text.safetensors"
    save_file({"embedding": torch.randn(1, 2, 8)}, text)
    return latents.LatentMaker(WorkFiles().vae, text, TINY)


def test_each_variant_is_a_take_of_its_own(clips, maker, tmp_path):
    """The second is mirrored and recoloured: in its latents and in the directions of its tokens."""
    assert latents.make_latents(clips, tmp_path, maker, clips=3, variants=2)
    cache = CacheReader(tmp_path)
    made = cache.clips("train")
    assert made[0] == "100000v0" and len(made) == 6
    names = ("ego", "ego_first", "partial", "key_dirs")
    first, second = (cache.tensors(f"100001v{variant}", names) for variant in (0, 1))
    assert not torch.equal(first["ego"], second["ego"])
    # The VAE is causal; of the partial video all frames are known, with holes.
    assert torch.equal(first["ego"][:, :1], first["ego_first"][:, :1])
    apart = [(first["ego"] - first[name]).float().abs()[:, 1:].mean() for name in names[1:3]]
    assert 0 < apart[1] < apart[0]
    assert torch.equal(
        second["key_dirs"], latents.mirrored(draw_clip(100_001, TINY)[0].geometry).key_dirs
    )
