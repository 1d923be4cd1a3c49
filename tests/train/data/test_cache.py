"""Test the ``cache`` command: its tensors, changed inputs and interrupted runs."""

import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_core.gga.rays import trainer_rays
from egox_train.data.cache_build import build_cache
from egox_train.data.cache_store import CacheReader, shard_name
from egox_train.data.clip_files import read_clip
from egox_train.data.clip_tensors import guidance_of_clip
from egox_train.data.manifest import read_manifest, write_manifest
from egox_train.options import CacheSettings, RunOptions
from egox_train.train.samples import CachedSamples
from egox_train.video_writer import write_video
from egox_train.wan.text import make_text_encoder
from egox_train.wan.vae import VaeEncoder
from tests.full_disk import limit_file_size
from tests.paths import ROOT, read_folder_files
from tests.refusals import refuses
from train_egox import main

VAE_FILE = ROOT / "models" / "vae" / "egox_standin_wan_vae.safetensors"


DEFAULT_SETTINGS = {
    "text": "zeros:2x24",
    "image_embedding": "none",
    "dtype": "float32",
    "shard_clips": 2,
}


def cache_settings(**changes) -> CacheSettings:
    return CacheSettings(**{"vae": VAE_FILE, **DEFAULT_SETTINGS, **changes})


def run_cache(manifest: Path, out: Path, *more_options: str) -> int:
    """Run the cache command with the default settings."""
    setting_options = [
        option
        for name, value in DEFAULT_SETTINGS.items()
        for option in (f"--{name.replace('_', '-')}", str(value))
    ]
    return main(
        ["cache", str(manifest), str(out), "--vae", str(VAE_FILE), *setting_options, *more_options]
    )


