"""``evaluate --protocol table1`` and ``masks --protocol table1``: readers, figures, objects, report."""

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
from tests.train.metrics.test_evaluate import picture
from train_egox import main

metrics = pytest.importorskip("skimage.metrics")
SIZE = 64
NAME: ProtocolName = "table1"
OPTIONS = EvaluateOptions(protocol=NAME)
TRUTH = "ego_ground_truth.mp4"


def moving(seed: int, frames: int, width: int = SIZE) -> torch.Tensor:
    """Draw a soft picture that drifts, [T, 64, W, 3]."""
    still = cv2.resize(picture(seed)[0].numpy(), (width, SIZE), interpolation=cv2.INTER_CUBIC)
    drifting = [np.roll(still, n, axis=1) for n in range(frames)]
    return torch.from_numpy(np.stack(drifting).clip(0, 1))


def decoded(file: Path) -> np.ndarray:  # [T, H, W, 3] uint8
    stream, frames = cv2.VideoCapture(str(file)), []
    while (answer := stream.read())[0]:
        frames.append(answer[1][..., ::-1])
    return np.stack(frames)


@pytest.fixture
def place(tmp_path) -> Path:
    """Write two takes. The truth has 50 frames at 20 a second, the generated video 49 at 30: an ego
    video of one, the canvas of the other."""
    for seed, clip in enumerate(("a_b_7_56", "c")):
        truth = moving(seed, 50)
        write_video(tmp_path / "takes" / clip / TRUTH, truth, 20.0, threads=1)
        write_video(
            tmp_path / "takes" / clip / "exo.mp4", moving(seed + 5, 50, 2 * SIZE), 20.0, threads=1
        )
        generated = (0.8 * truth + 0.2 * moving(seed + 9, 50))[:49]
        if clip == "c":
            generated = torch.cat([moving(3, 49, 7 * SIZE // 4), generated], dim=2)
        write_video(tmp_path / "made" / f"{clip}.mp4", generated, 30.0, threads=1)
    return tmp_path


def rows_of(place: Path, source: str = "takes", **more) -> dict[str, dict]:
    report = evaluate(
        place / source, place / "made", place / "out", replace(OPTIONS, **more)
    ).report
    assert not report["errors"], report["errors"]
    return {row["clip"]: row for row in report["rows"]}


def test_figures_are_scikit_images_of_luma(place):
    rows = rows_of(place)
    assert [row["take"] for row in rows.values()] == ["a_b", "c"]
    for clip, row in rows.items():
        truth = decoded(place / "takes" / clip / TRUTH)[:49]
        canvas = decoded(place / "made" / f"{clip}.mp4")
        true, made_luma = (
            x @ np.array([0.299, 0.587, 0.114]) for x in (truth, canvas[:, :, -SIZE:])
        )
        decibels, similar = [], []
        for a, b in zip(true, made_luma, strict=True):
            decibels.append(metrics.peak_signal_noise_ratio(a, b, data_range=255))
            how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
            similar.append(metrics.structural_similarity(a, b, data_range=255, **how))
        if clip == "a_b_7_56":
            exo = decoded(place / "takes" / clip / "exo.mp4")[:49]
            half = [cv2.resize(x, (112, SIZE), interpolation=cv2.INTER_AREA) for x in exo]
            canvas = np.concatenate([np.stack(half), canvas], axis=2)
        change = np.abs(np.diff(canvas.astype(float), axis=0)).mean()
        values = row["metrics"]["generated"]
        assert (row["frames"], row["size"]) == (49, "64x64")
        assert values["psnr"] == pytest.approx(np.mean(decibels), abs=1e-5)
        assert values["ssim"] == pytest.approx(np.mean(similar), abs=1e-5)
        assert values["temporal_flickering"] == pytest.approx(1 - change / 255, abs=1e-6)


def test_takes_may_be_links_to_where_they_lie(place):
    (place / "links").mkdir()
    for clip in ("a_b_7_56", "c"):
        try:
            (place / "links" / clip).symlink_to(place / "takes" / clip, target_is_directory=True)
        except OSError:
            pytest.skip("no right to make links")
    linked = {clip: row["metrics"] for clip, row in rows_of(place, "links").items()}
    assert linked == {clip: row["metrics"] for clip, row in rows_of(place).items()}


def test_plain_videos_are_taken_and_without_exo_there_is_no_canvas(place):
    for clip in ("a_b_7_56", "c"):
        (place / "plain").mkdir(exist_ok=True)
        (place / "takes" / clip / TRUTH).rename(place / "plain" / f"{clip}.mp4")
    rows = rows_of(place, "plain")
    lonely, canvas = (rows[clip]["metrics"]["generated"] for clip in ("a_b_7_56", "c"))
    assert lonely["temporal_flickering"] is None and canvas["temporal_flickering"] > 0.9
    with refuses("manifest"):
        evaluate(place / "plain", place / "made", place / "out")
    with refuses("no video"):
        evaluate(place, place / "made", place / "out", OPTIONS)


def test_the_report_has_eleven_columns_and_published_rows(place):
    assert rows_of(place, split="unseen").keys() == {"a_b_7_56", "c"}
    report = json.loads((place / "out" / "report.json").read_text("utf-8"))
    table = (place / "out" / "report.md").read_text("utf-8").splitlines()
    lines = [line for line in table if line.startswith("|")]
    assert [cell.strip(" ↑↓") for cell in lines[0].split("|")[3:-1]] == [
        *("PSNR", "SSIM", "LPIPS", "CLIP-I", "Location Err (px)", "IoU", "Contour Acc", "FVD"),
        *("Temporal Flickering", "Motion Smoothness", "Dynamic Degree"),
    ]
    assert lines[3].startswith("| *paper, unseen; not measured here* | 100, – | 14.38 | 0.457 |")
    assert "146.49 | 0.091 | 0.572 | 455.1 | 0.986" in lines[4]
    assert report["protocol"]["settings"] == dict(table1.SETTINGS)
    assert report["not_computed"]["IoU"].endswith("(gated: ask for access there)")
    assert "Path Err" not in "".join(table) and not report["groups"]
    assert (
        "references" not in evaluate(place / "takes", place / "made", place / "out", OPTIONS).report
    )
    with refuses("split"):
        rows_of(place, split="nonsense")
    for weights, why in (({"fvd-videomae": place}, "--fvd-videomae"), ({}, "no --dino")):
        with refuses(why):
            rows_of(place, weights=weights, masks=place)


def test_networks_get_the_protocols_pictures(place, monkeypatch):
    """The test looks at the input of each network. The networks themselves are compared elsewhere."""
    shapes_by_network: dict[str, list[tuple]] = {}

    def network(name: str, file: Path, device: str):
        def answer(*pictures: torch.Tensor):
            shapes_by_network.setdefault(name, []).append(tuple(pictures[0].shape))
            return {
                "raft": torch.tensor([1.9, 2.1, 2.1, 2.1, *([0.0] * 8)]),
                "fvd": pictures[0].mean((0, 1, 2)).numpy(),
            }.get(name, torch.ones(1))

        return answer

    network.cache_clear = lambda: None
    monkeypatch.setattr(clip_row, "network", network)
    monkeypatch.setattr("egox_train.metrics.evaluate.network", network)
    monkeypatch.setattr(clip_row, "motion_smoothness", lambda frames, net: float(net(frames)))
    monkeypatch.setattr("egox_train.metrics.evaluate.weights_hash", lambda *_: "0")
    weights = {name: place for name in ("lpips", "clip", "raft", "amt", "fvd")}
    report = evaluate(
        place / "takes", place / "made", place / "out", replace(OPTIONS, weights=weights)
    ).report
    ego, canvas = (49, SIZE, SIZE, 3), (49, SIZE, 11 * SIZE // 4, 3)
    assert (
        shapes_by_network["lpips"] == shapes_by_network["clip"] == [ego] * 2
        and shapes_by_network["amt"] == [canvas] * 2
    )
    assert shapes_by_network["raft"] == [(13, *canvas[1:])] * 2  # every fourth of 30 a second
    assert shapes_by_network["fvd"] == [(16, 224, 224, 3)] * 4
    assert report["means"]["generated"]["dynamic_degree"]["mean"] == 1  # three pairs over 2 px
    assert report["sets"]["fvd"]["generated"] > 0


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    "cosine, pairs, centres, overlap, shape",
    [
        # Two pairs of one true object both count: one beside it, one in its place.
        (0.901, 2, (16 + 0) / 2, (0 + 1) / 2, (1 + 1) / 2),
        (0.899, 1, 0.0, 1.0, 1.0),
    ],
)
def test_objects_with_known_answers(tmp_path, cosine, pairs, centres, overlap, shape):
    """Looks are given: true (1, 0), and the generated ones (1, 0) and (cosine, ...). The second
    generated object is 16 px to the right."""
    true = np.stack([box(8, 8, 24, 24)])[:, None]
    generated = np.stack([box(8, 8, 24, 24), box(24, 8, 40, 24)])[:, None]
    file = tmp_path / "clip.npz"
    write_masks(file, "clip", true, ["1"], generated, ["1", "2"], NAME)
    vectors = torch.tensor([[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]])
    frames = torch.zeros(1, SIZE, SIZE, 3)
    values = table1.object_metrics(
        file, "clip", frames, frames, lambda crops: vectors[: len(crops)]
    )
    assert values["object_pairs"] == pairs
    assert values["location_error_px"] == pytest.approx(centres)
    assert values["iou"] == pytest.approx(overlap)
    assert values["contour_accuracy"] == pytest.approx(shape)


def test_boxes_count_not_masks_and_small_ones_go(tmp_path):
    ring = box(8, 8, 24, 24) & ~box(10, 10, 22, 22)  # 112 px in a box of 256
    large = np.kron(ring[8:24, 8:24], np.ones((2, 2), bool))
    moved = box(0, 0, 0, 0)
    moved[16:48, 16:48] = large
    lost, thin = box(0, 0, 7, 9), box(0, 0, 7, 60)
    frames = torch.zeros(1, SIZE, SIZE, 3)
    file = tmp_path / "clip.npz"
    write_masks(
        file,
        "clip",
        np.stack([ring, lost])[:, None],
        ["1", "2"],
        np.stack([moved, thin])[:, None],
        ["1", "2"],
        NAME,
    )
    shapes: list[tuple] = []

    def look(crops: list[torch.Tensor]) -> torch.Tensor:
        shapes.extend(tuple(crop.shape[:2]) for crop in crops)
        return torch.ones(len(crops), 1)

    values = table1.object_metrics(file, "clip", frames, frames, look)
    assert shapes == [(16, 16), (32, 32)] and values["object_pairs"] == 1
    assert values["location_error_px"] == pytest.approx(16 * 2**0.5)  # of (16, 16) and (32, 32)
    assert values["iou"] == pytest.approx(64 / (256 + 1024 - 64))
    assert values["contour_accuracy"] == 1
    write_masks(
        file, "clip", np.stack([lost])[:, None], ["1"], np.stack([ring])[:, None], ["1"], NAME
    )
    assert table1.object_metrics(file, "clip", frames, frames, look)["iou"] is None
    write_masks(file, "clip", np.stack([ring])[:, None], ["1"], np.stack([ring])[:, None], ["1"])
    with refuses("no protocol"):
        table1.object_metrics(file, "clip", frames, frames, look)
    with refuses("ego views"):
        write_masks(file, "clip", lost[None, None, :9], ["1"], lost[None, None, :9], ["1"], NAME)
        table1.object_metrics(file, "clip", frames, frames, look)


def test_masks_looks_and_pairs_from_two_commands(place, networks, tmp_path, monkeypatch):
    """SAM 2 of random weights that is sure of its masks, and DINOv3, to which all look alike."""
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "Sam2Model"):
        pytest.skip("transformers is too old for SAM 2")
    sam, dino = networks.write_sam(tmp_path / "sam", sure=True), tmp_path / "dino"
    networks.write_dino(dino, "dinov3")
    networks.write_dino_processor(dino)
    monkeypatch.setattr(auto_masks, "POINTS", 3)  # of 32 a side
    for folder in ("takes", "made"):  # the cut to the shorter keeps the tracking short
        for file in (place / folder).rglob("*.mp4"):
            write_video(file, torch.from_numpy(decoded(file)[:2] / 255).float(), 30.0, threads=1)
    files = [str(place / name) for name in ("takes", "made")]
    command = ["masks", *files, str(place / "masks"), "--protocol", NAME, "--model", str(sam)]
    assert main(command) == 0
    masks = read_masks(place / "masks" / "c.npz", "c", by_id=False, protocol=NAME)
    assert masks.truth.shape[1:] == (2, SIZE, SIZE) and len(masks.truth)
    assert main([*command, "--first", str(place)]) == 2
    rows = rows_of(place, masks=place / "masks", weights={"dino": dino})
    values = rows["c"]["metrics"]["generated"]
    assert values["object_pairs"] > 0 and 0 <= values["iou"] <= 1
    none = np.zeros((1, 2, SIZE, SIZE), bool)
    write_masks(place / "masks" / "c.npz", "c", none, ["1"], none, ["1"], NAME)
    rows = rows_of(place, masks=place / "masks", weights={"dino": dino})
    report = json.loads((place / "out" / "report.json").read_text("utf-8"))
    alone = rows["a_b_7_56"]["metrics"]["generated"]["iou"]
    assert rows["c"]["metrics"]["generated"]["iou"] is None
    assert report["means"]["generated"]["iou"]["mean"] == alone
    assert "left out of their columns: 1 clips." in (place / "out" / "report.md").read_text("utf-8")


def test_small_regions_are_filled_and_emptied(monkeypatch):
    """In a picture made by hand, a hole and an island of 4 px go, and of 6 px stay. Diagonals are
    neighbours."""
    monkeypatch.setattr(auto_masks, "SMALL_REGION", 4)
    logits = torch.full((1, 12, 24), -1.0)
    logits[0, 1:11, 1:11] = 1.0
    logits[0, 2, 2:6] = -1.0  # hole of 4
    logits[0, 4:6, 2:5] = -1.0  # hole of 6
    logits[0, 1, 14:18] = 1.0  # island of 4
    logits[0, 4, 14:17], logits[0, 5, 17:20] = 1.0, 1.0  # island of 6, joined by a corner
    expected = logits.clone()
    expected[0, 2, 2:6], expected[0, 1, 14:18] = 10.0, -10.0
    assert torch.equal(without_small_regions(logits), expected)
    assert torch.equal(stability(torch.tensor([[[2.0, 0.0, -2.0, 1.0]]])), torch.tensor([1 / 3]))
