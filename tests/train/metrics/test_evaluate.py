"""Test ``evaluate`` on a small manifest."""

import filecmp
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import egox_train.metrics.fvd as fvd
import train_egox
from egox_core.cameras import preset_camera
from egox_core.file_names import META
from egox_core.safe_files import read_json, write_json
from egox_core.types import DOUBTFUL, NOW, UNOBSERVED
from egox_core.video import Tint
from egox_core.video.grid import GAP
from egox_core.wan import read_header
from egox_train.data.clip_files import read_all
from egox_train.data.manifest import write_manifest
from egox_train.data.object_masks import write_masks
from egox_train.data.set_files import merge_equal_notes
from egox_train.metrics.evaluate import REPORT_FILE, ROWS_FOLDER, SHEET_FILE, TABLE_FILE, evaluate
from egox_train.options import DEFAULT_RUN_OPTIONS, EvaluateOptions, RunOptions
from egox_train.video_writer import write_levels, write_video
from tests.refusals import refuses
from tests.train.clip_record import clip_record
from tests.train.held_item import locked_by_other_process

FRAMES, SIZE, FPS = 5, 32, 10.0
CLIPS = ("a", "b", "c", "d")
FAST_OPTIONS = EvaluateOptions(sheet_clips=2)
MINIMAL_OPTIONS = replace(FAST_OPTIONS, baselines=False, sheet_clips=0)
TRUTH_NAME, GENERATED = "ego_ground_truth.mp4", "generated"
CUP_MASKS = np.zeros((1, FRAMES, SIZE, SIZE), bool)
CUP_MASKS[:, :, 4:12, 4:12] = True


def soft_picture(seed: int, frames: int = FRAMES, width: int = SIZE) -> torch.Tensor:
    """Draw a still video of large soft shapes."""
    coarse_colours = np.random.default_rng(seed).random((4, 4, 3), np.float32) * 0.7 + 0.2
    picture = cv2.resize(coarse_colours, (width, SIZE), interpolation=cv2.INTER_CUBIC).clip(0.1, 1)
    return torch.from_numpy(picture).expand(frames, -1, -1, -1).contiguous()


def save_video(file: Path, frames: torch.Tensor, fps: float = FPS) -> None:
    write_video(file, frames, fps, threads=1)


