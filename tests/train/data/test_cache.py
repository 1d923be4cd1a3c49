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

from egox_core.gga.geometry import gga_geometry
from egox_core.gga.rays import trainer_rays
from egox_core.sizes import FRAMES_PER_LATENT
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
    cache_reader = CacheReader(finished_cache)
    record = read_manifest(training_set / "manifest.jsonl")[0]
    clip = read_clip(training_set, record)
    tensors = cache_reader.tensors(
        record.clip,
        "exo ego prior grey text query_dirs key_dirs key_trust grid exo_first ego_first".split(),
    )
    assert tensors["exo"].shape == (16, 2, 4, 8)
    assert tensors["ego"].shape == tensors["prior"].shape == (16, 2, 4, 4)
    vae = VaeEncoder(VAE_FILE)
    torch.testing.assert_close(tensors["ego"], vae.encode(clip.ego))
    torch.testing.assert_close(
        tensors["ego_first"][:, :1], tensors["ego"][:, :1]
    )  # the VAE is causal: one first frame
    geometry = guidance_of_clip(clip, "released")
    assert (
        torch.equal(tensors["key_dirs"], geometry.key_dirs)
        and tuple(tensors["grid"].tolist()) == geometry.grid
    )
    directions = sum(tensors[k].numel() for k in ("query_dirs", "key_dirs", "key_trust"))
    assert (
        directions < 8 * geometry.tokens * geometry.grid[0]
    )  # linear in tokens a frame, never L x L
    splits = {e.clip: e.split for e in cache_reader.index.entries}
    validation_clips = (training_set / "splits" / "validation.txt").read_text("utf-8").split()
    assert sorted(c for c, s in splits.items() if s == "validation") == sorted(validation_clips)


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


def test_cache_built_in_two_parts_equals_one_run(training_set, tmp_path):
    manifest, shard_settings = training_set / "manifest.jsonl", cache_settings(shard_clips=1)
    build_cache(manifest, tmp_path / "whole", shard_settings)
    first_outcome = build_cache(
        manifest, tmp_path / "parts", shard_settings, RunOptions(part=(0, 2))
    )
    assert (first_outcome.clips, first_outcome.new, first_outcome.missing) == (4, 2, 2)
    with refuses("finished cache"):
        CacheReader(tmp_path / "parts")
    part_arguments = (manifest, tmp_path / "parts", "--shard-clips", "1", "--shard")
    assert run_cache(*part_arguments, "1/2") == 0
    assert read_folder_files(tmp_path / "parts") == read_folder_files(tmp_path / "whole")
    assert (
        run_cache(*part_arguments, "2/2")
        == 2
        == run_cache(*part_arguments[:-1], "--device", "cpu,nowhere")
    )
    with pytest.raises(SystemExit):
        run_cache(*part_arguments, "half")


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


def renamed_records(training_set: Path, takes: int, clips: int) -> list[dict]:
    """Build manifest lines in which each take has one clip under several names."""
    lines = [
        json.loads(line)
        for line in (training_set / "manifest.jsonl").read_text("utf-8").splitlines()
    ]
    return [
        {**line, "clip": f"{line['clip']}_{number}"}
        for line in lines[:takes]
        for number in range(clips)
    ]


