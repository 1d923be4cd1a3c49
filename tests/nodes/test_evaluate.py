"""EgoX Evaluate: the node's values are the core's, and what doesn't fit is refused."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from tests.refusals import refuses

pytest.importorskip("torchmetrics")


@pytest.fixture(scope="module")
def node(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.study").EgoXEvaluate


@pytest.fixture(scope="module")
def videos() -> tuple[torch.Tensor, torch.Tensor]:
    """(generated, truth): 0.1 apart, so PSNR is 20 dB (8-bit rounding: 26 / 255 apart)."""
    truth = torch.full((3, 16, 16, 3), 0.4)
    truth[:, 4:9, 4:9] = 0.8
    return truth + 26 / 255, truth


def test_values_of_a_known_pair(node, videos):
    output = node.execute(*videos)
    report, psnr, ssim = output.result
    assert psnr == pytest.approx(19.83, abs=0.01) and 0.5 < ssim < 1
    assert "PSNR ↑: 19.83" in report and "PSNR inside" not in report and "IoU" not in report
    assert output.ui is not None


def test_coverage_and_masks_add_their_rows(node, videos):
    generated, truth = videos
    coverage = torch.zeros(3, 16, 16)
    coverage[:, :8] = 1
    there, found = torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)
    there[:, 4:9, 4:9] = found[:2, 4:9, 6:11] = 1
    report = node.execute(generated, truth, coverage, found, there).result[0]
    for line in (
        "Coverage: 0.500",
        "PSNR inside ↑: 19.83",
        "Location Err (px) ↓: 2.00",
        "Missing masks ↓: 1",
    ):
        assert line in report, report


def test_what_does_not_fit_is_refused(node, videos, pack, monkeypatch):
    generated, truth = videos
    mask = torch.ones(3, 16, 16)
    for arguments, message in (
        ((generated[:2], truth), "frames to compare"),
        ((generated, truth, mask[:1]), "coverage"),
        ((generated, truth, None, mask), "object masks"),
        ((generated, truth, None, mask, mask[:, :8]), "true_mask"),
    ):
        with refuses(message):
            node.execute(*arguments)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with refuses("pip install torchmetrics"):
        node.execute(generated, truth)
