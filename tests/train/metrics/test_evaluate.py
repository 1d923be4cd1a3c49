"""The whole evaluation over a small manifest: report, restart, bad rows, comparison, command."""

import filecmp
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import egox_train.metrics.fvd as fvd
import train_egox
from egox_core.safe_files import read_json
from egox_core.types import DOUBTFUL, NOW, UNOBSERVED
from egox_core.video.grid import GAP
from egox_train.data.clip_files import read_all
from egox_train.data.manifest import write_manifest
from egox_train.data.object_masks import write_masks
from egox_train.data.set_files import each_once
from egox_train.metrics.evaluate import REPORT, ROWS, SHEET, TABLE, evaluate
from egox_train.options import ALONE, EvaluateOptions, RunOptions
from egox_train.video_writer import write_levels, write_video
from tests.refusals import refuses
from tests.train.clip_record import clip_record
from tests.train.held_item import another_is_at

FRAMES, SIZE, FPS = 5, 32, 10.0
CLIPS = ("a", "b", "c", "d")
FAST = EvaluateOptions(sheet_clips=2)
BARE = replace(FAST, baselines=False, sheet_clips=0)
TRUTH, MADE = "ego_ground_truth.mp4", "generated"
CUP = np.zeros((1, FRAMES, SIZE, SIZE), bool)
CUP[:, :, 4:12, 4:12] = True


def picture(seed: int, frames: int = FRAMES, width: int = SIZE) -> torch.Tensor:
    """Draw large soft shapes, so that H.264 changes little."""
    coarse = np.random.default_rng(seed).random((4, 4, 3), np.float32) * 0.7 + 0.2
    still = cv2.resize(coarse, (width, SIZE), interpolation=cv2.INTER_CUBIC).clip(0.1, 1)
    return torch.from_numpy(still).expand(frames, -1, -1, -1).contiguous()


