"""``cache`` is tested by its content, by the changes that it notices, and by kills. Its encoders
are compared with the host's."""

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
from egox_train.data.clip_tensors import clip_geometry
from egox_train.data.manifest import read_manifest, write_manifest
from egox_train.options import CacheSettings, RunOptions
from egox_train.train.samples import CachedSamples
from egox_train.wan.text import make_text_encoder
from egox_train.wan.vae import VaeEncoder
from tests.full_disk import files_up_to
from tests.paths import ROOT, contents
from tests.refusals import refuses
from tests.train.held_item import another_is_at
from train_egox import main

VAE = ROOT / "models" / "vae" / "egox_standin_wan_vae.safetensors"


USUAL = {"text": "zeros:2x24", "image_embedding": "none", "dtype": "float32", "shard_clips": 2}


def settings(**more) -> CacheSettings:
    return CacheSettings(**{"vae": VAE, **USUAL, **more})


def call(manifest: Path, out: Path, *more: str) -> int:
    """Run the command with the usual settings."""
    words = [w for k, v in USUAL.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    return main(["cache", str(manifest), str(out), "--vae", str(VAE), *words, *more])


@pytest.fixture(scope="module")
def whole(training_set, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    outcome = build_cache(training_set / "manifest.jsonl", folder, settings(views=True))
    assert (outcome.clips, outcome.new, outcome.kept) == (4, 4, 0)
    return folder


def test_a_clip_holds_what_training_needs(training_set, whole):
    reader = CacheReader(whole)
    record = read_manifest(training_set / "manifest.jsonl")[0]
    clip = read_clip(training_set, record)
    have = reader.tensors(
        record.clip,
        "exo ego prior grey text query_dirs key_dirs key_trust grid exo_first ego_first".split(),
    )
    assert have["exo"].shape == (16, 2, 4, 8)
    assert have["ego"].shape == have["prior"].shape == (16, 2, 4, 4)
    vae = VaeEncoder(VAE)
    torch.testing.assert_close(have["ego"], vae.encode(clip.ego))
    torch.testing.assert_close(
        have["ego_first"][:, :1], have["ego"][:, :1]
    )  # the VAE is causal: one first frame
    geometry = clip_geometry(clip, "released")
    assert (
        torch.equal(have["key_dirs"], geometry.key_dirs)
        and tuple(have["grid"].tolist()) == geometry.grid
    )
    directions = sum(have[k].numel() for k in ("query_dirs", "key_dirs", "key_trust"))
    assert (
        directions < 8 * geometry.tokens * geometry.grid[0]
    )  # linear in tokens a frame, never L x L
    splits = {e.clip: e.split for e in reader.index.entries}
    listed = (training_set / "splits" / "validation.txt").read_text("utf-8").split()
    assert sorted(c for c, s in splits.items() if s == "validation") == sorted(listed)


def test_the_same_again_makes_nothing_and_a_change_is_noticed(training_set, tmp_path):
    manifest = training_set / "manifest.jsonl"
    build_cache(manifest, tmp_path, settings())
    again = build_cache(manifest, tmp_path, settings())
    assert (again.new, again.kept, again.remade_because) == (0, 4, "")
    records = read_manifest(manifest)
    left_out = [record.model_copy(update={"hidden_lines": "leave out"}) for record in records]
    mixed = training_set / "mixed.jsonl"
    write_manifest(mixed, left_out[:1] + records[1:])
    with refuses("one --hidden-lines"):
        build_cache(mixed, tmp_path, settings())
    write_manifest(mixed, left_out)
    build_cache(mixed, tmp_path, settings())
    mixed.unlink()  # other tests compare the set
    assert CacheReader(tmp_path).index.settings["hidden_lines"] == "leave out"
    other = build_cache(manifest, tmp_path, settings(rays="exact"))
    assert (other.new, other.remade_because) == (4, "hidden_lines, rays")
    vae = {k: v.clone() for k, v in load_file(VAE).items()}
    vae["conv1.bias"][0] += 1
    save_file(vae, tmp_path.parent / "other_vae.safetensors")
    last = settings(rays="exact", vae=tmp_path.parent / "other_vae.safetensors")
    changed = build_cache(manifest, tmp_path, last)
    assert (changed.new, changed.remade_because) == (4, "vae")
    shard = tmp_path / shard_name("synthetic_001")
    shard.write_bytes(shard.read_bytes()[:100])
    with refuses(shard.name):
        CacheReader(tmp_path)
    assert build_cache(manifest, tmp_path, last).new == 1


def test_two_parts_equal_one_run(training_set, tmp_path):
    manifest, more = training_set / "manifest.jsonl", settings(shard_clips=1)
    build_cache(manifest, tmp_path / "whole", more)
    first = build_cache(manifest, tmp_path / "parts", more, RunOptions(part=(0, 2)))
    assert (first.clips, first.new, first.missing) == (4, 2, 2)
    with refuses("finished cache"):
        CacheReader(tmp_path / "parts")
    one = (manifest, tmp_path / "parts", "--shard-clips", "1", "--shard")
    assert call(*one, "1/2") == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert call(*one, "2/2") == 2 == call(*one[:-1], "--device", "cpu,nowhere")
    with pytest.raises(SystemExit):
        call(*one, "half")


def test_a_shard_that_another_process_is_at_is_made_last(training_set, whole, tmp_path):
    left = tmp_path / f".{shard_name('synthetic_001')[:-12]}.0123abcd.safetensors"
    left.touch()  # of a killed run
    with another_is_at(tmp_path / shard_name("synthetic_000"), 3) as progress:
        build_cache(
            training_set / "manifest.jsonl", tmp_path, settings(views=True), progress=progress
        )
    assert not left.exists()
    assert CacheReader(tmp_path).index == CacheReader(whole).index


def test_texts_that_ftfy_cleaned_are_other_texts(training_set, tmp_path, monkeypatch):
    manifest = training_set / "manifest.jsonl"
    for module, new, because in (
        (None, 4, ""),
        (SimpleNamespace(fix_text=str), 4, "text_cleaning"),
        (None, 4, "text_cleaning"),
        (None, 0, ""),
    ):
        monkeypatch.setitem(sys.modules, "ftfy", module)
        outcome = build_cache(manifest, tmp_path, settings())
        assert (outcome.new, outcome.remade_because) == (new, because)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"vae": VAE.with_name("none.safetensors")}, "VAE"),
        ({"text": "zeros:2"}, "zeros:"),
        ({"image_embedding": "released"}, "clip-vision"),
        ({"vae": ROOT / "models" / "loras" / "egox_standin_lora_wan22.safetensors"}, "Wan 2.1 VAE"),
    ],
)
def test_bad_models_are_refused(training_set, tmp_path, bad, match):
    with refuses(match):
        build_cache(training_set / "manifest.jsonl", tmp_path, settings(**bad))