@pytest.fixture(scope="module")
def evaluation_set(tmp_path_factory) -> Path:
    """Write four clips with priors, true videos and generated videos."""
    set_folder, records = tmp_path_factory.mktemp("set"), []
    for seed, name in enumerate(CLIPS):
        folder, true_video = set_folder / "clips" / name, soft_picture(seed)
        prior_video = true_video.clone()
        prior_video[:, :, SIZE // 2 :] = 0
        save_video(folder / "exo.mp4", soft_picture(seed + 50, width=2 * SIZE))
        save_video(folder / TRUTH_NAME, true_video)
        save_video(folder / "ego_prior.mp4", prior_video)
        save_video(
            set_folder / GENERATED / f"{name}.mp4", true_video * 0.9 + 0.1 * soft_picture(seed + 90)
        )
        shifted_masks = np.roll(CUP_MASKS, 3, axis=3)
        write_masks(
            set_folder / "masks" / f"{name}.npz", name, CUP_MASKS, ["cup"], shifted_masks, ["cup"]
        )
        room_name = {"a": "hall", "c": "hall", "d": "yard"}.get(name, "")
        records.append(clip_record(name, take=f"take_{name}", fps=FPS, room=room_name))
    write_manifest(set_folder / "manifest.jsonl", records)
    return set_folder


@pytest.fixture
def evaluation_folder(evaluation_set, tmp_path) -> Path:
    """Copy the evaluation set for a test that may damage its files."""
    return shutil.copytree(evaluation_set, tmp_path / "set")


def run_evaluation(
    root: Path,
    out: str = "out",
    options: EvaluateOptions = FAST_OPTIONS,
    run_options: RunOptions = DEFAULT_RUN_OPTIONS,
    **options_of_evaluate,
):
    return evaluate(
        root / "manifest.jsonl",
        root / GENERATED,
        root / out,
        options,
        run_options,
        **options_of_evaluate,
    )


def test_report_contains_all_figures(evaluation_folder, tmp_path):
    # Only this clip is known to be of Aria glasses.
    glasses = {"prompt": "", "ego_camera": preset_camera("aria_meta", SIZE).to_json()}
    write_json(evaluation_folder / "clips" / "a" / META, glasses)
    lora_file = tmp_path / "lora.safetensors"
    save_file({"a": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)}, lora_file)
    report = run_evaluation(
        evaluation_folder,
        options=replace(FAST_OPTIONS, masks=evaluation_folder / "masks", fit_colour=lora_file),
    ).report
    tint = Tint.of(read_header(lora_file, "LoRA")["__metadata__"][Tint.KEY])
    assert (tint.clips, tint.sites) == (4, 3) and load_file(lora_file)["a"].tolist() == [1, 2]
    assert tint.gains == pytest.approx((1, 1, 1), abs=0.1)
    assert report == read_json(evaluation_folder / "out" / REPORT_FILE)
    assert (report["clips"], report["takes"], report["failed"], report["errors"]) == (4, 4, 0, {})
    assert [row["clip"] for row in report["rows"]] == list(CLIPS)
    means_by_video = report["means"]
    baselines = ["prior", "prior, haze", "exo resized", "exo mean colour", "shrink"]
    shaded_baselines = ["prior, haze, shaded", "shading alone"]
    assert list(means_by_video) == [GENERATED, *baselines, *shaded_baselines]
    assert [means_by_video[name]["psnr"]["clips"] for name in shaded_baselines] == [1, 1]
    made_means = {name: estimate["mean"] for name, estimate in means_by_video[GENERATED].items()}
    assert 20 < made_means["psnr"] < 40 and 0.5 < made_means["ssim"] < 1
    assert (
        "low" not in means_by_video[GENERATED]["psnr"]
        and means_by_video[GENERATED]["psnr"]["takes"] == 4
    )  # too few
    assert made_means["coverage"] == pytest.approx(0.5, abs=0.03)
    assert (
        means_by_video["prior"]["psnr_inside"]["mean"]
        > means_by_video["prior"]["psnr_outside"]["mean"] + 10
    )
    assert report["paired"]["generated - prior"]["psnr"]["mean"] > 0
    assert made_means["location_error_px"] == 3 and made_means["iou"] == pytest.approx(
        5 / 11, abs=1e-6
    )
    assert made_means["missing_masks"] == 0 and "iou" not in means_by_video["shrink"]
    assert report["object_matching"] == "by id" and report["coverage_from"] == ["picture"]
    need_weights = "LPIPS,CLIP-I,FVD,FVD (VideoMAE),Motion Smoothness,Dynamic Degree".split(",")
    assert list(report["not_computed"]) == need_weights
    report_text = (evaluation_folder / "out" / TABLE_FILE).read_text("utf-8")
    heading = (
        "|  | clips, takes | PSNR ↑ | SSIM ↑ | LPIPS ↓ | CLIP-I ↑ | Location Err (px) ↓ | IoU ↑ | "
        "Contour Acc ↑ | FVD ↓ | FVD (VideoMAE) ↓ | Temporal Flickering ↑ | Motion Smoothness ↑ | "
        "Dynamic Degree ↑ |"
    )
    assert next(line for line in report_text.splitlines() if line.startswith("|")) == heading
    clip_list = report["protocol"]["clip_list"]
    protocol_text = "32x32 px, resized: none, frames 5 at 10 a second; networks: none; "
    assert f"Protocol: 4 clips (list {clip_list}), {protocol_text}" in report_text
    contact_sheet = cv2.imread(str(evaluation_folder / "out" / SHEET_FILE))
    # Two clips; exo is twice as wide as the three ego pictures, of which the last is the truth.
    assert contact_sheet.shape == (2 * (SIZE + 16), 5 * SIZE + 3 * GAP, 3)
    sheet_part = contact_sheet[16 : 16 + SIZE, -SIZE:, ::-1]
    assert np.abs(sheet_part - soft_picture(0)[0].numpy() * 255).mean() < 6


