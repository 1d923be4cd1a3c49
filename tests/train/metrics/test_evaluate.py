"""The whole evaluation over a small manifest: report, restart, bad rows, comparison, command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_train.metrics.report import failure_lines

pytest.importorskip("torchmetrics")
pytest.importorskip("pydantic")

import cv2  # noqa: E402

from egox_core.errors import EgoXInputError  # noqa: E402
from egox_train.data.manifest import write_manifest  # noqa: E402
from egox_train.data.object_masks import write_masks  # noqa: E402
from egox_train.metrics.evaluate import REPORT, ROWS, SHEET, TABLE, EvaluateOptions, evaluate  # noqa: E402
from egox_train.video_writer import write_video  # noqa: E402
from tests.refusals import refuses  # noqa: E402
from tests.train.clip_record import clip_record  # noqa: E402

FRAMES, SIZE, FPS = 5, 32, 10.0
CLIPS = ("a", "b", "c", "d")
FAST = EvaluateOptions(samples=200, sheet_clips=2)


def picture(seed: int, frames: int = FRAMES, width: int = SIZE, height: int = SIZE) -> torch.Tensor:
    """Large soft shapes, so that H.264 changes little."""
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 0.7 + 0.2
    still = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(
        0.1, 1
    )[0]
    return still.movedim(0, -1).expand(frames, -1, -1, -1).contiguous()


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """A set of four clips with priors that cover the left half, and generated videos near the
    truth."""
    root = tmp_path_factory.mktemp("set")
    records = []
    for seed, name in enumerate(CLIPS):
        folder, truth = root / "clips" / name, picture(seed)
        prior = truth.clone()
        prior[:, :, SIZE // 2 :] = 0
        write_video(folder / "exo.mp4", picture(seed + 50, width=2 * SIZE), FPS, threads=1)
        write_video(folder / "ego_ground_truth.mp4", truth, FPS, threads=1)
        write_video(folder / "ego_prior.mp4", prior, FPS, threads=1)
        write_video(
            root / "generated" / f"{name}.mp4",
            (truth * 0.9 + 0.1 * picture(seed + 90)),
            FPS,
            threads=1,
        )
        mask = np.zeros((1, FRAMES, SIZE, SIZE), bool)
        mask[:, :, 4:12, 4:12] = True
        write_masks(
            root / "masks" / f"{name}.npz", name, mask, ["cup"], np.roll(mask, 3, axis=3), ["cup"]
        )
        records.append(
            clip_record(
                name,
                take=f"take_{name}",
                room={"a": "hall", "c": "hall", "d": "yard"}.get(name, ""),
                fps=FPS,
                frames=FRAMES,
                exo_size=(2 * SIZE, SIZE),
                ego_size=(SIZE, SIZE),
                caption="file",
                coverage=0.5,
                files={},
            )
        )
    write_manifest(root / "manifest.jsonl", records)
    return root


@pytest.fixture
def place(clean, tmp_path) -> Path:
    """A copy that may be spoilt."""
    return shutil.copytree(clean, tmp_path / "set")


def run(root: Path, out: str = "out", options: EvaluateOptions = FAST, **more):
    return evaluate(root / "manifest.jsonl", root / "generated", root / out, options, **more)


def test_report_holds_what_was_put_in(place):
    outcome = run(place, options=EvaluateOptions(masks=place / "masks", samples=200, sheet_clips=2))
    report = outcome.report
    assert report == json.loads((place / "out" / REPORT).read_text(encoding="utf-8"))
    assert (report["clips"], report["takes"], report["failed"], report["errors"]) == (4, 4, 0, {})
    assert [row["clip"] for row in report["rows"]] == list(CLIPS)
    means = report["means"]
    assert list(means) == [
        "generated",
        "prior",
        "prior + Telea",
        "exo resized",
        "exo mean colour",
        "shrink",
    ]
    generated = means["generated"]
    assert 20 < generated["psnr"]["mean"] < 40 and 0.5 < generated["ssim"]["mean"] < 1
    assert "low" not in generated["psnr"] and generated["psnr"]["takes"] == 4  # too few
    assert generated["coverage"]["mean"] == pytest.approx(0.5, abs=0.03)
    assert generated["temporal_flickering"]["mean"] > 0.99  # a still picture
    assert means["prior"]["psnr_inside"]["mean"] > means["prior"]["psnr_outside"]["mean"] + 10
    assert report["paired"]["generated - prior"]["psnr"]["mean"] > 0
    assert generated["location_error_px"]["mean"] == 3 and generated["iou"][
        "mean"
    ] == pytest.approx(5 / 11, abs=1e-6)
    assert generated["missing_masks"]["mean"] == 0 and "iou" not in means["shrink"]
    assert report["object_matching"] == "by id" and report["coverage_from"] == ["picture"]
    assert set(report["not_computed"]) == {
        "LPIPS",
        "CLIP-I",
        "FVD",
        "FVD (VideoMAE)",
        "Motion Smoothness",
        "Dynamic Degree",
    }
    table = (place / "out" / TABLE).read_text(encoding="utf-8")
    heading = next(line for line in table.splitlines() if line.startswith("|"))
    assert [h.strip(" ↑↓") for h in heading.strip("|").split("|")] == [
        "",
        "clips, takes",
        "PSNR",
        "SSIM",
        "LPIPS",
        "CLIP-I",
        "Location Err (px)",
        "IoU",
        "Contour Acc",
        "FVD",
        "FVD (VideoMAE)",
        "Temporal Flickering",
        "Motion Smoothness",
        "Dynamic Degree",
    ]
    protocol = report["protocol"]
    assert (protocol["clips"], protocol["sizes"], protocol["frames"], protocol["networks"]) == (
        4,
        ["32x32"],
        [5],
        {},
    )
    assert f"Protocol: 4 clips (list {protocol['clip_list']}), 32x32 px, resized: none" in table
    sheet = cv2.imread(str(place / "out" / SHEET))
    assert sheet.shape == (
        2 * (SIZE + 16),
        5 * SIZE,
        3,
    )  # two clips; exo is twice as wide as the three ego pictures
    assert (
        np.abs(sheet[16 : 16 + SIZE, 4 * SIZE :, ::-1] - picture(0)[0].numpy() * 255).mean() < 6
    )  # the first truth


def test_a_killed_run_goes_on_and_gives_the_same_report(place):
    class Killed(Exception):
        pass

    def kill(done: int, total: int, stage: str) -> None:
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        run(place, progress=kill)
    assert (
        not (place / "out" / REPORT).exists()
        and len(list((place / "out" / ROWS).glob("*.json"))) == 2
    )
    again = run(place)
    assert again.kept == 2
    run(place, out="fresh")
    for name in (REPORT, TABLE, SHEET):
        assert (place / "out" / name).read_bytes() == (place / "fresh" / name).read_bytes()


def test_a_row_is_made_anew_when_its_files_or_settings_change(place):
    run(place)
    assert run(place).kept == 4
    write_video(place / "generated" / "b.mp4", picture(0), FPS, threads=1)  # what clip a should be
    (place / "out" / ROWS / "c.npz").write_bytes(b"cut off")
    (place / "out" / ROWS / "d.json").write_text("{", encoding="utf-8")
    changed = run(place)
    assert (
        changed.kept == 1 and changed.report["rows"][1]["metrics"]["generated"]["patch_zncc"] < 0.5
    )
    np.savez(place / "clips" / "a" / "coverage.npz", coverage=np.ones((FRAMES, SIZE, SIZE), bool))
    exact = run(place).report
    assert exact["coverage_from"] == ["picture", "renderer"]
    assert exact["rows"][0]["metrics"]["generated"]["coverage"] == 1
    assert (
        run(place, options=EvaluateOptions(baselines=False, samples=200, sheet_clips=0)).kept == 0
    )


def spoil(root: Path) -> dict[str, str]:
    """Clips that can't be evaluated, each for its own reason -> what its message must say."""
    good = json.loads((root / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[0])
    names = (
        "size",
        "length",
        "rate",
        "absent",
        "corrupt",
        "cut",
        "no_truth",
        "truth_lost",
        "masks_other",
        "masks_size",
        "outside",
    )
    lines = []
    for name in names:
        shutil.copytree(root / "clips" / "a", root / "clips" / name)
        shutil.copy(root / "generated" / "a.mp4", root / "generated" / f"{name}.mp4")
        mask = np.zeros((1, FRAMES, SIZE, SIZE), bool)
        mask[:, :, 4:12, 4:12] = True
        write_masks(root / "masks" / f"{name}.npz", name, mask, ["cup"], mask, ["cup"])
        lines.append({**good, "clip": name, "take": name, "folder": f"clips/{name}"})
    made = root / "generated"
    write_video(made / "size.mp4", picture(0, width=48), FPS)
    write_video(made / "length.mp4", picture(0, frames=9), FPS)
    write_video(made / "rate.mp4", picture(0), 2 * FPS)
    (made / "absent.mp4").unlink()
    (made / "corrupt.mp4").write_bytes(b"\0" * 500)
    (made / "cut.mp4").write_bytes((made / "a.mp4").read_bytes()[:900])
    lines[6]["ground_truth"] = False
    (root / "clips" / "truth_lost" / "ego_ground_truth.mp4").unlink()
    shutil.copy(root / "masks" / "b.npz", root / "masks" / "masks_other.npz")
    write_masks(
        root / "masks" / "masks_size.npz",
        "masks_size",
        mask[..., :16],
        ["cup"],
        mask[..., :16],
        ["cup"],
    )
    lines[10]["folder"] = "../elsewhere"
    with (root / "manifest.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    return {
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
        "outside": "beside the manifest",
    }


def test_bad_clips_are_named_and_the_rest_is_evaluated(place):
    expected = spoil(place)
    outcome = run(place, options=EvaluateOptions(masks=place / "masks", samples=200))
    assert set(outcome.errors) == set(expected)
    for name, words in expected.items():
        assert words in outcome.errors[name] and "Fix:" in outcome.errors[name], (
            f"{name}: {outcome.errors[name]}"
        )
    assert [row["clip"] for row in outcome.report["rows"]] == list(CLIPS)
    table = (place / "out" / TABLE).read_text(encoding="utf-8")
    assert all(f"- {name}: " in table for name in expected)


def test_nothing_left_to_evaluate_still_gives_a_report(place):
    shutil.rmtree(place / "generated")
    (place / "generated").mkdir()
    outcome = run(place)
    assert (
        len(outcome.errors) == 4
        and outcome.report["clips"] == 0
        and (place / "out" / TABLE).is_file()
    )


def test_paired_comparison_with_another_run(place):
    run(place)
    for seed, name in enumerate(CLIPS):
        write_video(place / "generated" / f"{name}.mp4", picture(seed), FPS, threads=1)
    write_video(place / "clips" / "d" / "ego_ground_truth.mp4", picture(33), FPS, threads=1)
    options = EvaluateOptions(
        compare=place / "out" / REPORT, baselines=False, samples=200, sheet_clips=0
    )
    compared = run(place, out="better", options=options).report["compared_with"]
    assert compared["name"] == "out" and compared["clips"] == 3  # the fourth has another truth now
    assert compared["differences"]["psnr"]["mean"] > 5
    options = EvaluateOptions(
        compare=place / "out" / REPORT, split="test", samples=200, sheet_clips=0
    )
    (place / "splits").mkdir()
    (place / "splits" / "test.txt").write_text("a\nb\n", encoding="utf-8")
    with refuses("protocol of out: got clip_list .* and .*; clips 2 and 4"):
        run(place, out="fewer", options=options)
    (place / "wrong.json").write_text('{"format": "other"}', encoding="utf-8")
    with refuses("another kind"):
        run(place, options=EvaluateOptions(compare=place / "wrong.json"))


def test_further_methods_stand_in_the_same_tables(place):
    shutil.copytree(place / "clips", place / "through_vae")
    for name in CLIPS:
        shutil.copy(
            place / "clips" / name / "ego_ground_truth.mp4", place / "through_vae" / f"{name}.mp4"
        )
    options = EvaluateOptions(also=(("vae", place / "through_vae"),), samples=200, sheet_clips=0)
    report = run(place, options=options).report
    assert (
        list(report["means"])[:2] == ["generated", "vae"]
        and report["means"]["vae"]["psnr"]["mean"] == 100
    )
    assert report["paired"]["generated - vae"]["psnr"]["mean"] < 0
    (place / "splits").mkdir()
    for split, clips in ("train", "a\nb\n"), ("test", "c\nd\n"):
        (place / "splits" / f"{split}.txt").write_text(clips, encoding="utf-8")
    options = replace(options, also=(("generated", place / "through_vae"),))
    seeds = run(place, options=options).report
    both = [seeds["rows"][0]["metrics"][k]["psnr"] for k in ("generated", "generated, seed 2")]
    assert list(seeds["means"]) == list(report["means"])[:1] + list(report["means"])[2:]
    assert both == [report["rows"][0]["metrics"]["generated"]["psnr"], 100]
    assert {
        kind: {name: g["means"]["generated"]["psnr"]["clips"] for name, g in groups.items()}
        for kind, groups in seeds["groups"].items()
    } == {
        "split": {"test": 2, "train": 2},
        "seen and unseen scenes": {"seen in training": 2, "unseen": 1},
        "scene": {"hall": 2, "yard": 1},
    }
    for also in ((("prior", place),), (("x", place / "absent"),)):
        with pytest.raises(EgoXInputError):
            run(place, options=EvaluateOptions(also=also))


def test_fvd_is_one_figure_a_method_and_survives_a_restart(place, monkeypatch):
    """With another feature than I3D's (the mean colour): what is tested is the way from rows to
    report."""
    from safetensors.torch import save_file

    import egox_train.metrics.fvd as fvd

    save_file({"any": torch.zeros(1)}, place / "weights.safetensors")
    monkeypatch.setitem(
        fvd.NETWORKS, "fvd", lambda weights, device: lambda frames: frames.mean((0, 1, 2)).numpy()
    )
    options = EvaluateOptions(
        weights={"fvd": place / "weights.safetensors"},
        also=(("truth itself", place / "same"),),
        samples=200,
        sheet_clips=0,
    )
    (place / "same").mkdir()
    for name in CLIPS:
        shutil.copy(place / "clips" / name / "ego_ground_truth.mp4", place / "same" / f"{name}.mp4")
    report = run(place, options=options).report
    assert (
        set(report["sets"]["fvd"]) == {"generated", "truth itself"}
        and report["sets"]["fvd"]["truth itself"] == 0
    )
    assert (
        report["sets"]["fvd"]["generated"] > 0
        and "FVD" not in report["not_computed"]
        and "fvd" in report["weights"]
    )
    assert f"| {report['sets']['fvd']['generated']:.1f} |" in (place / "out" / TABLE).read_text(
        encoding="utf-8"
    )
    assert run(place, options=options).report == report
    assert run(place).report["sets"] == {}  # rows without features are others


def test_split_and_missing_manifest(place):
    (place / "splits").mkdir()
    (place / "splits" / "test.txt").write_text("b\nd\n", encoding="utf-8")
    outcome = run(place, options=EvaluateOptions(split="test", samples=200, baselines=False))
    assert [row["clip"] for row in outcome.report["rows"]] == ["b", "d"]
    both = run(
        place, options=EvaluateOptions(split="validation,test", samples=200, baselines=False)
    )
    assert both.report["clips"] == 2
    for split in ("validation", "nonsense"):
        with refuses("split"):
            run(place, options=EvaluateOptions(split=split))
    with refuses("manifest"):
        evaluate(place / "none.jsonl", place / "generated", place / "out")


def test_command_ends_non_zero_where_a_clip_failed(place, capsys):
    import train_egox

    command = [
        "evaluate",
        *(str(place / name) for name in ("manifest.jsonl", "generated", "out")),
        "--samples",
        "200",
        "--sheet",
        "2",
    ]
    assert train_egox.main(command) == 0
    assert "4 of 4 clips evaluated (0 kept" in capsys.readouterr().out
    (place / "generated" / "c.mp4").unlink()
    assert train_egox.main(command) == 1
    told = capsys.readouterr().out
    assert "not evaluated: c: " in told and "3 of 4 clips evaluated (3 kept" in told
    assert train_egox.main([*command, "--masks", str(place / "no")]) == 2
    assert "folder of masks" in capsys.readouterr().err


def test_parts_of_rows_make_the_report_of_all(place):
    whole = run(place).report
    shutil.rmtree(place / "out")
    part = run(place, options=replace(FAST, part=(1, 2)))
    assert (part.clips, part.kept, part.report) == (2, 0, {})
    assert not (place / "out" / REPORT).exists()
    sums = run(place, options=replace(FAST, sums=True))
    assert sums.clips == 4 and sums.seconds > 0
    again = run(place)
    assert again.kept == 2 and again.report == whole
    few = run(place, options=replace(FAST, most_clips=2))
    assert [row["clip"] for row in few.report["rows"]] == ["a", "d"]


def test_wrong_weights_are_refused_before_the_first_row(place):
    from safetensors.torch import save_file

    other = place / "other.safetensors"
    save_file({"any": torch.zeros(1)}, other)
    for weights, why in ({"lpips": other}, "AlexNet"), ({"clip": place}, "config.json"):
        with refuses(why):
            run(place, options=EvaluateOptions(weights=weights))
    assert not (place / "out" / ROWS).exists()


def test_equal_reasons_are_told_once():
    errors = {"b": "no video", "a": "no video", "c": "cut off"}
    assert failure_lines(errors) == ["a and 1 more: no video", "c: cut off"]