def records_of(training_set: Path, takes: int, clips: int) -> list[dict]:
    """Build the lines of a manifest, in which each take has its own clip under several names."""
    lines = [
        json.loads(line)
        for line in (training_set / "manifest.jsonl").read_text("utf-8").splitlines()
    ]
    return [
        {**line, "clip": f"{line['clip']}_{number}"}
        for line in lines[:takes]
        for number in range(clips)
    ]


def written(file: Path, records: list[dict]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return file


def test_a_clip_that_goes_touches_its_own_take_alone(training_set, tmp_path, monkeypatch, capsys):
    """Four takes of four clips, two shards each."""
    monkeypatch.setattr(
        "egox_train.data.cache_build.clip_tensors", lambda clip, settings: {"text": torch.zeros(1)}
    )
    root, out = tmp_path / "set", tmp_path / "cache"
    shutil.copytree(training_set, root)
    records = records_of(training_set, 4, 4)
    build_cache(written(root / "manifest.jsonl", records), out, settings())
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("shard-*")}
    assert len(before) == 8
    written(root / "manifest.jsonl", records[1:])
    assert call(root / "manifest.jsonl", out) == 0
    output = capsys.readouterr().out
    assert (
        f"made anew because of changes in: the clips of 1 takes, first {records[0]['take']}"
        in output
    )
    assert "15 clips; 2 shards made, 6 kept" in output
    take_shards = {shard_name(records[0]["take"], number) for number in range(2)}
    assert {n for n, time in before.items() if (out / n).stat().st_mtime_ns != time} == take_shards
    added = [{**records[0], "clip": "early", "take": "aaa"}, *records[1:]]
    more = build_cache(written(root / "manifest.jsonl", added), out, settings())
    assert (more.clips, more.new, more.kept, more.remade_because) == (16, 1, 8, "")
    assert len(CacheReader(out).index.entries) == 16


