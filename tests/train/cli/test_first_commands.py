"""Run the commands of three documentation pages on small data.

Every option of the pages is given. What is added makes pictures, models and grids of points
smaller. Models are stand-ins of random weights, masks are noise: this proves the way, not a
picture."""

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import train_egox
from egox_core.file_names import META, TRUTH
from egox_core.safe_files import read_json, write_json
from egox_core.video import probe_video
from egox_train.data.manifest import read_manifest
from egox_train.train.export import inspect
from egox_train.video_writer import write_video
from tests.paths import ROOT
from tools.convert_to_safetensors import convert
from tools.rigs.standin_shapes import vae_shapes
from tools.rigs.standins import SEED, draw_tensors
from tools.setup.base_dir import link_folder

FRAMES, SIZE, CLIPS = 5, (112, 64), 2
# What is added to a command, so that it fits a test.
SMALL_RUN_OPTIONS = {
    "undistort": "--size 112x64",
    "prepare": f"--size 112x64 --frames {FRAMES} --clips-per-camera 1 --cameras {CLIPS}",
    "cache": "--image-embedding none --dtype float32 --device cpu",
    "train": "--set base=base.safetensors --set steps=10 --set gradient_accumulation=1 "
    "--set memory.base_dtype=float32 --set memory.compute_dtype=float32 --set lora.rank=4 "
    "--set memory.checkpoint_offload=false --set log.trackers=[] --set lora.alpha=4",
    "export": "",
    "generate": "--base base.safetensors --steps 2 --device cpu --dtype float32",
}


def documented_commands(page: str, number: int = 0) -> list[list[str]]:
    """Read the train_egox.py commands in a documentation page."""
    page_text = (ROOT / "docs" / page).read_text("utf-8")
    code_block = re.findall(r"(?m)(?:^    .*\n)+", page_text)[number].replace("\\\n", " ")
    for loop in re.finditer(r"for (\w+) in (.*?); do (.*?); done", code_block):
        lines = [loop[3].replace(f"${loop[1]}", value) for value in loop[2].split()]
        code_block = code_block.replace(loop[0], "\n".join(lines))
    commands = [shlex.split(line, comments=True) for line in code_block.splitlines()]
    return [
        command_words[command_words.index("train_egox.py") + 1 :]
        for command_words in commands
        if "train_egox.py" in command_words
    ]


def run_page(
    page: str, source: Path, options_by_command: Mapping[str, str], number: int = 0
) -> None:
    """Run the train_egox.py commands of a documentation page with additional options."""
    for command_words in documented_commands(page, number):
        command_words = [
            str(source) if word == "/data/egoexo4d" else word for word in command_words
        ]
        if command_words[0] == "prepare" and "--mask-root" in command_words:
            write_masks(Path("data/exo"), Path("data/masks"))
        assert (
            train_egox.main([*command_words, *options_by_command[command_words[0]].split()]) == 0
        ), command_words


def write_masks(videos: Path, out: Path) -> None:
    """Write a mask file of random pixels for every undistorted video."""
    out.mkdir()
    for video in videos.glob("*.mp4"):
        video_info = probe_video(video)
        mask_shape = video_info.frame_count, video_info.height, video_info.width
        mask = np.random.default_rng(0).random(mask_shape) < 0.1
        np.savez_compressed(out / f"{video.stem}.npz", mask=mask)


