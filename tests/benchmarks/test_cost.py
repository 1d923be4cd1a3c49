"""What the geometry takes grows no faster than the tokens, and stays under its budget at the released size."""

from __future__ import annotations

import pytest
import torch

from benchmarks import cost
from tools.rigs import model_rig


def guidance_of(pack, repo_root, size: model_rig.RigSize):
    rig = model_rig.random_rig(pack, repo_root / "models", size)
    return rig.patch().get_all_wrappers("diffusion_model")[0].guidance


def test_extra_memory_grows_no_faster_than_the_tokens(pack, repo_root) -> None:
    """Beside its directions the geometry takes one chunk, however long the clip."""
    chunk = 2**20
    for frames in (17, 33, 65):
        guidance = guidance_of(pack, repo_root, model_rig.RigSize(frames=frames, exo_width=256, height=144))
        directions = cost.directions_bytes(guidance.geometry)
        extra = cost.extra_bytes(pack, guidance, chunk_bytes=chunk)
        whole_map = 4 * guidance.geometry.tokens**2
        # A chunk holds at least one row of the grid, and its scratch has a fixed size of its own.
        assert extra - directions < 2 * chunk < whole_map, (frames, extra, directions)


def test_budget_at_the_released_size(pack, repo_root) -> None:
    """28,028 tokens: directions and a chunk stay under 64 MB."""
    guidance = guidance_of(pack, repo_root, model_rig.RigSize(frames=49, exo_width=784, height=448))
    assert guidance.geometry.tokens == 28_028
    assert cost.directions_bytes(guidance.geometry) + model_rig.core(pack, "gga.attention").CHUNK_BYTES < 64 * 2**20


def test_the_verdict_tells_linear_from_square() -> None:
    def rows(power: float) -> list[cost.Cost]:
        return [cost.Cost(frames=1, exo_size="", tokens=n, plain_s=1.0, guided_s=1.0, plain_mb=1.0, guided_mb=1.0,
                          extra_mb=(n / 1000) ** power) for n in (1000, 2000, 4000)]

    assert cost.grows_at_most_linearly(rows(1.0)) and cost.grows_at_most_linearly(rows(0.0))
    assert not cost.grows_at_most_linearly(rows(2.0))


@pytest.mark.slow
def test_the_bench_runs(capsys) -> None:
    if torch.cuda.is_available():
        pytest.skip("the CPU's counted storages are what this test reads")
    assert cost.main(["--small"]) == 0
    assert "bytes/token" in capsys.readouterr().out