def test_a_clip_that_cannot_be_read_is_left_out_by_name_until_it_can(
    training_set, tmp_path, capsys
):
    root, out = tmp_path / "set", tmp_path / "cache"
    shutil.copytree(training_set, root)
    victim = sorted((root / "clips").iterdir())[1] / "ego_prior.mp4"
    content = victim.read_bytes()
    victim.write_bytes(content[:300])
    manifest = root / "manifest.jsonl"
    assert call(manifest, out) == 0
    output = capsys.readouterr().out
    assert (
        f"left out: {victim.parent.name}: " in output
        and "ego_prior.mp4" in output
        and "3 clips; 4 shards" in output
    )
    assert victim.parent.name not in {e.clip for e in CacheReader(out).index.entries}
    again = build_cache(manifest, out, settings())
    assert (again.clips, again.new, [clip for clip, _ in again.left_out]) == (
        3,
        0,
        [victim.parent.name],
    )
    victim.write_bytes(content)
    mended = build_cache(manifest, out, settings())
    assert (mended.clips, mended.new, mended.left_out) == (4, 1, ())
    (out / "index.json").write_text("[]", "utf-8")
    again = build_cache(manifest, out, settings())
    assert (again.new, again.remade_because) == (0, "index.json, which is damaged")
    assert len(CacheReader(out).index.entries) == 4
    for clip in (root / "clips").iterdir():
        (clip / "ego_prior.mp4").write_bytes(b"")
    with refuses("no clip that can be read"):
        build_cache(manifest, tmp_path / "none", settings())


def test_trainer_rays_follow_the_released_trainers_formula(training_set):
    """Pinhole rays of K are turned by R (not its inverse), (x, y) to (-y, x), and checked by hand
    for one latent."""
    record = read_manifest(training_set / "manifest.jsonl")[0]
    clip = read_clip(training_set, record)
    trajectory, k = clip.take.trajectory, clip.take.notes.meta_intrinsics
    rays = trainer_rays(trajectory.ego.one(0), k, 4, 4)
    k = k * (4 / trajectory.ego.camera.width)
    plain = torch.tensor(
        [(2 - k[0, 2]) / k[0, 0], (1 - k[1, 2]) / k[1, 1], 1.0], dtype=torch.float64
    )
    turned = trajectory.ego.w2c[0, :, :3] @ (plain / plain.norm())
    torch.testing.assert_close(
        rays[0, 1, 2], torch.stack((-turned[1], turned[0], turned[2])), atol=1e-9, rtol=0
    )
    ours = clip_geometry(clip, "trainer")
    theirs = gga_geometry(
        clip.take.depth,
        trajectory,
        "exact",
        frames=record.frames,
        exo_size=record.exo_size,
        ego_size=record.ego_size,
    )
    assert ours.rays == "trainer" and torch.equal(ours.key_dirs, theirs.key_dirs)
    assert not torch.allclose(ours.query_dirs, theirs.query_dirs) and FRAMES_PER_LATENT == 4