@pytest.fixture(scope="module")
def finished_cache(training_set, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    cache_outcome = build_cache(training_set / "manifest.jsonl", folder, cache_settings(views=True))
    assert (cache_outcome.clips, cache_outcome.new, cache_outcome.kept) == (4, 4, 0)
    return folder


def test_cached_clip_has_all_tensors_of_training(training_set, finished_cache):
    reader = CacheReader(finished_cache)
    record = read_manifest(training_set / "manifest.jsonl")[0]
    clip = read_clip(training_set, record)
    names = "exo ego prior grey text query_dirs key_dirs key_trust grid exo_first ego_first"
    tensors = reader.tensors(record.clip, names.split())
    assert tensors["exo"].shape == (16, 2, 4, 8)
    assert tensors["ego"].shape == tensors["prior"].shape == (16, 2, 4, 4)
    torch.testing.assert_close(tensors["ego"], VaeEncoder(VAE_FILE).encode(clip.ego))
    # The VAE is causal: one first frame.
    torch.testing.assert_close(tensors["ego_first"][:, :1], tensors["ego"][:, :1])
    geometry = guidance_of_clip(clip, "released")
    assert torch.equal(tensors["key_dirs"], geometry.key_dirs)
    assert tuple(tensors["grid"].tolist()) == geometry.grid
    directions = sum(tensors[k].numel() for k in ("query_dirs", "key_dirs", "key_trust"))
    assert directions < 8 * geometry.tokens * geometry.grid[0], "linear in tokens, never L x L"
    held_out = sorted(e.clip for e in reader.index.entries if e.split == "validation")
    validation_clips = (training_set / "splits" / "validation.txt").read_text("utf-8").split()
    assert held_out == sorted(validation_clips)


def test_only_changed_settings_make_clips_again(training_set, tmp_path):
    manifest = training_set / "manifest.jsonl"
    build_cache(manifest, tmp_path, cache_settings())
    second_outcome = build_cache(manifest, tmp_path, cache_settings())
    assert (second_outcome.new, second_outcome.kept, second_outcome.remake_reason) == (0, 4, "")
    clip_records = read_manifest(manifest)
    changed_records = [
        record.model_copy(update={"hidden_lines": "leave out"}) for record in clip_records
    ]
    mixed_manifest = training_set / "mixed.jsonl"
    write_manifest(mixed_manifest, changed_records[:1] + clip_records[1:])
    with refuses("one --hidden-lines"):
        build_cache(mixed_manifest, tmp_path, cache_settings())
    write_manifest(mixed_manifest, changed_records)
    build_cache(mixed_manifest, tmp_path, cache_settings())
    mixed_manifest.unlink()  # other tests compare the set
    assert CacheReader(tmp_path).index.settings["hidden_lines"] == "leave out"
    changed_outcome = build_cache(manifest, tmp_path, cache_settings(rays="exact"))
    assert (changed_outcome.new, changed_outcome.remake_reason) == (4, "hidden_lines, rays")
    changed_vae = {k: v.clone() for k, v in load_file(VAE_FILE).items()}
    changed_vae["conv1.bias"][0] += 1
    save_file(changed_vae, tmp_path.parent / "other_vae.safetensors")
    last_settings = cache_settings(rays="exact", vae=tmp_path.parent / "other_vae.safetensors")
    vae_outcome = build_cache(manifest, tmp_path, last_settings)
    assert (vae_outcome.new, vae_outcome.remake_reason) == (4, "vae")
    shard = tmp_path / shard_name("synthetic_001")
    shard.write_bytes(shard.read_bytes()[:100])
    with refuses(shard.name):
        CacheReader(tmp_path)
    assert build_cache(manifest, tmp_path, last_settings).new == 1


def test_texts_are_encoded_again_if_their_cleaning_changes(training_set, tmp_path, monkeypatch):
    manifest = training_set / "manifest.jsonl"
    for module, expected_new, expected_reason in (
        (None, 4, ""),
        (SimpleNamespace(fix_text=str), 4, "text_cleaning"),
        (None, 4, "text_cleaning"),
        (None, 0, ""),
    ):
        monkeypatch.setitem(sys.modules, "ftfy", module)
        cache_outcome = build_cache(manifest, tmp_path, cache_settings())
        assert (cache_outcome.new, cache_outcome.remake_reason) == (expected_new, expected_reason)


def test_cache_built_in_two_parts_equals_one_run(training_set, tmp_path):
    manifest, settings = training_set / "manifest.jsonl", cache_settings(shard_clips=1)
    build_cache(manifest, tmp_path / "whole", settings)
    outcome = build_cache(manifest, tmp_path / "parts", settings, RunOptions(part=(0, 2)))
    assert (outcome.clips, outcome.new, outcome.missing) == (4, 2, 2)
    with refuses("finished cache"):
        CacheReader(tmp_path / "parts")
    words = (manifest, tmp_path / "parts", "--shard-clips", "1")
    assert run_cache(*words, "--shard", "1/2") == 0
    assert read_folder_files(tmp_path / "parts") == read_folder_files(tmp_path / "whole")
    for refused in (("--shard", "2/2"), ("--shard", "1/2", "--device", "cpu,nowhere")):
        assert run_cache(*words, *refused) == 2


@pytest.mark.parametrize(
    ("changed_settings", "message_pattern"),
    [
        ({"vae": VAE_FILE.with_name("none.safetensors")}, "VAE"),
        ({"text": "zeros:2"}, "zeros:"),
        ({"image_embedding": "released"}, "clip-vision"),
        ({"vae": ROOT / "models" / "loras" / "egox_standin_lora_wan22.safetensors"}, "Wan 2.1 VAE"),
    ],
)
def test_bad_models_are_refused(training_set, tmp_path, changed_settings, message_pattern):
    with refuses(message_pattern):
        build_cache(training_set / "manifest.jsonl", tmp_path, cache_settings(**changed_settings))


def test_removed_clip_changes_only_its_takes_shards(training_set, tmp_path, monkeypatch, capsys):
    """Check that removing a clip rewrites only the cache shards of its take."""
    monkeypatch.setattr(
        "egox_train.data.cache_build.clip_tensors", lambda clip, settings: {"text": torch.zeros(1)}
    )
    set_folder, cache_folder = tmp_path / "set", tmp_path / "cache"
    shutil.copytree(training_set, set_folder)
    manifest = set_folder / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    # Each take has its one clip under several names.
    records = [{**line, "clip": f"{line['clip']}_{n}"} for line in lines for n in range(4)]

    def write_records(records: list[dict]) -> None:
        manifest.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")

    def shard_times() -> dict[str, int]:
        return {shard.name: shard.stat().st_mtime_ns for shard in cache_folder.glob("shard-*")}

    write_records(records)
    build_cache(manifest, cache_folder, cache_settings())
    times_before, take = shard_times(), records[0]["take"]
    assert len(times_before) == 8
    write_records(records[1:])
    assert run_cache(manifest, cache_folder) == 0
    output = capsys.readouterr().out
    assert f"changes in: the clips of 1 takes, first {take}" in output
    assert "15 clips; 2 shards made, 6 kept" in output
    changed_shards = {name for name, _ in times_before.items() ^ shard_times().items()}
    assert changed_shards == {shard_name(take, number) for number in range(2)}
    write_records([{**records[0], "clip": "early", "take": "aaa"}, *records[1:]])
    outcome = build_cache(manifest, cache_folder, cache_settings())
    assert (outcome.clips, outcome.new, outcome.kept, outcome.remake_reason) == (16, 1, 8, "")


def test_unreadable_clip_is_left_out_until_it_is_repaired(training_set, tmp_path, capsys):
    set_folder, cache_folder = tmp_path / "set", tmp_path / "cache"
    shutil.copytree(training_set, set_folder)
    manifest = set_folder / "manifest.jsonl"
    record = read_manifest(manifest)[1]
    damaged_file, truth = (
        set_folder / record.folder / name for name in ("ego_prior.mp4", "ego_ground_truth.mp4")
    )
    file_bytes = damaged_file.read_bytes()
    damaged_file.write_bytes(file_bytes[:300])
    assert run_cache(manifest, cache_folder) == 0
    output = capsys.readouterr().out
    assert f"left out: {record.clip}: " in output and "ego_prior.mp4" in output
    assert "3 clips; 4 shards" in output
    assert record.clip not in {entry.clip for entry in CacheReader(cache_folder).index.entries}

    def build() -> tuple:
        outcome = build_cache(manifest, cache_folder, cache_settings())
        return outcome.clips, outcome.new, [clip for clip, _ in outcome.omitted_clips]

    assert build() == (3, 0, [record.clip])
    damaged_file.write_bytes(file_bytes)
    assert build() == (4, 1, [])
    grey_pictures = torch.full((record.frames, *record.ego_size[::-1], 3), 0.8)
    write_video(truth, grey_pictures, record.fps)  # after prepare
    ((clip, reason),) = build_cache(manifest, tmp_path / "new", cache_settings()).omitted_clips
    assert clip == record.clip and f"got {truth.name} with" in reason
    (cache_folder / "index.json").write_text("[]", "utf-8")
    outcome = build_cache(manifest, cache_folder, cache_settings())
    assert (outcome.new, outcome.remake_reason) == (0, "index.json, which is damaged")
    for clip in (set_folder / "clips").iterdir():
        (clip / "ego_prior.mp4").write_bytes(b"")
    with refuses("no clip that can be read"):
        build_cache(manifest, tmp_path / "none", cache_settings())


def test_trainer_rays_follow_the_released_trainers_formula(training_set):
    """Check that the rays equal those of the formula in the released training code."""
    record = read_manifest(training_set / "manifest.jsonl")[0]
    clip = read_clip(training_set, record)
    ego, intrinsics = clip.take.trajectory.ego, clip.take.notes.meta_intrinsics
    rays = trainer_rays(ego.one(0), intrinsics, 4, 4)
    (fx, _, cx), (_, fy, cy), _ = (intrinsics * (4 / ego.camera.width)).tolist()
    pinhole_ray = torch.tensor([(2 - cx) / fx, (1 - cy) / fy, 1.0], dtype=torch.float64)
    x, y, z = ego.w2c[0, :, :3] @ (pinhole_ray / pinhole_ray.norm())
    torch.testing.assert_close(rays[0, 1, 2], torch.stack((-y, x, z)), atol=1e-9, rtol=0)
    trainer, exact = (guidance_of_clip(clip, kind) for kind in ("trainer", "exact"))
    assert trainer.rays == "trainer" and torch.equal(trainer.key_dirs, exact.key_dirs)
    assert not torch.allclose(trainer.query_dirs, exact.query_dirs)


def test_vae_gives_the_latents_and_pictures_of_comfyuis(comfy_host):
    from comfy.ldm.wan.vae import WanVAE

    frames, weights = torch.rand(9, 32, 48, 3), load_file(VAE_FILE)
    comfyui_vae = WanVAE(
        dim=weights["decoder.head.0.gamma"].shape[0],
        z_dim=16,
        num_res_blocks=2,
        temperal_downsample=[False, True, True],
    )
    comfyui_vae.load_state_dict({k: v.float() for k, v in weights.items()})
    egox_vae = VaeEncoder(VAE_FILE)
    from egox_core.wan.latents import denormalise_latent

    with torch.no_grad():
        expected_latent = comfyui_vae.encode((frames * 2 - 1).movedim(-1, 0)[None])
        latent = egox_vae.encode(frames)
        torch.testing.assert_close(
            denormalise_latent(latent[None]), expected_latent, atol=1e-5, rtol=1e-5
        )
        picture = ((comfyui_vae.decode(expected_latent)[0].movedim(0, -1) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(egox_vae.decode(latent), picture, atol=1e-5, rtol=0)


def test_text_is_encoded_as_in_inference_or_in_training(tmp_path):
    """Check both ways to encode text: with masked padding as in inference, or unmasked as in
    training."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    sizes = {"vocab_size": 9, "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 3}
    model = transformers.UMT5EncoderModel(
        transformers.UMT5Config(**sizes, feed_forward_proj="gated-gelu")
    ).eval()
    model.save_pretrained(tmp_path / "text_encoder")
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4, "&": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path / "tokenizer")
    for how, prompt, ids in (
        ("released", "a &amp; b", [3, 5, 4, 1]),
        ("released", "a " * 600, [3] * 511 + [1]),
        ("trainer", "a &amp; b", [3, 2, 4, 1]),
    ):
        padded = torch.tensor([ids + [0] * (512 - len(ids))])
        mask = (padded != 0).long() if how == "released" else None
        with torch.no_grad():
            expected = model(padded, attention_mask=mask).last_hidden_state[0]
        if how == "released":
            expected[len(ids) :] = 0
        embedding = make_text_encoder(str(tmp_path), "cpu", torch.float32, how).encode(prompt)
        torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=0)


def test_a_cache_of_the_other_text_encoding_is_refused(training_set, tiny_training, tmp_path):
    """Check that training refuses a cache whose text encoding differs from the configured one."""
    text_file = tmp_path / "text.safetensors"
    save_file({"embedding": torch.randn(2, 24)}, text_file)
    for text_source in (str(text_file), DEFAULT_SETTINGS["text"]):
        trainer_settings = cache_settings(text=text_source, text_encoding="trainer")
        build_cache(training_set / "manifest.jsonl", tmp_path / "cache", trainer_settings)
        same_config, other_config = (
            tiny_training.make_config(tmp_path, conditioning={"text_encoding": encoding})
            for encoding in ("trainer", "released")
        )
        assert CachedSamples(same_config, "train").groups
        with refuses("text_encoding") if text_source == str(text_file) else nullcontext():
            CachedSamples(other_config, "train")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit of POSIX")
def test_full_disk_is_reported_and_keeps_finished_shards(training_set, finished_cache, tmp_path):
    def build():
        return build_cache(training_set / "manifest.jsonl", tmp_path, cache_settings(views=True))

    build()
    (tmp_path / shard_name("synthetic_001")).unlink()
    files_before = read_folder_files(tmp_path)
    with limit_file_size(4000), refuses("room on the disk") as error:
        build()
    assert shard_name("synthetic_001") in str(error.value) and "are kept" in str(error.value)
    assert read_folder_files(tmp_path) == files_before  # no half shard, no temporary file
    assert build().new == 1
    assert read_folder_files(tmp_path) == read_folder_files(finished_cache)
