"""Follow the remedies that commands name, each literally, as typed."""

import contextlib
import io
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from egox_core.errors import EgoXInputError
from egox_core.safe_files import read_json, write_json
from egox_train.cli import facts, front, prior
from egox_train.data.ego_clip import EgoClip
from egox_train.data.manifest import in_splits
from egox_train.data.robot_clips import _require_hands
from egox_train.metrics.evaluate import _check_weights
from egox_train.metrics.protocols import TABLE1
from egox_train.options import EvaluateOptions
from egox_train.takes.head_files import choose_pose_file
from egox_train.video_writer import write_video
from egox_train.wan.weights import model_device
from tests.core.test_remedies import read_hands_of
from tests.paths import ROOT, STANDIN_VAE
from tests.remedies import OUT, Remedies, unfollowed
from tests.train.clip_record import clip_record
from tests.train.prepared_takes import TAKE, write_egoexo4d, write_synthetic

ROOM = ROOT / "sample" / "calm_room"


class CommandRefusedError(EgoXInputError):
    """Hold what a command wrote before it ended with another code than 0."""


def command(main, *words, **fixed):
    """Type a command with flags and settings, and return what it wrote."""

    def door(**given: Any) -> str:
        given = fixed | given
        given.pop("folder", None)
        arguments = [*words]
        facts_declared = given.pop("declared", {})
        for name, value in given.items():
            values = value if isinstance(value, list) else [value]
            if "." in name:
                values, name = [f"{name}={each}" for each in values], "--set"
            if not name.startswith("-"):
                arguments += map(str, values)
            elif isinstance(value, bool):
                arguments += [name] * value
            else:
                arguments += [name, *map(str, values)]
        for fact, value in facts_declared.items():
            arguments += ["--declare", f"{fact}={value}"]
        written = io.StringIO()
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
            try:
                code = main(arguments)
            except SystemExit as end:
                code = end.code
        if code:
            text = written.getvalue()
            raise CommandRefusedError("command", got="", expected="", fix=text)
        return written.getvalue()

    return door


@cache
def shared_folder() -> Path:
    """Write a cache and a base, which commands only read."""
    from tests.train.tiny_cache import make_base, make_cache

    folder = Path(mkdtemp())
    make_cache(folder / "cache")
    make_cache(folder / "narrow", text_dim=16)
    make_cache(folder / "plain")
    index: Any = read_json(folder / "plain" / "index.json")
    write_json(
        folder / "plain" / "index.json", index | {"settings": index["settings"] | {"views": False}}
    )
    make_base(folder / "base.safetensors")
    return folder


def train(**given):
    folder = given.pop("folder")
    base = shared_folder()
    settings = {
        "base": base / "base.safetensors",
        "cache": base / given.pop("cache", "cache"),
        "output": folder / "run",
        "steps": 1,
        "batch_size": 2,
        "lora.rank": 4,
        "lora.alpha": 4,
        "memory.base_dtype": "float32",
        "memory.compute_dtype": "float32",
        "validation.every": 0,
        "optimizer.warmup_steps": 0,
        "log.trackers": "[]",
    }
    overrides = [f"{name}={value}" for name, value in settings.items() if name not in given]
    flags = {name: value for name, value in given.items() if name.startswith("-")}
    overrides += [f"{name}={value}" for name, value in given.items() if name not in flags]
    words = [word for override in overrides for word in ("--set", override)]
    return command(front.main, "train", *words)(**flags)


def choose_file(folder, **flags):
    return choose_pose_file(folder, **{name.strip("-"): value for name, value in flags.items()})


def written(name: str, text: str):
    """Write a file into the test's folder, and give the folder."""

    def write(folder: Path) -> Path:
        (folder / name).write_text(text, "utf-8")
        return folder

    return write


def with_checkpoint(folder: Path) -> Path:
    checkpoint = folder / "run" / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "state.json").write_text("{}", "utf-8")
    return folder


@cache
def takes(_=None) -> Path:
    return write_synthetic(Path(mkdtemp()), 1)


@cache
def raw_takes(_=None) -> Path:
    cameras = {"cam01": (112, 64)}
    return write_egoexo4d(Path(mkdtemp()) / "raw", TAKE, frames=12, cameras=cameras)


def without_depth(folder: Path) -> Path:
    shutil.copytree(takes(), folder / "takes", dirs_exist_ok=True)
    (folder / "takes" / "synthetic_000" / "depth.npz").unlink()
    return folder / "takes"


