"""Test ``bench preview``: its fills, and its figures on a small drawn take."""

import json

import pytest
import torch

from benchmarks.preview import OTHER_FILLS, main
from egox_core.file_names import TRUTH
from lab.drawn import SyntheticSpec, make_take, write_take

SPEC = SyntheticSpec(
    seed=6, frames=5, fps=5.0, exo_width=128, exo_height=64, ego_size=64, edge_samples=1
)


@pytest.mark.parametrize("name", OTHER_FILLS)
def test_a_fill_keeps_what_is_known_and_goes_on_around_it(name):
    picture = torch.zeros(24, 24, 3)
    picture[:, :12], picture[:, 12:] = 0.4, 0.8
    hole_mask = torch.zeros(24, 24, dtype=torch.bool)
    hole_mask[8:14, 3:9] = True
    filled = OTHER_FILLS[name](picture * ~hole_mask[..., None], hole_mask)
    assert torch.equal(filled[~hole_mask], picture[~hole_mask])
    assert 0.3 < filled[hole_mask].min() and filled[hole_mask].max() < 0.75


def test_the_truth_itself_is_the_best_video_of_a_take(tmp_path, capsys):
    folder = tmp_path / "täke"
    write_take(make_take(SPEC), folder)
    also = f"truth={tmp_path / '{take}' / TRUTH}"
    words = [str(folder), "--also", also, "--frames", "5", "--shading", "off", "--json"]
    assert main([*words, "--scale", "as-is"]) == 0
    figures = json.loads(capsys.readouterr().out)["takes"]["täke"]
    best = figures.pop("truth")
    assert best["frames"] == 5 and best["ssim"] == pytest.approx(1)
    assert best["detail"] == pytest.approx(1)
    assert all(best["psnr"] > row["psnr"] + 10 for row in figures.values())
    preview = figures["**preview: filled by Telea, shaded**"]
    assert preview["psnr"] > figures["prior"]["psnr"] + 1
    assert preview["detail"] > figures["shading alone, on exo's mean colour"]["detail"] + 0.2
