"""The first commands of docs/training.md, as they stand there, on the real raw take: from the
download to a video.

Models are stand-ins of random weights, masks are discs round the projected wearer: this proves the
way, not a picture."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import train_egox
from egox_core.cameras.model import camera_from_json, pixel_grid, project
from egox_core.trajectory.poses import camera_centre, transform
from egox_core.video.reader import probe_video
from egox_train.data.egoexo4d import read_egoexo4d
from egox_train.data.manifest import read_manifest
from tests.paths import ROOT

PAGE = ROOT / "docs" / "training.md"
FRAMES, SIZE, CLIPS = 5, (112, 64), 2
HEAD_M = 0.35  # radius of a disc: head and shoulders
SMALLER = {  # what is added to a command, so that it fits a test
    "undistort": ["--size", "112x64"],
    "prepare": [
        "--size",
        "112x64",
        "--frames",
        str(FRAMES),
        "--clips-per-camera",
        "1",
        "--cameras",
        str(CLIPS),
    ],
    "cache": ["--image-embedding", "none", "--dtype", "float32", "--device", "cpu"],
    "train": [
        word
        for setting in (
            "base=base.safetensors",
            "steps=10",
            "gradient_accumulation=1",
            "memory.base_dtype=float32",
            "memory.compute_dtype=float32",
            "memory.checkpoint_offload=false",
            "log.trackers=[]",
            "lora.rank=4",
            "lora.alpha=4",
        )
        for word in ("--set", setting)
    ],
    "export": [],
    "generate": [
        "--base",
        "base.safetensors",
        "--split",
        "train",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--dtype",
        "float32",
    ],
}


def documented_commands() -> list[list[str]]:
    """The words of each train_egox.py command in the page's first indented block."""
    block = re.search(r"(?m)(?:^    .*\n)+", PAGE.read_text(encoding="utf-8")).group()
    lines = block.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    return [
        words[words.index("train_egox.py") + 1 :] for words in commands if "train_egox.py" in words
    ]


def draw_masks(source: Path, videos: Path, out: Path) -> None:
    """For every video that undistort wrote a mask file: discs round the wearer's camera, where its
    pose is known."""
    out.mkdir()
    (take,) = read_egoexo4d(source, [])
    centres = camera_centre(take.ego_w2c)
    for view in take.exos:
        about = json.loads((videos / f"{take.name}__{view.name}.json").read_text(encoding="utf-8"))
        camera = camera_from_json(about["exo_camera"], "exo camera")
        seen = transform(view.w2c, centres)
        uv, _ = project(camera, seen)
        mask = torch.zeros(about["frames"], *camera.stored_size[::-1], dtype=torch.bool)
        grid = pixel_grid(camera, torch.float64)
        for frame, place, distance in zip(mask, uv, seen[:, 2], strict=False):
            frame |= (grid - place).norm(dim=-1) < HEAD_M * camera.fx / distance
        np.savez_compressed(out / f"{take.name}__{view.name}.npz", mask=mask.numpy())


@pytest.fixture
def workplace(tmp_path, tiny, depth_models, monkeypatch) -> Path:
    """A folder with the models under the names that the page gives them."""
    metric, _ = depth_models
    shutil.copytree(metric, tmp_path / "depth_anything_v2_metric")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(
        ROOT / "models" / "vae" / "egox_standin_wan_vae.safetensors",
        tmp_path / "wan_2.1_vae.safetensors",
    )
    save_file(
        {"embedding": torch.randn(4, 24, generator=torch.Generator().manual_seed(0))},
        tmp_path / "umt5_xxl_fp16.safetensors",
    )
    tiny.make_base(tmp_path / "base.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_the_download_to_a_video(shared_dir, workplace):
    source = shared_dir / "data" / "egoexo4d_raw"
    commands = documented_commands()
    assert [words[0] for words in commands] == list(SMALLER)
    for words in commands:
        words = [str(source) if word == "/data/egoexo4d" else word for word in words]
        if words[0] == "prepare":
            draw_masks(source, workplace / "data" / "exo", workplace / "data" / "masks")
        assert train_egox.main([*words, *SMALLER[words[0]]]) == 0, words
    records = read_manifest(workplace / "data" / "set" / "manifest.jsonl")
    assert len(records) == CLIPS and {r.depth for r in records} == {"model"}
    for record in records:
        content = np.load(workplace / "data" / "set" / record.folder / "depth.npz")
        with np.load(
            workplace / "data" / "masks" / f"{record.take}__{record.exo_camera}.npz"
        ) as masks:
            assert np.array_equal(
                content["dynamic"], masks["mask"][record.start : record.start + FRAMES]
            )
    videos = sorted((workplace / "out").glob("*.mp4"))
    assert [v.stem for v in videos] == sorted(r.clip for r in records)
    assert probe_video(videos[0]).frame_count == FRAMES
    assert (workplace / "egox_lora_native.safetensors").is_file()
    manifest = workplace / "data" / "set" / "manifest.jsonl"
    assert train_egox.main(["evaluate", str(manifest), "out", "OUT"]) == 0