def test_interrupted_run_continues_to_the_same_report(evaluation_folder):
    def raise_interrupt(done: int, total: int, stage: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_evaluation(evaluation_folder, progress=raise_interrupt)
    assert not (evaluation_folder / "out" / REPORT_FILE).exists()
    assert len(list((evaluation_folder / "out" / ROWS_FOLDER).glob("*.json"))) == 2
    assert run_evaluation(evaluation_folder).kept == 2
    (evaluation_folder / "fresh" / ROWS_FOLDER).mkdir(parents=True)
    with locked_by_other_process(
        evaluation_folder / "fresh" / ROWS_FOLDER / "a.json", 3
    ) as progress:
        run_evaluation(evaluation_folder, out="fresh", progress=progress)
    for name in (REPORT_FILE, TABLE_FILE, SHEET_FILE):
        assert filecmp.cmp(
            evaluation_folder / "out" / name, evaluation_folder / "fresh" / name, shallow=False
        )


def test_rows_are_made_again_if_files_or_settings_change(evaluation_folder):
    run_evaluation(evaluation_folder)
    assert run_evaluation(evaluation_folder).kept == 4
    save_video(evaluation_folder / GENERATED / "b.mp4", soft_picture(0))  # what clip a should be
    (evaluation_folder / "out" / ROWS_FOLDER / "c.npz").write_bytes(b"cut off")
    (evaluation_folder / "out" / ROWS_FOLDER / "d.json").write_text("{", "utf-8")
    changed_outcome = run_evaluation(evaluation_folder)
    assert changed_outcome.kept == 1
    assert changed_outcome.report["rows"][1]["metrics"][GENERATED]["patch_zncc"] < 0.5
    np.savez(
        evaluation_folder / "clips" / "a" / "coverage.npz",
        coverage=np.ones((FRAMES, SIZE, SIZE), bool),
    )
    exact_report = run_evaluation(evaluation_folder).report
    assert exact_report["coverage_from"] == ["picture", "renderer"]
    assert exact_report["rows"][0]["metrics"][GENERATED]["coverage"] == 1
    assert run_evaluation(evaluation_folder, options=MINIMAL_OPTIONS).kept == 0


def test_figures_are_given_per_visibility_class(evaluation_folder):
    """Check that metrics are reported separately for each visibility class."""
    visibility_classes = torch.full((FRAMES, SIZE, SIZE), NOW, dtype=torch.uint8)
    visibility_classes[:, : SIZE // 2], visibility_classes[0, 0] = UNOBSERVED, DOUBTFUL
    write_levels(evaluation_folder / "clips" / "a" / "seen.mkv", visibility_classes, FPS)
    report = run_evaluation(evaluation_folder).report
    clip_row, row_without_classes = (
        report["rows"][row_number]["metrics"][GENERATED] for row_number in (0, 1)
    )
    generated_video, true_video = (
        read_all(file, FRAMES, (SIZE, SIZE)) / 255
        for file in (
            evaluation_folder / GENERATED / "a.mp4",
            evaluation_folder / "clips" / "a" / TRUTH_NAME,
        )
    )
    lower_error = (generated_video - true_video)[:, SIZE // 2 :].double().square().mean()
    assert clip_row["psnr_now"] == pytest.approx(float(-10 * lower_error.log10()), abs=1e-3)
    assert clip_row["psnr_earlier"] is None and clip_row["ssim_doubtful"] is not None
    mean_ssim = clip_row["ssim_now"] / 2 + clip_row["ssim_unobserved"] / 2
    assert clip_row["ssim"] == pytest.approx(mean_ssim, abs=0.02)
    assert (
        "psnr_now" not in row_without_classes
        and report["means"][GENERATED]["psnr_now"]["clips"] == 1
    )
    report_text = (evaluation_folder / "out" / TABLE_FILE).read_text("utf-8")
    assert "## Observed and unobserved areas" in report_text and "| PSNR now ↑ |" in report_text
    (evaluation_folder / "clips" / "a" / "seen.mkv").write_bytes(b"cut off")
    assert "a" in run_evaluation(evaluation_folder).errors


DAMAGED_CLIPS = {
    "size": "48x32",
    "length": "9 frames",
    "rate": "20 frames a second",
    "absent": "not there",
    "corrupt": "can't be decoded",
    "cut": "no frame that can be decoded",
    "no_truth": "no ground truth",
    "truth_lost": "ground truth: got ego_ground_truth.mp4",
    "masks_other": "masks of clip 'b'",
    "masks_size": "object masks",
    "outside": "next to the manifest",
    "coverage": "together with the prior",
}
"""Names of clips that can't be evaluated, with the text of the reason."""


def add_damaged_clips(root: Path) -> None:
    """Add clips with missing or damaged files to an evaluation set."""
    valid_line = json.loads((root / "manifest.jsonl").read_text("utf-8").splitlines()[0])
    made_folder, mask_folder, line_by_clip = root / GENERATED, root / "masks", {}
    for name in DAMAGED_CLIPS:
        shutil.copytree(root / "clips" / "a", root / "clips" / name)
        shutil.copy(made_folder / "a.mp4", made_folder / f"{name}.mp4")
        write_masks(mask_folder / f"{name}.npz", name, CUP_MASKS, ["cup"], CUP_MASKS, ["cup"])
        line_by_clip[name] = valid_line | {"clip": name, "folder": f"clips/{name}"}
    save_video(made_folder / "size.mp4", soft_picture(0, width=48))
    save_video(made_folder / "length.mp4", soft_picture(0, frames=9))
    save_video(made_folder / "rate.mp4", soft_picture(0), 2 * FPS)
    (made_folder / "absent.mp4").unlink()
    (made_folder / "corrupt.mp4").write_bytes(b"\0" * 500)
    (made_folder / "cut.mp4").write_bytes((made_folder / "a.mp4").read_bytes()[:900])
    line_by_clip["no_truth"]["ground_truth"] = False
    (root / "clips" / "truth_lost" / TRUTH_NAME).unlink()
    shutil.copy(mask_folder / "b.npz", mask_folder / "masks_other.npz")
    half_masks = CUP_MASKS[..., :16]
    np.savez(root / "clips" / "coverage" / "coverage.npz", coverage=half_masks[0])
    write_masks(
        mask_folder / "masks_size.npz", "masks_size", half_masks, ["cup"], half_masks, ["cup"]
    )
    line_by_clip["outside"]["folder"] = "../elsewhere"
    with (root / "manifest.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in line_by_clip.values())


def test_damaged_clips_are_reported_and_the_others_evaluated(evaluation_folder):
    add_damaged_clips(evaluation_folder)
    evaluate_outcome = run_evaluation(
        evaluation_folder, options=replace(FAST_OPTIONS, masks=evaluation_folder / "masks")
    )
    assert evaluate_outcome.errors.keys() == DAMAGED_CLIPS.keys()
    for name, reason in DAMAGED_CLIPS.items():
        assert (
            reason in evaluate_outcome.errors[name] and "Fix:" in evaluate_outcome.errors[name]
        ), name
    assert [row["clip"] for row in evaluate_outcome.report["rows"]] == list(CLIPS)
    report_text = (evaluation_folder / "out" / TABLE_FILE).read_text("utf-8")
    assert all(f"- {name}: " in report_text for name in DAMAGED_CLIPS)
    # Nothing left to evaluate still gives a report.
    shutil.rmtree(evaluation_folder / GENERATED)
    (evaluation_folder / GENERATED).mkdir()
    evaluate_outcome = run_evaluation(evaluation_folder)
    assert (
        len(evaluate_outcome.errors) == 4 + len(DAMAGED_CLIPS)
        and evaluate_outcome.report["clips"] == 0
    )
    notes = [("a", "no"), ("b", "no"), ("c", "EgoXInputError: cut")]
    assert merge_equal_notes(notes) == ["a and 1 more: no", "c: cut"]
    assert merge_equal_notes([*notes, ("d", "no")], 2) == ["a, b and 1 more: no", "c: cut"]


def copy_true_videos(place: Path, name: str) -> tuple[str, Path]:
    """Copy the true ego videos into a folder, as results of a second method."""
    (place / name).mkdir()
    for clip in CLIPS:
        shutil.copy(place / "clips" / clip / TRUTH_NAME, place / name / f"{clip}.mp4")
    return (name, place / name)


def test_report_compares_methods_seeds_and_groups(evaluation_folder):
    (evaluation_folder / "splits").mkdir()
    for split, clips in ("train", "a\nb\n"), ("test", "c\nd\n"):
        (evaluation_folder / "splits" / f"{split}.txt").write_text(clips, "utf-8")
    vae = copy_true_videos(evaluation_folder, "vae")
    report = run_evaluation(
        evaluation_folder, options=replace(MINIMAL_OPTIONS, also=(vae, (GENERATED, vae[1])))
    ).report
    assert list(report["means"]) == [GENERATED, "vae"]
    assert report["paired"]["generated - vae"]["psnr"]["mean"] < 0
    first_metrics = report["rows"][0]["metrics"]
    assert first_metrics[GENERATED]["psnr"] < first_metrics[f"{GENERATED}, seed 2"]["psnr"] == 100
    table_text = (evaluation_folder / "out" / TABLE_FILE).read_text("utf-8")
    assert f"vae: {4 * FRAMES} frames of 4 clips equal the truth in every value" in table_text
    assert f"{GENERATED}: " not in table_text
    assert {
        kind: {name: group["means"][GENERATED]["psnr"]["clips"] for name, group in groups.items()}
        for kind, groups in report["groups"].items()
    } == {
        "split": {"test": 2, "train": 2},
        "seen and unseen scenes": {"seen in training": 2, "unseen": 1},
        "scene": {"hall": 2, "yard": 1},
    }
    for other_methods in ((("prior", evaluation_folder),), (("x", evaluation_folder / "absent"),)):
        with refuses():
            run_evaluation(evaluation_folder, options=EvaluateOptions(also=other_methods))


def test_fvd_is_computed_per_method_and_kept_after_a_restart(evaluation_folder, monkeypatch):
    """Check that FVD is reported for each method, with a stand-in for the I3D network."""
    weights = {"fvd": evaluation_folder / "weights.safetensors"}
    save_file({"any": torch.zeros(1)}, weights["fvd"])
    monkeypatch.setitem(
        fvd.NETWORKS, "fvd", lambda weights, device: lambda frames: frames.mean((0, 1, 2)).numpy()
    )
    options = replace(
        FAST_OPTIONS,
        sheet_clips=0,
        weights=weights,
        also=(copy_true_videos(evaluation_folder, "same"),),
    )
    report = run_evaluation(evaluation_folder, options=options).report
    distance, truth_distance = (report["sets"]["fvd"][name] for name in (GENERATED, "same"))
    assert len(report["sets"]["fvd"]) == 2 and distance > 0 == truth_distance
    assert "FVD" not in report["not_computed"]
    assert f"| {distance:.1f} |" in (evaluation_folder / "out" / TABLE_FILE).read_text("utf-8")
    assert run_evaluation(evaluation_folder, options=options).report == report
    assert (
        run_evaluation(evaluation_folder).report["sets"] == {}
    )  # rows without features are others


def test_splits_parts_and_dry_runs_are_evaluated(evaluation_folder):
    (evaluation_folder / "splits").mkdir()
    (evaluation_folder / "splits" / "test.txt").write_text("b\nd\n", "utf-8")
    evaluate_outcome = run_evaluation(
        evaluation_folder, out="split", options=replace(FAST_OPTIONS, split="test")
    )
    assert [row["clip"] for row in evaluate_outcome.report["rows"]] == ["b", "d"]
    assert (
        run_evaluation(
            evaluation_folder, out="both", options=replace(FAST_OPTIONS, split="validation,test")
        ).clips
        == 2
    )
    for split in ("validation", "nonsense"):
        with refuses("split"):
            run_evaluation(evaluation_folder, options=EvaluateOptions(split=split))
    full_report = run_evaluation(evaluation_folder, out="whole").report
    part_outcome = run_evaluation(evaluation_folder, run_options=RunOptions(part=(1, 2)))
    assert (part_outcome.clips, part_outcome.kept, part_outcome.report) == (2, 0, {})
    assert not (evaluation_folder / "out" / REPORT_FILE).exists()
    dry_run_outcome = run_evaluation(evaluation_folder, run_options=RunOptions(dry_run=True))
    assert dry_run_outcome.clips == 4 and dry_run_outcome.seconds > 0
    second_outcome = run_evaluation(evaluation_folder)
    assert second_outcome.kept == 2 and second_outcome.report == full_report


def test_evaluate_command_fails_if_a_clip_failed(evaluation_folder, capsys):
    files = [str(evaluation_folder / name) for name in ("manifest.jsonl", GENERATED, "out")]
    command_words = ["evaluate", *files, "--sheet", "2"]
    assert train_egox.main(command_words) == 0
    assert "4 of 4 clips evaluated (0 kept" in capsys.readouterr().out
    (evaluation_folder / GENERATED / "c.mp4").unlink()
    assert train_egox.main(command_words) == 1
    output = capsys.readouterr().out
    assert "not evaluated: c: " in output and "3 of 4 clips evaluated (3 kept" in output
    assert "--split" not in output and "EgoXInputError" not in output
    assert train_egox.main([*command_words, "--dry-run"]) == 2  # it measures this very clip
    refusal = capsys.readouterr().err
    assert refusal.count("error: ") == refusal.count("; expected ") == 1, refusal
    (evaluation_folder / GENERATED / "a.mp4").unlink()
    (evaluation_folder / "splits").mkdir()
    (evaluation_folder / "splits" / "train.txt").write_text("a\nc\n", "utf-8")
    (evaluation_folder / "splits" / "test.txt").write_text("b\nd\n", "utf-8")
    assert train_egox.main(command_words) == 1
    output = capsys.readouterr().out
    assert "not evaluated: a, c: generated video: got <clip>.mp4, which is not there" in output
    assert "--split test leaves them out" in output
    assert train_egox.main([*command_words, "--masks", str(evaluation_folder / "no")]) == 2
    assert "which isn't there" in capsys.readouterr().err


def test_wrong_weights_are_refused_before_the_first_row(evaluation_folder):
    save_file({"any": torch.zeros(1)}, evaluation_folder / "other.safetensors")
    for name, file, expected_text in (
        ("lpips", "other.safetensors", "AlexNet"),
        ("clip", ".", "config.json"),
    ):
        with refuses(expected_text):
            run_evaluation(
                evaluation_folder, options=EvaluateOptions(weights={name: evaluation_folder / file})
            )
    assert not (evaluation_folder / "out" / ROWS_FOLDER).exists()