def save(file: Path, frames: torch.Tensor, fps: float = FPS) -> None:
    write_video(file, frames, fps, threads=1)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """Write a set of four clips with priors that cover the left half, and generated videos near the
    truth."""
    root, records = tmp_path_factory.mktemp("set"), []
    for seed, name in enumerate(CLIPS):
        folder, truth = root / "clips" / name, picture(seed)
        prior = truth.clone()
        prior[:, :, SIZE // 2 :] = 0
        save(folder / "exo.mp4", picture(seed + 50, width=2 * SIZE))
        save(folder / TRUTH, truth)
        save(folder / "ego_prior.mp4", prior)
        save(root / MADE / f"{name}.mp4", truth * 0.9 + 0.1 * picture(seed + 90))
        moved = np.roll(CUP, 3, axis=3)
        write_masks(root / "masks" / f"{name}.npz", name, CUP, ["cup"], moved, ["cup"])
        room = {"a": "hall", "c": "hall", "d": "yard"}.get(name, "")
        records.append(clip_record(name, take=f"take_{name}", fps=FPS, room=room))
    write_manifest(root / "manifest.jsonl", records)
    return root


@pytest.fixture
def place(clean, tmp_path) -> Path:
    """Copy the set, so that it may be spoilt."""
    return shutil.copytree(clean, tmp_path / "set")


def run(
    root: Path,
    out: str = "out",
    options: EvaluateOptions = FAST,
    how: RunOptions = ALONE,
    **more,
):
    return evaluate(root / "manifest.jsonl", root / MADE, root / out, options, how, **more)


def test_report_holds_what_was_put_in(place):
    report = run(place, options=replace(FAST, masks=place / "masks")).report
    assert report == read_json(place / "out" / REPORT)
    assert (report["clips"], report["takes"], report["failed"], report["errors"]) == (4, 4, 0, {})
    assert [row["clip"] for row in report["rows"]] == list(CLIPS)
    means = report["means"]
    baselines = ["prior", "prior + Telea", "exo resized", "exo mean colour", "shrink"]
    assert list(means) == [MADE, *baselines]
    made_means = {name: estimate["mean"] for name, estimate in means[MADE].items()}
    assert 20 < made_means["psnr"] < 40 and 0.5 < made_means["ssim"] < 1
    assert "low" not in means[MADE]["psnr"] and means[MADE]["psnr"]["takes"] == 4  # too few
    assert made_means["coverage"] == pytest.approx(0.5, abs=0.03)
    assert means["prior"]["psnr_inside"]["mean"] > means["prior"]["psnr_outside"]["mean"] + 10
    assert report["paired"]["generated - prior"]["psnr"]["mean"] > 0
    assert made_means["location_error_px"] == 3 and made_means["iou"] == pytest.approx(
        5 / 11, abs=1e-6
    )
    assert made_means["missing_masks"] == 0 and "iou" not in means["shrink"]
    assert report["object_matching"] == "by id" and report["coverage_from"] == ["picture"]
    need_weights = "LPIPS,CLIP-I,FVD,FVD (VideoMAE),Motion Smoothness,Dynamic Degree".split(",")
    assert list(report["not_computed"]) == need_weights
    table = (place / "out" / TABLE).read_text("utf-8")
    heading = (
        "|  | clips, takes | PSNR ↑ | SSIM ↑ | LPIPS ↓ | CLIP-I ↑ | Location Err (px) ↓ | IoU ↑ | "
        "Contour Acc ↑ | FVD ↓ | FVD (VideoMAE) ↓ | Temporal Flickering ↑ | Motion Smoothness ↑ | "
        "Dynamic Degree ↑ |"
    )
    assert next(line for line in table.splitlines() if line.startswith("|")) == heading
    names = report["protocol"]["clip_list"]
    how = "32x32 px, resized: none, frames 5 at 10 a second; networks: none; "
    assert f"Protocol: 4 clips (list {names}), {how}" in table
    sheet = cv2.imread(str(place / "out" / SHEET))
    # Two clips; exo is twice as wide as the three ego pictures, of which the last is the truth.
    assert sheet.shape == (2 * (SIZE + 16), 5 * SIZE + 3 * GAP, 3)
    sheet_part = sheet[16 : 16 + SIZE, -SIZE:, ::-1]
    assert np.abs(sheet_part - picture(0)[0].numpy() * 255).mean() < 6


def test_a_killed_run_goes_on_and_gives_the_same_report(place):
    def kill(done: int, total: int, stage: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(place, progress=kill)
    assert not (place / "out" / REPORT).exists()
    assert len(list((place / "out" / ROWS).glob("*.json"))) == 2
    assert run(place).kept == 2
    (place / "fresh" / ROWS).mkdir(parents=True)
    with another_is_at(place / "fresh" / ROWS / "a.json", 3) as progress:
        run(place, out="fresh", progress=progress)
    for name in (REPORT, TABLE, SHEET):
        assert filecmp.cmp(place / "out" / name, place / "fresh" / name, shallow=False)


def test_a_row_is_made_anew_when_its_files_or_settings_change(place):
    run(place)
    assert run(place).kept == 4
    save(place / MADE / "b.mp4", picture(0))  # what clip a should be
    (place / "out" / ROWS / "c.npz").write_bytes(b"cut off")
    (place / "out" / ROWS / "d.json").write_text("{", "utf-8")
    changed = run(place)
    assert changed.kept == 1
    assert changed.report["rows"][1]["metrics"][MADE]["patch_zncc"] < 0.5
    np.savez(place / "clips" / "a" / "coverage.npz", coverage=np.ones((FRAMES, SIZE, SIZE), bool))
    exact = run(place).report
    assert exact["coverage_from"] == ["picture", "renderer"]
    assert exact["rows"][0]["metrics"][MADE]["coverage"] == 1
    assert run(place, options=BARE).kept == 0


def test_figures_by_how_exo_knows_a_pixel(place):
    """A clip without seen.mkv has none. A class that a clip lacks has none either."""
    classes = torch.full((FRAMES, SIZE, SIZE), NOW, dtype=torch.uint8)
    classes[:, : SIZE // 2], classes[0, 0] = UNOBSERVED, DOUBTFUL
    write_levels(place / "clips" / "a" / "seen.mkv", classes, FPS)
    report = run(place).report
    row, without = (report["rows"][place_]["metrics"][MADE] for place_ in (0, 1))
    generated, truth = (
        read_all(file, FRAMES, (SIZE, SIZE)) / 255
        for file in (place / MADE / "a.mp4", place / "clips" / "a" / TRUTH)
    )
    lower = (generated - truth)[:, SIZE // 2 :].double().square().mean()
    assert row["psnr_now"] == pytest.approx(float(-10 * lower.log10()), abs=1e-3)
    assert row["psnr_earlier"] is None and row["ssim_doubtful"] is not None
    mean = row["ssim_now"] / 2 + row["ssim_unobserved"] / 2
    assert row["ssim"] == pytest.approx(mean, abs=0.02)
    assert "psnr_now" not in without and report["means"][MADE]["psnr_now"]["clips"] == 1
    table = (place / "out" / TABLE).read_text("utf-8")
    assert "## Observed and unobserved areas" in table and "| PSNR now ↑ |" in table
    (place / "clips" / "a" / "seen.mkv").write_bytes(b"cut off")
    assert "a" in run(place).errors


SPOILT = {
    "size": "48x32",
    "length": "9 frames",
    "rate": "20 frames a second",
    "absent": "not there",
    "corrupt": "can't be decoded",
    "cut": "no frame that can be decoded",
    "no_truth": "no ground truth",
    "truth_lost": "ground truth of clip",
    "masks_other": "masks of clip 'b'",
    "masks_size": "object masks",
    "outside": "next to the manifest",
    "coverage": "together with the prior",
}
"""Clips that can't be evaluated, each for its own reason -> what its message says."""


def spoil(root: Path) -> None:
    """Add the clips of :data:`SPOILT`."""
    good = json.loads((root / "manifest.jsonl").read_text("utf-8").splitlines()[0])
    made_folder, masks, lines = root / MADE, root / "masks", {}
    for name in SPOILT:
        shutil.copytree(root / "clips" / "a", root / "clips" / name)
        shutil.copy(made_folder / "a.mp4", made_folder / f"{name}.mp4")
        write_masks(masks / f"{name}.npz", name, CUP, ["cup"], CUP, ["cup"])
        lines[name] = good | {"clip": name, "folder": f"clips/{name}"}
    save(made_folder / "size.mp4", picture(0, width=48))
    save(made_folder / "length.mp4", picture(0, frames=9))
    save(made_folder / "rate.mp4", picture(0), 2 * FPS)
    (made_folder / "absent.mp4").unlink()
    (made_folder / "corrupt.mp4").write_bytes(b"\0" * 500)
    (made_folder / "cut.mp4").write_bytes((made_folder / "a.mp4").read_bytes()[:900])
    lines["no_truth"]["ground_truth"] = False
    (root / "clips" / "truth_lost" / TRUTH).unlink()
    shutil.copy(masks / "b.npz", masks / "masks_other.npz")
    half = CUP[..., :16]
    np.savez(root / "clips" / "coverage" / "coverage.npz", coverage=half[0])
    write_masks(masks / "masks_size.npz", "masks_size", half, ["cup"], half, ["cup"])
    lines["outside"]["folder"] = "../elsewhere"
    with (root / "manifest.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines.values())


def test_bad_clips_are_named_and_the_rest_is_evaluated(place):
    spoil(place)
    outcome = run(place, options=replace(FAST, masks=place / "masks"))
    assert outcome.errors.keys() == SPOILT.keys()
    for name, words in SPOILT.items():
        assert words in outcome.errors[name] and "Fix:" in outcome.errors[name], name
    assert [row["clip"] for row in outcome.report["rows"]] == list(CLIPS)
    table = (place / "out" / TABLE).read_text("utf-8")
    assert all(f"- {name}: " in table for name in SPOILT)
    # Nothing left to evaluate still gives a report.
    shutil.rmtree(place / MADE)
    (place / MADE).mkdir()
    outcome = run(place)
    assert len(outcome.errors) == 4 + len(SPOILT) and outcome.report["clips"] == 0
    assert each_once([("a", "no"), ("b", "no"), ("c", "cut")]) == ["a and 1 more: no", "c: cut"]


def truths(place: Path, name: str) -> tuple[str, Path]:
    """Put the true videos in another method's place, for ``also``."""
    (place / name).mkdir()
    for clip in CLIPS:
        shutil.copy(place / "clips" / clip / TRUTH, place / name / f"{clip}.mp4")
    return (name, place / name)


def test_methods_stand_in_one_table_seeds_in_one_row_and_groups_apart(place):
    (place / "splits").mkdir()
    for split, clips in ("train", "a\nb\n"), ("test", "c\nd\n"):
        (place / "splits" / f"{split}.txt").write_text(clips, "utf-8")
    vae = truths(place, "vae")
    report = run(place, options=replace(BARE, also=(vae, (MADE, vae[1])))).report
    assert list(report["means"]) == [MADE, "vae"]
    assert report["paired"]["generated - vae"]["psnr"]["mean"] < 0
    first = report["rows"][0]["metrics"]
    assert first[MADE]["psnr"] < first[f"{MADE}, seed 2"]["psnr"] == 100
    assert {
        kind: {name: g["means"][MADE]["psnr"]["clips"] for name, g in groups.items()}
        for kind, groups in report["groups"].items()
    } == {
        "split": {"test": 2, "train": 2},
        "seen and unseen scenes": {"seen in training": 2, "unseen": 1},
        "scene": {"hall": 2, "yard": 1},
    }
    for also in ((("prior", place),), (("x", place / "absent"),)):
        with refuses():
            run(place, options=EvaluateOptions(also=also))


def test_fvd_is_one_figure_a_method_and_survives_a_restart(place, monkeypatch):
    """With another feature than I3D's (the mean colour): what is tested is the way from rows to
    report."""
    weights = {"fvd": place / "weights.safetensors"}
    save_file({"any": torch.zeros(1)}, weights["fvd"])
    monkeypatch.setitem(
        fvd.NETWORKS, "fvd", lambda weights, device: lambda frames: frames.mean((0, 1, 2)).numpy()
    )
    options = replace(FAST, sheet_clips=0, weights=weights, also=(truths(place, "same"),))
    report = run(place, options=options).report
    distance, same = (report["sets"]["fvd"][name] for name in (MADE, "same"))
    assert len(report["sets"]["fvd"]) == 2 and distance > 0 == same
    assert "FVD" not in report["not_computed"]
    assert f"| {distance:.1f} |" in (place / "out" / TABLE).read_text("utf-8")
    assert run(place, options=options).report == report
    assert run(place).report["sets"] == {}  # rows without features are others


def test_split_parts_and_sums(place):
    (place / "splits").mkdir()
    (place / "splits" / "test.txt").write_text("b\nd\n", "utf-8")
    outcome = run(place, out="split", options=replace(FAST, split="test"))
    assert [row["clip"] for row in outcome.report["rows"]] == ["b", "d"]
    assert run(place, out="both", options=replace(FAST, split="validation,test")).clips == 2
    for split in ("validation", "nonsense"):
        with refuses("split"):
            run(place, options=EvaluateOptions(split=split))
    full_report = run(place, out="whole").report
    part = run(place, how=RunOptions(part=(1, 2)))
    assert (part.clips, part.kept, part.report) == (2, 0, {})
    assert not (place / "out" / REPORT).exists()
    sums = run(place, how=RunOptions(dry_run=True))
    assert sums.clips == 4 and sums.seconds > 0
    again = run(place)
    assert again.kept == 2 and again.report == full_report


def test_command_ends_non_zero_where_a_clip_failed(place, capsys):
    files = [str(place / name) for name in ("manifest.jsonl", MADE, "out")]
    command = ["evaluate", *files, "--sheet", "2"]
    assert train_egox.main(command) == 0
    assert "4 of 4 clips evaluated (0 kept" in capsys.readouterr().out
    (place / MADE / "c.mp4").unlink()
    assert train_egox.main(command) == 1
    output = capsys.readouterr().out
    assert "not evaluated: c: " in output and "3 of 4 clips evaluated (3 kept" in output
    assert train_egox.main([*command, "--masks", str(place / "no")]) == 2
    assert "folder of masks" in capsys.readouterr().err


def test_wrong_weights_are_refused_before_the_first_row(place):
    save_file({"any": torch.zeros(1)}, place / "other.safetensors")
    for name, file, why in (
        ("lpips", "other.safetensors", "AlexNet"),
        ("clip", ".", "config.json"),
    ):
        with refuses(why):
            run(place, options=EvaluateOptions(weights={name: place / file}))
    assert not (place / "out" / ROWS).exists()