def changed_take(folder: Path, video: Any = None, depth_count: int = 0) -> Path:
    """Copy a take, with another video or more depth maps."""
    take = folder / "take"
    if not take.is_dir():
        shutil.copytree(takes() / "synthetic_000", take)
        if video is not None:
            write_video(take / "exo.mp4", video, 20.0)
        if depth_count:
            np.savez(take / "depth.npz", depth_m=np.ones((depth_count, 32, 64), np.float32))
    return take


def with_cut(folder: Path) -> Path:
    pictures = torch.randint(0, 255, (2, 1, 32, 64, 3), dtype=torch.uint8)
    shots = [
        picture.expand(count, -1, -1, -1) for picture, count in zip(pictures, (2, 3), strict=True)
    ]
    return changed_take(folder, torch.cat(shots))


def with_long_depth(folder: Path) -> Path:
    return changed_take(folder, depth_count=8)


def without_poses(folder: Path) -> Path:
    """Copy a take whose wearer's poses lie in a file of their own."""
    take = folder / "takes" / "take"
    if not take.is_dir():
        shutil.copytree(takes() / "synthetic_000", take)
        meta: Any = read_json(take / "meta.json")
        w2c = meta.pop("ego_extrinsics")
        times_s = [number / 20 for number in range(len(w2c))]
        fields = {"camera": meta["ego_camera"], "times_s": times_s, "w2c": w2c}
        write_json(take / "path.json", {"format": "egox_trajectory", "version": 1, **fields})
        write_json(take / "meta.json", meta)
    return folder / "takes"


def prepare(source=None, **given):
    words = "--size 64x32 --frames 5 --stride 5 --device cpu --validation 0 --test 0"
    given = {"--dry-run": True} | given
    source = source or takes()
    return command(front.main, "prepare", str(source), mkdtemp(), *words.split())(**given)


def generate(out, **flags):
    base = shared_folder()
    words = "--steps 1 --clips 1 --split train --device cpu --dtype float32"
    files = ["--base", str(base / "base.safetensors"), "--vae", str(STANDIN_VAE)]
    door = command(front.main, "generate", str(base / "cache"), str(out), *files, *words.split())
    return door(**flags)


def row(site, door, given, changes, later=""):
    return pytest.param(Remedies(site, door, given, changes, later), id=site)


