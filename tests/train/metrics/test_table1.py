"""Test ``--protocol table1`` of the commands evaluate and masks."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from egox_train.data.object_masks import read_masks, write_masks
from egox_train.metrics import auto_masks, clip_row, table1
from egox_train.metrics.auto_masks import stability, without_small_regions
from egox_train.metrics.evaluate import evaluate
from egox_train.options import EvaluateOptions, ProtocolName
from egox_train.video_writer import write_video
from tests.refusals import refuses
from tests.train.metrics.test_evaluate import soft_picture
from train_egox import main

metrics = pytest.importorskip("skimage.metrics")
SIZE = 64
PROTOCOL: ProtocolName = "table1"
TABLE1_OPTIONS = EvaluateOptions(protocol=PROTOCOL)
TRUTH_NAME = "ego_ground_truth.mp4"


def drifting_video(seed: int, frames: int, width: int = SIZE) -> torch.Tensor:
    """Draw a soft picture that drifts sideways, [T, 64, W, 3]."""
    still_picture = cv2.resize(
        soft_picture(seed)[0].numpy(), (width, SIZE), interpolation=cv2.INTER_CUBIC
    )
    drifting = [np.roll(still_picture, frame, axis=1) for frame in range(frames)]
    return torch.from_numpy(np.stack(drifting).clip(0, 1))


def decode_video(file: Path) -> np.ndarray:  # [T, H, W, 3] uint8
    stream, frames = cv2.VideoCapture(str(file)), []
    while (read_result := stream.read())[0]:
        frames.append(read_result[1][..., ::-1])
    return np.stack(frames)


@pytest.fixture
def protocol_set(tmp_path) -> Path:
    """Write two takes with one generated video each."""
    for seed, clip in enumerate(("a_b_7_56", "c")):
        true_video = drifting_video(seed, 50)
        write_video(tmp_path / "takes" / clip / TRUTH_NAME, true_video, 20.0, threads=1)
        write_video(
            tmp_path / "takes" / clip / "exo.mp4",
            drifting_video(seed + 5, 50, 2 * SIZE),
            20.0,
            threads=1,
        )
        generated_video = (0.8 * true_video + 0.2 * drifting_video(seed + 9, 50))[:49]
        if clip == "c":
            generated_video = torch.cat(
                [drifting_video(3, 49, 7 * SIZE // 4), generated_video], dim=2
            )
        write_video(tmp_path / "made" / f"{clip}.mp4", generated_video, 30.0, threads=1)
    return tmp_path


def evaluate_rows(place: Path, source: str = "takes", **changed_options) -> dict[str, dict]:
    report = evaluate(
        place / source, place / "made", place / "out", replace(TABLE1_OPTIONS, **changed_options)
    ).report
    assert not report["errors"], report["errors"]
    return {row["clip"]: row for row in report["rows"]}


def test_figures_equal_scikit_image_on_luma(protocol_set):
    rows = evaluate_rows(protocol_set)
    assert [row["take"] for row in rows.values()] == ["a_b", "c"]
    for clip, row in rows.items():
        truth = decode_video(protocol_set / "takes" / clip / TRUTH_NAME)[:49]
        canvas = decode_video(protocol_set / "made" / f"{clip}.mp4")
        true_luma, made_luma = (
            frames @ np.array([0.299, 0.587, 0.114]) for frames in (truth, canvas[:, :, -SIZE:])
        )
        expected_psnr, expected_ssim = [], []
        for true_frame, generated_frame in zip(true_luma, made_luma, strict=True):
            expected_psnr.append(
                metrics.peak_signal_noise_ratio(true_frame, generated_frame, data_range=255)
            )
            ssim_options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
            expected_ssim.append(
                metrics.structural_similarity(
                    true_frame, generated_frame, data_range=255, **ssim_options
                )
            )
        if clip == "a_b_7_56":
            exo = decode_video(protocol_set / "takes" / clip / "exo.mp4")[:49]
            resized_exo = [
                cv2.resize(frames, (112, SIZE), interpolation=cv2.INTER_AREA) for frames in exo
            ]
            canvas = np.concatenate([np.stack(resized_exo), canvas], axis=2)
        mean_change = np.abs(np.diff(canvas.astype(float), axis=0)).mean()
        clip_metrics = row["metrics"]["generated"]
        assert (row["frames"], row["size"]) == (49, "64x64")
        assert clip_metrics["psnr"] == pytest.approx(np.mean(expected_psnr), abs=1e-5)
        assert clip_metrics["ssim"] == pytest.approx(np.mean(expected_ssim), abs=1e-5)
        assert clip_metrics["temporal_flickering"] == pytest.approx(1 - mean_change / 255, abs=1e-6)


def test_truth_videos_may_be_plain_files_without_exo(protocol_set):
    for clip in ("a_b_7_56", "c"):
        (protocol_set / "plain").mkdir(exist_ok=True)
        (protocol_set / "takes" / clip / TRUTH_NAME).rename(protocol_set / "plain" / f"{clip}.mp4")
    rows = evaluate_rows(protocol_set, "plain")
    ego_metrics, canvas_metrics = (rows[clip]["metrics"]["generated"] for clip in ("a_b_7_56", "c"))
    assert (
        ego_metrics["temporal_flickering"] is None and canvas_metrics["temporal_flickering"] > 0.9
    )
    with refuses("manifest"):
        evaluate(protocol_set / "plain", protocol_set / "made", protocol_set / "out")
    with refuses("no video"):
        evaluate(protocol_set, protocol_set / "made", protocol_set / "out", TABLE1_OPTIONS)


def test_table1_report_has_eleven_columns_and_published_rows(protocol_set):
    assert evaluate_rows(protocol_set, split="unseen").keys() == {"a_b_7_56", "c"}
    report_content = json.loads((protocol_set / "out" / "report.json").read_text("utf-8"))
    table = (protocol_set / "out" / "report.md").read_text("utf-8").splitlines()
    lines = [line for line in table if line.startswith("|")]
    assert [cell.strip(" ↑↓") for cell in lines[0].split("|")[3:-1]] == [
        *("PSNR", "SSIM", "LPIPS", "CLIP-I", "Location Err (px)", "IoU", "Contour Acc", "FVD"),
        *("Temporal Flickering", "Motion Smoothness", "Dynamic Degree"),
    ]
    assert lines[3].startswith("| *paper, unseen; not measured here* | 100, – | 14.38 | 0.457 |")
    assert "146.49 | 0.091 | 0.572 | 455.1 | 0.986" in lines[4]
    assert report_content["protocol"]["settings"] == dict(table1.SETTINGS)
    assert report_content["not_computed"]["IoU"].endswith("(gated: ask for access there)")
    assert "Path Err" not in "".join(table) and not report_content["groups"]
    assert (
        "references"
        not in evaluate(
            protocol_set / "takes", protocol_set / "made", protocol_set / "out", TABLE1_OPTIONS
        ).report
    )
    with refuses("split"):
        evaluate_rows(protocol_set, split="nonsense")
    for weights, expected_text in (
        ({"fvd-videomae": protocol_set}, "--fvd-videomae"),
        ({}, "no --dino"),
    ):
        with refuses(expected_text):
            evaluate_rows(protocol_set, weights=weights, masks=protocol_set)


def test_networks_receive_the_protocols_pictures(protocol_set, monkeypatch):
    """Check the shapes of the videos that the metric networks receive."""
    shapes_by_network: dict[str, list[tuple]] = {}

    def make_recorder(name: str, file: Path, device: str):
        def record_shapes(*pictures: torch.Tensor):
            shapes_by_network.setdefault(name, []).append(tuple(pictures[0].shape))
            return {
                "raft": torch.tensor([1.9, 2.1, 2.1, 2.1, *([0.0] * 8)]),
                "fvd": pictures[0].mean((0, 1, 2)).numpy(),
            }.get(name, torch.ones(1))

        return record_shapes

    make_recorder.cache_clear = lambda: None
    monkeypatch.setattr(clip_row, "network", make_recorder)
    monkeypatch.setattr("egox_train.metrics.evaluate.network", make_recorder)
    monkeypatch.setattr(clip_row, "motion_smoothness", lambda frames, net: float(net(frames)))
    monkeypatch.setattr("egox_train.metrics.evaluate.weights_hash", lambda *_: "0")
    weights = {name: protocol_set for name in ("lpips", "clip", "raft", "amt", "fvd")}
    report = evaluate(
        protocol_set / "takes",
        protocol_set / "made",
        protocol_set / "out",
        replace(TABLE1_OPTIONS, weights=weights),
    ).report
    ego_shape, canvas_shape = (49, SIZE, SIZE, 3), (49, SIZE, 11 * SIZE // 4, 3)
    assert (
        shapes_by_network["lpips"] == shapes_by_network["clip"] == [ego_shape] * 2
        and shapes_by_network["amt"] == [canvas_shape] * 2
    )
    assert shapes_by_network["raft"] == [(13, *canvas_shape[1:])] * 2  # every fourth of 30 a second
    assert shapes_by_network["fvd"] == [(16, 224, 224, 3)] * 4
    assert report["means"]["generated"]["dynamic_degree"]["mean"] == 1  # three pairs over 2 px
    assert report["sets"]["fvd"]["generated"] > 0


def box_mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    "cosine, expected_pairs, expected_distance, expected_iou, expected_contour",
    [
        # Two pairs of one true object both count: one beside it, one in its place.
        (0.901, 2, (16 + 0) / 2, (0 + 1) / 2, (1 + 1) / 2),
        (0.899, 1, 0.0, 1.0, 1.0),
    ],
)
def test_object_metrics_of_known_boxes_are_exact(
    tmp_path, cosine, expected_pairs, expected_distance, expected_iou, expected_contour
):
    """Check object metrics of boxes with known positions and similarities."""
    true_masks = np.stack([box_mask(8, 8, 24, 24)])[:, None]
    generated_masks = np.stack([box_mask(8, 8, 24, 24), box_mask(24, 8, 40, 24)])[:, None]
    mask_file = tmp_path / "clip.npz"
    write_masks(mask_file, "clip", true_masks, ["1"], generated_masks, ["1", "2"], PROTOCOL)
    embeddings = torch.tensor([[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]])
    frames = torch.zeros(1, SIZE, SIZE, 3)
    object_figures = table1.object_metrics(
        mask_file, "clip", frames, frames, lambda crops: embeddings[: len(crops)]
    )
    assert object_figures["object_pairs"] == expected_pairs
    assert object_figures["location_error_px"] == pytest.approx(expected_distance)
    assert object_figures["iou"] == pytest.approx(expected_iou)
    assert object_figures["contour_accuracy"] == pytest.approx(expected_contour)


def test_objects_are_compared_by_boxes_and_small_ones_left_out(tmp_path):
    ring_mask = box_mask(8, 8, 24, 24) & ~box_mask(10, 10, 22, 22)  # 112 px in a box of 256
    large_ring = np.kron(ring_mask[8:24, 8:24], np.ones((2, 2), bool))
    moved_mask = box_mask(0, 0, 0, 0)
    moved_mask[16:48, 16:48] = large_ring
    small_mask, thin_mask = box_mask(0, 0, 7, 9), box_mask(0, 0, 7, 60)
    frames = torch.zeros(1, SIZE, SIZE, 3)
    mask_file = tmp_path / "clip.npz"
    write_masks(
        mask_file,
        "clip",
        np.stack([ring_mask, small_mask])[:, None],
        ["1", "2"],
        np.stack([moved_mask, thin_mask])[:, None],
        ["1", "2"],
        PROTOCOL,
    )
    crop_shapes: list[tuple] = []

    def embed_crops(crops: list[torch.Tensor]) -> torch.Tensor:
        crop_shapes.extend(tuple(crop.shape[:2]) for crop in crops)
        return torch.ones(len(crops), 1)

    object_figures = table1.object_metrics(mask_file, "clip", frames, frames, embed_crops)
    assert crop_shapes == [(16, 16), (32, 32)] and object_figures["object_pairs"] == 1
    assert object_figures["location_error_px"] == pytest.approx(
        16 * 2**0.5
    )  # of (16, 16) and (32, 32)
    assert object_figures["iou"] == pytest.approx(64 / (256 + 1024 - 64))
    assert object_figures["contour_accuracy"] == 1
    write_masks(
        mask_file,
        "clip",
        np.stack([small_mask])[:, None],
        ["1"],
        np.stack([ring_mask])[:, None],
        ["1"],
        PROTOCOL,
    )
    assert table1.object_metrics(mask_file, "clip", frames, frames, embed_crops)["iou"] is None
    write_masks(
        mask_file,
        "clip",
        np.stack([ring_mask])[:, None],
        ["1"],
        np.stack([ring_mask])[:, None],
        ["1"],
    )
    with refuses("no protocol"):
        table1.object_metrics(mask_file, "clip", frames, frames, embed_crops)
    with refuses("ego views"):
        write_masks(
            mask_file,
            "clip",
            small_mask[None, None, :9],
            ["1"],
            small_mask[None, None, :9],
            ["1"],
            PROTOCOL,
        )
        table1.object_metrics(mask_file, "clip", frames, frames, embed_crops)


def test_masks_command_and_evaluate_give_object_metrics(
    protocol_set, network_writers, tmp_path, monkeypatch
):
    """Check that the commands masks and evaluate give object metrics, with random networks."""
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "Sam2Model"):
        pytest.skip("transformers is too old for SAM 2")
    sam_folder = network_writers.write_sam(tmp_path / "sam", is_confident=True)
    dino_folder = tmp_path / "dino"
    network_writers.write_dino(dino_folder, "dinov3")
    network_writers.write_dino_processor(dino_folder)
    monkeypatch.setattr(auto_masks, "POINTS", 3)  # of 32 a side
    for folder in ("takes", "made"):  # the cut to the shorter keeps the tracking short
        for file in (protocol_set / folder).rglob("*.mp4"):
            write_video(
                file, torch.from_numpy(decode_video(file)[:2] / 255).float(), 30.0, threads=1
            )
    files = [str(protocol_set / name) for name in ("takes", "made")]
    command_words = [
        "masks",
        *files,
        str(protocol_set / "masks"),
        "--protocol",
        PROTOCOL,
        "--model",
        str(sam_folder),
    ]
    assert main(command_words) == 0
    tracked_masks = read_masks(
        protocol_set / "masks" / "c.npz", "c", by_id=False, protocol=PROTOCOL
    )
    assert tracked_masks.truth.shape[1:] == (2, SIZE, SIZE) and len(tracked_masks.truth)
    assert main([*command_words, "--first", str(protocol_set)]) == 2
    rows = evaluate_rows(protocol_set, masks=protocol_set / "masks", weights={"dino": dino_folder})
    clip_metrics = rows["c"]["metrics"]["generated"]
    assert clip_metrics["object_pairs"] > 0 and 0 <= clip_metrics["iou"] <= 1
    empty_masks = np.zeros((1, 2, SIZE, SIZE), bool)
    write_masks(
        protocol_set / "masks" / "c.npz", "c", empty_masks, ["1"], empty_masks, ["1"], PROTOCOL
    )
    rows = evaluate_rows(protocol_set, masks=protocol_set / "masks", weights={"dino": dino_folder})
    report_content = json.loads((protocol_set / "out" / "report.json").read_text("utf-8"))
    other_iou = rows["a_b_7_56"]["metrics"]["generated"]["iou"]
    assert rows["c"]["metrics"]["generated"]["iou"] is None
    assert report_content["means"]["generated"]["iou"]["mean"] == other_iou
    assert "left out of their columns: 1 clips." in (protocol_set / "out" / "report.md").read_text(
        "utf-8"
    )


def test_small_holes_and_islands_are_removed(monkeypatch):
    """Check that holes and islands of at most 4 px are removed from a mask."""
    monkeypatch.setattr(auto_masks, "SMALL_REGION", 4)
    logits = torch.full((1, 12, 24), -1.0)
    logits[0, 1:11, 1:11] = 1.0
    logits[0, 2, 2:6] = -1.0  # hole of 4
    logits[0, 4:6, 2:5] = -1.0  # hole of 6
    logits[0, 1, 14:18] = 1.0  # island of 4
    logits[0, 4, 14:17], logits[0, 5, 17:20] = 1.0, 1.0  # island of 6, joined by a corner
    expected_logits = logits.clone()
    expected_logits[0, 2, 2:6], expected_logits[0, 1, 14:18] = 10.0, -10.0
    assert torch.equal(without_small_regions(logits), expected_logits)
    assert torch.equal(stability(torch.tensor([[[2.0, 0.0, -2.0, 1.0]]])), torch.tensor([1 / 3]))