def test_the_vae_equals_the_hosts(comfy_host):
    """The same file, the same latents and pictures as the host's VAE class gives."""
    from comfy.ldm.wan.vae import WanVAE

    frames, weights = torch.rand(9, 32, 48, 3), load_file(VAE)
    theirs = WanVAE(
        dim=weights["decoder.head.0.gamma"].shape[0],
        z_dim=16,
        num_res_blocks=2,
        temperal_downsample=[False, True, True],
    )
    theirs.load_state_dict({k: v.float() for k, v in weights.items()})
    ours = VaeEncoder(VAE)
    from egox_core.wan.latents import denormalise_latent

    with torch.no_grad():
        expected = theirs.encode((frames * 2 - 1).movedim(-1, 0)[None])
        latent = ours.encode(frames)
        torch.testing.assert_close(denormalise_latent(latent[None]), expected, atol=1e-5, rtol=1e-5)
        picture = ((theirs.decode(expected)[0].movedim(0, -1) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(ours.decode(latent), picture, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_vision_encoder_equals_the_hosts(comfy_host, standins):
    """ComfyUI's single file (a stand-in of its form) through transformers, against the host's own
    class."""
    import comfy.clip_vision
    import comfy.utils
    from safetensors import safe_open

    from egox_train.wan.vision import VisionEncoder

    (vision_file,) = (standins / "clip_vision").iterdir()
    with safe_open(vision_file, "pt") as stream:
        configuration = json.loads(stream.metadata()["config"])
    vision = comfy.clip_vision.ClipVisionModel(configuration)
    vision.load_sd(comfy.utils.load_torch_file(str(vision_file)))
    picture = torch.rand(1, 64, 96, 3)
    with torch.no_grad():
        host_states = vision.encode_image(picture)["penultimate_hidden_states"][0].float()
    our_states = VisionEncoder(vision_file).encode(picture)
    # Resampling filters and half precision differ in the last digits of a byte.
    assert float((our_states - host_states).abs().mean()) < 5e-3 * float(host_states.abs().max())


def test_text_is_encoded_as_inference_or_as_the_released_trainer_does(tmp_path):
    """Quirks 38: text is masked and trimmed, then padded with zeros, or it is 512 padded ids
    without a mask, with the values of the padding kept."""
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
    inner = Tokenizer(
        models.WordLevel(
            {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4, "&": 5}, unk_token="<unk>"
        )
    )
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path / "tokenizer")
    prompt, long = "a &amp; b", "a " * 600
    released, trainer = (
        make_text_encoder(str(tmp_path), "cpu", how) for how in ("released", "trainer")
    )

    def encoded(ids: list[int], masked: bool) -> torch.Tensor:
        padded = torch.tensor([ids + [0] * (512 - len(ids))])
        with torch.no_grad():
            return model(
                padded, attention_mask=(padded != 0).long() if masked else None
            ).last_hidden_state[0]

    ours = released.encode(prompt)
    torch.testing.assert_close(ours[:4], encoded([3, 5, 4, 1], masked=True)[:4], atol=1e-5, rtol=0)
    assert ours[4:].abs().sum() == 0
    torch.testing.assert_close(
        trainer.encode(prompt), encoded([3, 2, 4, 1], masked=False), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        released.encode(long), encoded([3] * 511 + [1], masked=True), atol=1e-5, rtol=0
    )


def test_a_cache_of_the_other_text_encoding_is_refused(training_set, tiny, tmp_path):
    """Unless its text is zeros, which no encoding changes."""
    text = tmp_path / "text.safetensors"
    save_file({"embedding": torch.randn(2, 24)}, text)
    for source in (str(text), USUAL["text"]):
        other = settings(text=source, text_encoding="trainer")
        build_cache(training_set / "manifest.jsonl", tmp_path / "cache", other)
        alike, unlike = (
            tiny.config(tmp_path, conditioning={"text_encoding": encoding})
            for encoding in ("trainer", "released")
        )
        assert CachedSamples(alike, "train").groups
        with refuses("text_encoding") if source == str(text) else nullcontext():
            CachedSamples(unlike, "train")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit of POSIX")
def test_a_full_disk_is_named_and_keeps_what_is_done(training_set, whole, tmp_path):
    def build():
        return build_cache(training_set / "manifest.jsonl", tmp_path, settings(views=True))

    build()
    (tmp_path / shard_name("synthetic_001")).unlink()
    before = contents(tmp_path)
    with files_up_to(4000), refuses("room on the disk") as error:
        build()
    assert shard_name("synthetic_001") in str(error.value) and "are kept" in str(error.value)
    assert contents(tmp_path) == before  # no half shard, no temporary file
    assert build().new == 1
    assert contents(tmp_path) == contents(whole)