ROWS = [
    row(
        "egox_train/train/launch.py:check_launch",
        train,
        {
            "folder": Path,
            "--dry-run": True,
            "memory.compile": "true",
            "memory.checkpoint_offload": "true",
        },
        {"set memory.compile=false": {"memory.compile": "false"}},
    ),
    row(
        "egox_train/train/launch.py:check_launch",
        train,
        {"folder": Path, "--dry-run": True, "memory.block_offload": "true", "task": "base_i2v"},
        {"leave memory.block_offload out": {"memory.block_offload": OUT}},
    ),
    row(
        "egox_train/train/model.py:make_trainable",
        train,
        {
            "folder": Path,
            "task": "base_i2v",
            "memory.base_dtype": "bfloat16",
            "memory.compute_dtype": "bfloat16",
        },
        {"set memory.base_dtype=float32": {"memory.base_dtype": "float32"}},
    ),
    row(
        "egox_train/train/number_types.py:settle_types",
        train,
        {"folder": Path, "--dry-run": True, "memory.base_dtype": "bfloat16"},
        {
            "set memory.base_dtype=auto": {"memory.base_dtype": "auto"},
            "memory.compute_dtype=auto": {"memory.compute_dtype": "auto"},
        },
    ),
    row(
        "egox_train/train/offload.py:offload_blocks",
        train,
        {
            "folder": Path,
            "memory.block_offload": "true",
            "memory.gradient_checkpointing": "false",
        },
        {"set memory.gradient_checkpointing=true": {"memory.gradient_checkpointing": "true"}},
    ),
    row(
        "egox_train/train/offload.py:offload_checkpoints",
        train,
        {
            "folder": Path,
            "memory.checkpoint_offload": "true",
            "memory.gradient_checkpointing": "false",
        },
        {"set memory.gradient_checkpointing=true": {"memory.gradient_checkpointing": "true"}},
    ),
    row(
        "egox_train/train/samples.py:CachedSamples._check_settings",
        train,
        {"folder": Path, "--dry-run": True, "conditioning.rays": "exact"},
        {"train with conditioning.rays='released'": {"conditioning.rays": "'released'"}},
    ),
    row(
        "egox_train/train/validation.py:check_validation",
        train,
        {
            "folder": Path,
            "--dry-run": True,
            "validation.every": 1,
            "validation.sample_steps": 2,
        },
        {
            "set validation.vae": {"validation.vae": STANDIN_VAE},
            "set validation.sample_steps=0": {"validation.sample_steps": 0},
        },
    ),
    row(
        "egox_train/data/cache_store.py:CacheReader.empty_caption",
        train,
        {"folder": Path, "conditioning.caption_dropout": 0.5},
        {"set conditioning.caption_dropout=0": {"conditioning.caption_dropout": 0}},
    ),
    row(
        "egox_train/train/lora.py:add_lora",
        train,
        {"folder": Path, "lora.targets": "[attn1,attn2_image]"},
        {
            "leave attn2.add_k_proj, attn2.add_v_proj out of lora.targets": {
                "lora.targets": "[attn1]"
            }
        },
    ),
    row(
        "egox_train/train/model.py:_muon",
        train,
        {"folder": Path, "task": "base_i2v", "optimizer.name": "muon"},
        {"set optimizer.name=adamw": {"optimizer.name": "adamw"}},
    ),
    row(
        "egox_train/takes/head_files.py:choose_pose_file",
        choose_file,
        {"folder": written("head_trajectory.json", "{}")},
        {"add --replace to overwrite it": {"--replace": True}},
    ),
    row(
        "egox_train/takes/head_files.py:choose_pose_file",
        choose_file,
        {"folder": written("meta.json", "{}"), "--meta": True},
        {"add --replace to replace only": {"--replace": True}},
    ),
    row(
        "egox_train/takes/head_files.py:choose_pose_file",
        choose_file,
        {"folder": written("meta.json", "[]"), "--meta": True, "--replace": True},
        {"leave --meta out": {"--meta": OUT}},
    ),
    row(
        "egox_train/cli/train.py:_train",
        train,
        {"folder": with_checkpoint, "--dry-run": True, "--fresh": True},
        {"leave --fresh out": {"--fresh": OUT}},
    ),
    row(
        "egox_train/train/config.py:parse_config",
        train,
        {"folder": Path, "--dry-run": True, "steps": "many"},
        {"train --print-defaults": {"--print-defaults": True}},
    ),
    row(
        "egox_train/train/loop.py:memory_lines",
        train,
        {"folder": Path, "--dry-run": True, "cache": "narrow"},
        {"make the cache with the text encoder of this base": {"cache": "cache"}},
    ),
    row(
        "egox_train/data/prepare_options.py:PrepareOptions.__post_init__",
        prepare,
        {"--depth": "model"},
        {"--depth files": {"--depth": "files"}, "or plane": {"--depth": "plane"}},
    ),
    row(
        "egox_train/data/prepare_options.py:PrepareOptions.__post_init__",
        prepare,
        {"--depth": "files", "--depth-model": ROOM},
        {"leave --depth-model out": {"--depth-model": OUT}},
    ),
    row(
        "egox_train/data/prepare_options.py:PrepareOptions.__post_init__",
        prepare,
        {"--mask-root": ROOM, "--mask-model": ROOM},
        {"leave --mask-root out": {"--mask-root": OUT}},
        later="mask model",
    ),
    row(
        "egox_train/data/prepare_options.py:PrepareOptions.__post_init__",
        prepare,
        {"--depth": "plane", "--exo-motion": "moves"},
        {"leave --exo-motion out": {"--exo-motion": OUT}},
    ),
    row(
        "egox_train/data/planned_run.py:_check_depth_source",
        prepare,
        {"source": raw_takes},
        {"--depth plane": {"--depth": "plane"}},
    ),
    row(
        "egox_train/data/sources.py:list_takes",
        prepare,
        {"source": raw_takes, "--depth": "plane", "--ego-path": ROOM / "meta.json"},
        {"leave --ego-path out": {"--ego-path": OUT}},
    ),
    row(
        "egox_train/data/sources.py:_released_takes",
        prepare,
        {"--layout": "released"},
        {"choose --layout take": {"--layout": "take"}},
    ),
    row(
        "egox_train/data/clip_writer.py:clips_without_depth",
        prepare,
        {"source": without_depth, "--dry-run": False},
        {"--depth plane": {"--depth": "plane"}},
    ),
    row(
        "egox_train/metrics/evaluate.py:_check_weights",
        lambda **flags: _check_weights(
            EvaluateOptions(weights={name[2:]: ROOM for name in flags}, protocol="table1"),
            TABLE1,
        ),
        {"--fvd-videomae": ROOM},
        {"leave --fvd-videomae out": {"--fvd-videomae": OUT}},
    ),
    row(
        "egox_train/metrics/track_masks.py:track_masks",
        command(front.main, "masks", str(ROOM), str(ROOM), "--model", str(ROOM)),
        {"out": Path, "--first": ROOM, "--protocol": "table1"},
        {"leave --first out": {"--first": OUT}, "leave --protocol out": {"--protocol": OUT}},
        later="got",
    ),
    row(
        "egox_train/data/manifest.py:in_splits",
        lambda folder, **flags: in_splits(
            [clip_record("a")], folder / "manifest.jsonl", flags.get("--split", "")
        ),
        {"folder": Path, "--split": "test"},
        {"leave --split out": {"--split": OUT}},
    ),
    row(
        "egox_train/data/robot_clips.py:_require_hands",
        lambda folder, **flags: _require_hands(
            EgoClip(name="a", folder=folder, ego_video=folder),
            read_hands_of(folder, reason=[[1, 1], [0, 0], [0, 0]]),
            flags["--min-hand-share"],
        ),
        {"folder": Path, "--min-hand-share": 0.8},
        {"lower --min-hand-share": {"--min-hand-share": 0.5}},
    ),
    row(
        "egox_train/calibrate/recording.py:calibrate",
        command(front.main, "calibrate", str(ROOM)),
        {"out": Path, "declared": {"ego.unit": "cm"}},
        {"give --path": {"--path": ROOM / "meta.json"}},
        later="ego.mp4 of the head camera",
    ),
    row(
        "egox_train/wan/weights.py:model_device",
        lambda **flags: model_device(flags["--device"]),
        {"--device": "cuda:99"},
        {"give --device cpu": {"--device": "cpu"}},
    ),
    row(
        "egox_train/train/generate.py:generate",
        generate,
        {"out": Path, "--straighten": "picture"},
        {"leave --straighten out": {"--straighten": OUT}},
    ),
    row(
        "egox_train/train/generate.py:_check_encoder",
        generate,
        {"out": Path, "--cfg": 3},
        {"give --text": {"--text": "zeros:4x24"}, "leave --cfg at 1": {"--cfg": 1}},
    ),
    row(
        "egox_train/cli/advice.py",
        command(prior.main, "--frames", "5", "--size", "32"),
        {"--take": with_cut, "--out": Path},
        {"give --one-shot": {"--one-shot": True}},
    ),
    row(
        "egox_train/cli/advice.py",
        command(facts.main),
        {"take": with_long_depth},
        {"give --file-frames 'source'": {"--file-frames": "source"}},
    ),
    row(
        "egox_train/data/sources.py:_from_meta",
        prepare,
        {"source": without_poses, "--dry-run": False},
        {"as --ego-path": {"--ego-path": "path.json"}},
    ),
    row(
        "egox_train/data/dry_run.py:estimate_preparation",
        prepare,
        {"source": without_depth},
        {"start without --dry-run": {"--dry-run": False}},
        later="no depth file",
    ),
    row(
        "egox_train/train/samples.py:CachedSamples._check_settings",
        train,
        {"folder": Path, "--dry-run": True, "task": "base_i2v", "cache": "plain"},
        {"make the cache with --views": {"cache": "cache"}},
    ),
]
HELP = "what a command's help says of a flag"
REPORT = "says in a report which weights a column needs"
LENGTH = "the flag of the very measure, for a video too small or short for it"
RAY = "needs a Ray cluster"
ELSEWHERE = {
    "egox_train/calibrate/fixed_camera.py:solve_exo": "a doubt: the offset is the user's to know",
    "egox_train/calibrate/fixed_camera.py:_other_clock": "a doubt: which offset is right is the "
    "user's to know",
    "egox_train/calibrate/fixed_camera.py:_solve_by_head": "tests/train/calibrate/test_recording.py"
    "::test_calibration_without_pycolmap_uses_the_wearers_head",
    "egox_train/cli/evaluate.py:run_evaluate": "tests/train/metrics/test_evaluate.py"
    "::test_splits_parts_and_dry_runs_are_evaluated",
    "egox_train/cli/advice.py": "flags for what the core says, of which rows above follow some",
    "egox_train/cli/front.py": HELP,
    "egox_train/cli/launch.py:check_launcher": "an example for any launcher",
    "egox_train/cli/prior.py:size_note": "says what a flag did",
    "egox_train/data/cache_build.py:_common_hidden_lines": "tests/train/data/test_cache.py"
    "::test_only_changed_settings_make_clips_again",
    "egox_train/data/captions.py:_generate_answer": "needs another model, or captions",
    "egox_train/data/captions.py:_checked_answer": "needs another model, or captions",
    "egox_train/data/captions.py:load_caption_model": "needs another model, or captions",
    "egox_train/data/egoexo4d.py": "says what isn't known of a take",
    "egox_train/data/ground_plane.py:plane_depth": "names what was asked for",
    "egox_train/data/listed_takes.py:find_listed_takes": "counts what a list and flags ask for",
    "egox_train/data/manifest.py:read_manifest": "tests/train/data/test_prepare_sums.py"
    "::test_joined_parts_equal_the_set_of_one_run",
    "egox_train/data/mask_model.py:load_mask_model": "tests/train/data/test_masks.py"
    "::test_mask_models_find_moving_pixels",
    "egox_train/data/mask_model.py:_model_class": "needs another model, or masks",
    "egox_train/data/object_masks.py:read_masks": "tests/train/metrics/test_table1.py"
    "::test_masks_command_and_evaluate_give_object_metrics",
    "egox_train/data/prepare.py:_renew_lenses": "tests/train/data/test_prepare.py"
    "::test_set_with_another_ego_lens_is_continued_only_on_request",
    "egox_train/data/set_files.py:join_parts": "tests/train/data/test_prepare_sums.py"
    "::test_joined_parts_equal_the_set_of_one_run",
    "egox_train/data/set_files.py:write_set_files": "tests/train/data/test_clip_lists.py"
    "::test_priors_that_cover_too_little_are_left_out",
    "egox_train/metrics/clip_inputs.py:clip_files": "tells to edit the manifest",
    "egox_train/metrics/columns.py": REPORT,
    "egox_train/metrics/evaluate.py:_check_folders": "tests/train/metrics/test_evaluate.py"
    "::test_report_compares_methods_seeds_and_groups",
    "egox_train/metrics/fvd.py:_check_length": LENGTH,
    "egox_train/metrics/perceptual.py:Lpips.__call__": LENGTH,
    "egox_train/metrics/table1.py:object_metrics": "tests/train/metrics/test_table1.py"
    "::test_masks_command_and_evaluate_give_object_metrics",
    "egox_train/metrics/temporal.py:motion_smoothness": LENGTH,
    "egox_train/metrics/temporal.py:_amt_module": "installs a package",
    "egox_train/metrics/temporal.py:RaftFlow.__call__": LENGTH,
    "egox_train/metrics/track_masks.py:_write_masks": "tests/train/metrics/test_track_masks.py"
    "::test_both_videos_are_tracked_from_one_first_mask",
    "egox_train/options.py": HELP,
    "egox_train/parallel/cluster.py:ray_cluster": RAY,
    "egox_train/parallel/cluster.py:_check_memory": RAY,
    "egox_train/takes/head_files.py:find_clicked_points": "names what was asked for",
    "egox_train/train/compiled.py:compile_blocks": "needs a machine without a compiler",
    "egox_train/train/config.py:_read_yaml": "met by a caller in Python: a command says which file "
    "isn't there",
    "egox_train/train/generate.py:merge_conditioning": "needs a LoRA of other rays",
    "egox_train/train/memory.py:fitting_switches": "needs a card, or more memory than there is",
    "egox_train/train/sampling.py:sample_ego": "met by a caller in Python alone",
    "egox_train/wan/weights.py:open_model_folder": "installs a package",
}
"""Places in the code that another test follows, or that no test can follow, with the reason."""


@pytest.mark.parametrize("remedies", ROWS)
def test_a_remedy_of_a_command_is_followed(remedies, tmp_path):
    remedies.follow(tmp_path)


def test_every_remedy_that_a_command_names_is_followed():
    assert not unfollowed("egox_train", ROWS, ELSEWHERE)
