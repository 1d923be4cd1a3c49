"""The bench of steps and λ_g: what moves nothing is told, and so is what one step can't do."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

for package in ("torchmetrics", "diffusers", "peft"):
    pytest.importorskip(package)

from benchmarks import steering as bench  # noqa: E402
from lab.drawn import SyntheticSpec, make_take  # noqa: E402
from lab.small_model.held_out import HeldOutClip, clip_of_take  # noqa: E402
from lab.small_model.sampler import SampleSettings  # noqa: E402
from lab.small_model.scores import KERNEL  # noqa: E402
from lab.small_model.videos import VideoStore  # noqa: E402

SPEC = SyntheticSpec(
    frames=5,
    fps=5.0,
    exo_width=64,
    exo_height=32,
    ego_size=32,
    texture="plain",
    clutter="calm",
    object_scale=2.0,
    edge_samples=1,
)


class Steered(SimpleNamespace):
    """The truth, grey at one step, and ``step`` darker for each unit that λ_g lies away from 3."""

    def fingerprint(self, lora: str) -> str:
        return f"{lora}, step {self.step}"

    def generate(self, clips, settings: SampleSettings) -> np.ndarray:
        lambda_g = 3.0 if settings.lambda_g is None else settings.lambda_g
        if settings.steps == 1:
            return np.stack([np.full(clip.truth.shape, 128, np.uint8) for clip in clips])
        away = round(self.step * abs(lambda_g - 3.0))
        return np.stack(
            [
                np.maximum(clip.truth.numpy().astype(np.int16) - away, 0).astype(np.uint8)
                for clip in clips
            ]
        )


@pytest.fixture(scope="module")
def clips() -> list[HeldOutClip]:
    return [clip_of_take(make_take(replace(SPEC, seed=seed))) for seed in (1, 2, 3)]


@pytest.mark.parametrize(("step", "moved"), [(4, 12.0), (0, 0.0)])
def test_what_lambda_moves_is_told_beside_its_own(
    clips, tmp_path, monkeypatch, step: int, moved: float
) -> None:
    monkeypatch.setattr(bench, "TAKES", 3)
    result = bench.measure(clips, VideoStore(folder=tmp_path, sampler=Steered(step=step)))
    rows = {row["row"]: row for row in result["rows"]}
    assert set(rows) == {bench.OWN, bench.ONE_STEP, "λ_g 0", "λ_g 1", "λ_g 3", "λ_g 10"}
    assert rows["λ_g 0"]["moved"]["mean"] == pytest.approx(moved, abs=0.3)
    assert rows["λ_g 3"]["moved"]["mean"] == 0 == rows["λ_g 3"]["leads"][KERNEL]["mean"]
    assert (rows["λ_g 1"]["leads"]["psnr_outside"]["mean"] < -1) is (step > 0)
    assert rows[bench.ONE_STEP]["means"][KERNEL]["mean"] > rows[bench.OWN]["means"][KERNEL]["mean"]
    assert result["less_of_one_step"]["mean"] < 0 and result["passed"] is (step > 0)
    assert bench.markdown(result).count("\n| ") == len(rows) + 2  # heads and rule