@pytest.mark.slow
def test_training_page_begins_with_a_chain_on_what_ships(tmp_path, monkeypatch):
    for name in ("sample", "models", "configs"):
        link_folder(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    commands = documented_commands("training.md")
    assert [words[0] for words in commands] == ["prepare", "cache", "train", "generate", "evaluate"]
    for command_words in commands:
        assert train_egox.main(command_words) == 0, command_words
    assert read_json(tmp_path / "out" / "sample_report" / "report.json")["clips"] == 2


def test_evaluation_page_begins_with_the_end_of_that_chain():
    page_text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    first_command = re.findall("(?m)^python train_egox.py (.*)", page_text)[0]
    assert shlex.split(first_command, comments=True) == documented_commands("training.md")[-1]


@pytest.fixture
def training_folder(tmp_path, tiny_training, depth_models, monkeypatch) -> Path:
    """Provide a folder with small models under the file names that the documentation uses."""
    metric_model, _ = depth_models
    shutil.copytree(metric_model, tmp_path / "depth_anything_v2_metric")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    # One channel, for the stand-in's four take four times as long.
    save_file(draw_tensors(vae_shapes(1), SEED), tmp_path / "wan_2.1_vae.safetensors")
    save_file(
        {"embedding": torch.randn(4, 24, generator=torch.Generator().manual_seed(0))},
        tmp_path / "umt5_xxl_fp16.safetensors",
    )
    (tmp_path / "clip_vision_h.safetensors").touch()  # named on the page, not read here
    tiny_training.make_base(tmp_path / "base.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_training_page_leads_from_raw_data_to_a_video(raw_data_set, training_folder):
    assert [words[0] for words in documented_commands("training.md", 1)] == list(SMALL_RUN_OPTIONS)
    run_page(
        "training.md",
        raw_data_set,
        SMALL_RUN_OPTIONS | {"generate": SMALL_RUN_OPTIONS["generate"] + " --split train"},
        number=1,
    )
    clip_records = read_manifest(training_folder / "data" / "set" / "manifest.jsonl")
    assert len(clip_records) == CLIPS and {record_entry.depth for record_entry in clip_records} == {
        "model"
    }
    for record in clip_records:
        depth_arrays = np.load(training_folder / "data" / "set" / record.folder / "depth.npz")
        with np.load(
            training_folder / "data" / "masks" / f"{record.take}__{record.exo_camera}.npz"
        ) as masks:
            assert np.array_equal(
                depth_arrays["dynamic"], masks["mask"][record.start : record.start + FRAMES]
            )
    videos = sorted((training_folder / "out").glob("*.mp4"))
    assert [video.stem for video in videos] == sorted(
        record_entry.clip for record_entry in clip_records
    )
    assert probe_video(videos[0]).frame_count == FRAMES
    assert (training_folder / "egox_lora_native.safetensors").is_file()


def test_robots_page_leads_from_a_clip_to_a_data_set(
    tmp_path, one_compared_frame, monkeypatch, capsys
):
    """Check that the commands of docs/robots.md write a robot data set from a clip."""
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    clip = Path("clips", "kitchen")
    shutil.copytree(ROOT / "sample" / "calm_room", clip)
    Path("ego").mkdir()
    (clip / TRUTH).rename("ego/kitchen.mp4")
    meta_content = read_json(clip / META)  # a phone's clip has no ego poses
    write_json(
        clip / META, {key: meta_content[key] for key in meta_content if not key.startswith("ego_")}
    )
    run_page("robots.md", clip, {"headpose": "", "lerobot": ""})
    assert "fit" in capsys.readouterr().out
    set_folder = Path("data", "robots")
    info = read_json(set_folder / "meta" / "info.json")
    assert (info["total_episodes"], info["total_frames"], info["fps"]) == (1, 9, 8)
    frames = pq.read_table(set_folder / "data" / "chunk-000" / "file-000.parquet").to_pylist()
    assert all(row["egox.ego_generated"] and all(row["egox.hand_valid"]) for row in frames)
    guessed_flags = [row["egox.head_guessed"] for row in frames]
    assert True in guessed_flags, "as headpose said"
    assert pq.read_table(set_folder / "meta" / "tasks.parquet")["task"].to_pylist() == [
        "set the table"
    ]
    assert "Wan 2.1 I2V 14B" in (set_folder / "README.md").read_text("utf-8")
    assert train_egox.main(documented_commands("robots.md")[-1]) == 0, "nothing left to do"
    assert read_json(set_folder / "meta" / "info.json") == info


# RAFT needs sides of 128 px, FVD nine frames and two clips.
TABLE_FRAMES = 9
OBJECT_LABELS = {"Location Err (px)", "IoU", "Contour Acc"}
TABLE_OPTIONS = SMALL_RUN_OPTIONS | {
    "prepare": f"--size 224x128 --frames {TABLE_FRAMES} --clips-per-camera 1 --cameras {CLIPS} "
    "--validation 0",
    "train": SMALL_RUN_OPTIONS["train"] + " --set steps=1",
    "generate": SMALL_RUN_OPTIONS["generate"] + " --steps 1",
    "masks": "--device cpu",
    "evaluate": "--device cpu --no-baselines",
}
DEFAULT_CONDITIONING = {
    "gga_mode": "released",
    "prior": "prior",
    "exo_clean": "true",
    "exo": "sees_ego",
}
TABLE2_ROWS = {
    "full": {},
    "no_gga": {"gga_mode": "off"},
    "no_prior": {"prior": "none"},
    "no_clean_latent": {"exo_clean": "false"},
}


@pytest.mark.slow
def test_table_page_leads_from_raw_data_to_the_papers_tables(
    training_folder, take_writers, network_writers, one_compared_frame, monkeypatch
):
    pytest.importorskip("cdfvd.fvd")
    from torchvision.models.optical_flow import raft_small

    # I3D of one layer, which test_reference_packages.py has whole, the smaller RAFT, of which
    # test_weights.py has the large one, and shorter searches.
    i3d_name = "cdfvd.third_party.i3d.pytorch_i3d.InceptionI3d"
    monkeypatch.setattr(i3d_name, network_writers.StandInI3d)
    monkeypatch.setattr("torchvision.models.optical_flow.raft_large", raft_small)
    monkeypatch.setattr("egox_train.metrics.temporal.UPDATES", 1)  # of 20
    monkeypatch.setattr("egox_train.metrics.track_masks.GRID", 2)  # of 8 points a side
    raw_folder = training_folder / "raw"
    for number, (name, split) in enumerate([("a_1", "train"), ("b_1", "test")]):
        cameras = dict.fromkeys(("cam01", "cam02"), (224, 128))
        take_writers.write_egoexo4d(
            raw_folder, name, frames=TABLE_FRAMES, cameras=cameras, split=split
        )
        coarse_colours = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(number))
        picture = torch.nn.functional.interpolate(coarse_colours, size=(128, 128)).movedim(1, -1)
        (ego_file,) = raw_folder.glob(f"takes/{name}/**/aria01*.mp4")
        write_video(ego_file, picture.expand(TABLE_FRAMES, -1, -1, -1), 30, threads=1)
    base = training_folder / "models" / "diffusion_models" / "wan2.1_fun_inp_1.3B_bf16.safetensors"
    base.parent.mkdir(parents=True)
    shutil.copy("base.safetensors", base)
    torch.save(network_writers.alexnet(), "alexnet-owt-7be5be79.pth")
    network_writers.write_raft(training_folder / "raft_large_C_T_V1-22a6c225.pth")
    network_writers.write_i3d(training_folder / "i3d_pretrained_400.pt")
    page = (ROOT / "docs" / "paper_table.md").read_text("utf-8")
    for name in re.findall(r"python tools/convert_to_safetensors.py (.*)", page)[0].split():
        convert(Path(name))
    network_writers.write_clip(training_folder / "clip-vit-base-patch32")
    network_writers.write_dino(training_folder / "dinov3-vitb16-pretrain-lvd1689m", "dinov3")
    network_writers.write_sam(training_folder / "sam2.1-hiera-large", is_confident=True)
    run_page("paper_table.md", raw_folder, TABLE_OPTIONS)
    report_content = read_json(training_folder / "out" / "table" / "report.json")
    rows = ["generated", "without GGA", "without ego prior", "without clean latent"]
    assert (
        list(report_content["means"])[:4] == rows and len(report_content["seeds"]["generated"]) == 3
    )
    assert {"LPIPS", "CLIP-I", "IoU", "Dynamic Degree"}.isdisjoint(report_content["not_computed"])
    assert report_content["sets"]["fvd"].keys() >= set(rows)
    loras = [training_folder / "runs" / "table2" / row / "lora.safetensors" for row in TABLE2_ROWS]
    settings_of_loras = [
        {setting: inspect(lora)[f"egox.{setting}"] for setting in DEFAULT_CONDITIONING}
        for lora in loras
    ]
    assert settings_of_loras == [
        {**DEFAULT_CONDITIONING, **changed_settings} for changed_settings in TABLE2_ROWS.values()
    ]
    # Table 1, by lists as the authors have them.
    shutil.copy(loras[0], "pytorch_lora_weights.safetensors")
    shutil.copytree("sam2.1-hiera-large", "sam2-hiera-large")
    dino_folder = shutil.copytree(
        "dinov3-vitb16-pretrain-lvd1689m", "dinov3-vitl16-pretrain-lvd1689m"
    )
    network_writers.write_dino_processor(dino_folder)
    for name, key, take in (
        ("train", "train_datasets", "gone_1"),
        ("seen", "val_datasets", "a_1"),
        ("unseen", "test_datasets", "b_1"),
    ):
        (file,) = (raw_folder / "annotations").rglob("uid-a_1.json")
        cameras = read_json(file)
        entries = [
            {
                "exo_path": f"./videos/{take}_0_{TABLE_FRAMES - 1}/exo.mp4",
                "best_camera": camera,
                "prompt": "[Exo view] a [Ego view] b",
                **{
                    setting: cameras[camera][setting]
                    for setting in ("camera_intrinsics", "camera_extrinsics")
                },
                "ego_intrinsics": cameras["aria01"]["camera_intrinsics"],
                "ego_extrinsics": [*cameras["aria01"]["camera_extrinsics"].values()],
            }
            for camera in ("cam01", "cam02")
        ]
        write_json(training_folder / f"meta_{name}.json", {key: entries})
    monkeypatch.setattr("egox_train.metrics.auto_masks.POINTS", 2)  # of 32 a side
    small_options = TABLE_OPTIONS | {"evaluate": "--device cpu", "masks": "--device cpu"}
    small_options["prepare"] = f"--size 224x128 --frames {TABLE_FRAMES}"
    run_page("paper_table.md", raw_folder, small_options, number=1)
    for split, published_psnr in (("validation", 16.05), ("test", 14.38)):
        report_content = read_json(training_folder / "out" / f"table1_{split}" / "report.json")
        assert report_content["clips"] == 2 and not report_content["errors"]
        assert report_content["references"]["rows"]["paper"]["psnr"] == published_psnr
        not_computed = (
            report_content["not_computed"].keys() - OBJECT_LABELS
        )  # random looks may pair none
        assert not_computed == {"Motion Smoothness"}  # no --amt on the page
        assert report_content["sets"]["fvd"].keys() == {"generated"}
        columns = {"psnr", "lpips", "clip_i", "temporal_flickering", "dynamic_degree"}
        assert columns <= report_content["means"]["generated"].keys()