def write_lines(file: Path, records: list[dict]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return file


def test_removed_clip_changes_only_its_takes_shards(training_set, tmp_path, monkeypatch, capsys):
    """Check that removing a clip rewrites only the cache shards of its take."""
    monkeypatch.setattr(
        "egox_train.data.cache_build.clip_tensors", lambda clip, settings: {"text": torch.zeros(1)}
    )
    set_folder, cache_folder = tmp_path / "set", tmp_path / "cache"
    shutil.copytree(training_set, set_folder)
    records = renamed_records(training_set, 4, 4)
    build_cache(write_lines(set_folder / "manifest.jsonl", records), cache_folder, cache_settings())
    times_before = {
        shard_file.name: shard_file.stat().st_mtime_ns
        for shard_file in cache_folder.glob("shard-*")
    }
    assert len(times_before) == 8
    write_lines(set_folder / "manifest.jsonl", records[1:])
    assert run_cache(set_folder / "manifest.jsonl", cache_folder) == 0
    output = capsys.readouterr().out
    assert (
        f"made anew because of changes in: the clips of 1 takes, first {records[0]['take']}"
        in output
    )
    assert "15 clips; 2 shards made, 6 kept" in output
    take_shards = {shard_name(records[0]["take"], number) for number in range(2)}
    assert {
        shard
        for shard, time in times_before.items()
        if (cache_folder / shard).stat().st_mtime_ns != time
    } == take_shards
    records_with_new_clip = [{**records[0], "clip": "early", "take": "aaa"}, *records[1:]]
    second_outcome = build_cache(
        write_lines(set_folder / "manifest.jsonl", records_with_new_clip),
        cache_folder,
        cache_settings(),
    )
    assert (
        second_outcome.clips,
        second_outcome.new,
        second_outcome.kept,
        second_outcome.remake_reason,
    ) == (16, 1, 8, "")
    assert len(CacheReader(cache_folder).index.entries) == 16


def test_clip_whose_video_was_replaced_after_prepare_is_named(training_set, tmp_path, capsys):
    set_folder, cache_folder = tmp_path / "set", tmp_path / "cache"
    shutil.copytree(training_set, set_folder)
    manifest = set_folder / "manifest.jsonl"
    record = read_manifest(manifest)[1]
    grey_pictures = torch.full((record.frames, *record.ego_size[::-1], 3), 0.8)
    write_video(set_folder / record.folder / "ego_ground_truth.mp4", grey_pictures, record.fps)
    assert run_cache(manifest, cache_folder) == 0
    expected_text = f"left out: {record.clip}: clip {record.clip}: got ego_ground_truth.mp4 with"
    assert expected_text in capsys.readouterr().out
    assert record.clip not in {e.clip for e in CacheReader(cache_folder).index.entries}


def test_unreadable_clip_is_left_out_until_it_is_repaired(training_set, tmp_path, capsys):
    set_folder, cache_folder = tmp_path / "set", tmp_path / "cache"
    shutil.copytree(training_set, set_folder)
    damaged_file = sorted((set_folder / "clips").iterdir())[1] / "ego_prior.mp4"
    file_bytes = damaged_file.read_bytes()
    damaged_file.write_bytes(file_bytes[:300])
    manifest = set_folder / "manifest.jsonl"
    assert run_cache(manifest, cache_folder) == 0
    output = capsys.readouterr().out
    assert (
        f"left out: {damaged_file.parent.name}: " in output
        and "ego_prior.mp4" in output
        and "3 clips; 4 shards" in output
    )
    assert damaged_file.parent.name not in {e.clip for e in CacheReader(cache_folder).index.entries}
    second_outcome = build_cache(manifest, cache_folder, cache_settings())
    assert (
        second_outcome.clips,
        second_outcome.new,
        [clip for clip, _ in second_outcome.omitted_clips],
    ) == (
        3,
        0,
        [damaged_file.parent.name],
    )
    damaged_file.write_bytes(file_bytes)
    repaired_outcome = build_cache(manifest, cache_folder, cache_settings())
    assert (repaired_outcome.clips, repaired_outcome.new, repaired_outcome.omitted_clips) == (
        4,
        1,
        (),
    )
    (cache_folder / "index.json").write_text("[]", "utf-8")
    second_outcome = build_cache(manifest, cache_folder, cache_settings())
    assert (second_outcome.new, second_outcome.remake_reason) == (
        0,
        "index.json, which is damaged",
    )
    assert len(CacheReader(cache_folder).index.entries) == 4
    for clip in (set_folder / "clips").iterdir():
        (clip / "ego_prior.mp4").write_bytes(b"")
    with refuses("no clip that can be read"):
        build_cache(manifest, tmp_path / "none", cache_settings())


def test_trainer_rays_follow_the_released_trainers_formula(training_set):
    """Check that the rays equal those of the formula in the released training code."""
    record = read_manifest(training_set / "manifest.jsonl")[0]
    clip = read_clip(training_set, record)
    trajectory, intrinsics = clip.take.trajectory, clip.take.notes.meta_intrinsics
    rays = trainer_rays(trajectory.ego.one(0), intrinsics, 4, 4)
    intrinsics = intrinsics * (4 / trajectory.ego.camera.width)
    pinhole_ray = torch.tensor(
        [(2 - intrinsics[0, 2]) / intrinsics[0, 0], (1 - intrinsics[1, 2]) / intrinsics[1, 1], 1.0],
        dtype=torch.float64,
    )
    rotated_ray = trajectory.ego.w2c[0, :, :3] @ (pinhole_ray / pinhole_ray.norm())
    torch.testing.assert_close(
        rays[0, 1, 2],
        torch.stack((-rotated_ray[1], rotated_ray[0], rotated_ray[2])),
        atol=1e-9,
        rtol=0,
    )
    trainer_geometry = guidance_of_clip(clip, "trainer")
    exact_geometry = gga_geometry(
        clip.take.depth,
        trajectory,
        "exact",
        frames=record.frames,
        exo_size=record.exo_size,
        ego_size=record.ego_size,
    )
    assert trainer_geometry.rays == "trainer" and torch.equal(
        trainer_geometry.key_dirs, exact_geometry.key_dirs
    )
    assert (
        not torch.allclose(trainer_geometry.query_dirs, exact_geometry.query_dirs)
        and FRAMES_PER_LATENT == 4
    )


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


@pytest.mark.slow
def test_vision_encoder_gives_the_embedding_of_comfyuis(comfy_host, standin_models):
    """Check that our vision encoder and ComfyUI's give the same embedding for a picture."""
    import comfy.clip_vision
    import comfy.utils
    from safetensors import safe_open

    from egox_train.wan.vision import VisionEncoder

    (vision_file,) = (standin_models / "clip_vision").iterdir()
    with safe_open(vision_file, "pt") as stream:
        configuration = json.loads(stream.metadata()["config"])
    vision = comfy.clip_vision.ClipVisionModel(configuration)
    vision.load_sd(comfy.utils.load_torch_file(str(vision_file)))
    picture = torch.rand(1, 64, 96, 3)
    with torch.no_grad():
        comfyui_embedding = vision.encode_image(picture)["penultimate_hidden_states"][0].float()
    egox_embedding = VisionEncoder(vision_file).encode(picture)
    # Resampling filters and half precision differ in the last digits of a byte.
    assert float((egox_embedding - comfyui_embedding).abs().mean()) < 5e-3 * float(
        comfyui_embedding.abs().max()
    )


def test_text_is_encoded_as_in_inference_or_in_training(tmp_path):
    """Check both ways to encode text: with masked padding as in inference, or unmasked as in
    training."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    model = transformers.UMT5EncoderModel(
        transformers.UMT5Config(
            vocab_size=9,
            d_model=24,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=3,
            feed_forward_proj="gated-gelu",
        )
    ).eval()
    model.save_pretrained(tmp_path / "text_encoder")
    word_tokenizer = Tokenizer(
        models.WordLevel(
            {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4, "&": 5}, unk_token="<unk>"
        )
    )
    word_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    word_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path / "tokenizer")
    prompt, long_prompt = "a &amp; b", "a " * 600
    released_encoder, trainer_encoder = (
        make_text_encoder(str(tmp_path), "cpu", how) for how in ("released", "trainer")
    )

    def encode_ids(ids: list[int], masked: bool) -> torch.Tensor:
        padded = torch.tensor([ids + [0] * (512 - len(ids))])
        with torch.no_grad():
            return model(
                padded, attention_mask=(padded != 0).long() if masked else None
            ).last_hidden_state[0]

    released_embedding = released_encoder.encode(prompt)
    torch.testing.assert_close(
        released_embedding[:4], encode_ids([3, 5, 4, 1], masked=True)[:4], atol=1e-5, rtol=0
    )
    assert released_embedding[4:].abs().sum() == 0
    torch.testing.assert_close(
        trainer_encoder.encode(prompt), encode_ids([3, 2, 4, 1], masked=False), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        released_encoder.encode(long_prompt),
        encode_ids([3] * 511 + [1], masked=True),
        atol=1e-5,
        rtol=0,
    )


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
