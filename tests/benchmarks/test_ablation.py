"""The ablation's bench: disturbances are what they say, rows are kept, the sampler is the trainer's own loop."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

for package in ("torchmetrics", "peft", "pydantic"):
    pytest.importorskip(package)

from benchmarks.ablation import chosen_rows, figures, markdown, score_row, with_rows_of  # noqa: E402
from egox_core.errors import EgoXInputError  # noqa: E402
from egox_core.trajectory.poses import camera_centre  # noqa: E402
from lab.drawn import SyntheticSpec, make_take  # noqa: E402
from lab.small_model.ablation_rows import (  # noqa: E402
    DEPTH_ERRORS,
    DISTURBANCES,
    POSE_DEG,
    POSE_M,
    rows_of,
    with_depth_trust,
)
from lab.small_model.contract import FULL, SampleSettings  # noqa: E402
from lab.small_model.held_out import HeldOutClip, clip_of_take  # noqa: E402
from lab.small_model.wan_sampler import WanSampler  # noqa: E402

SPEC = SyntheticSpec(frames=5, fps=5.0, exo_width=64, exo_height=32, ego_size=32, texture="plain", clutter="calm",
                     edge_samples=1)
VAE = Path(__file__).resolve().parent.parent.parent / "models" / "vae" / "egox_standin_wan_vae.safetensors"
SETTINGS = SampleSettings(steps=2)


@pytest.fixture(scope="module")
def clips() -> list[HeldOutClip]:
    return [clip_of_take(make_take(replace(SPEC, seed=seed))) for seed in (1, 2)]


@pytest.fixture(scope="module")
def tiny():
    file = Path(__file__).resolve().parent.parent / "core" / "tiny_cache.py"
    spec = importlib.util.spec_from_file_location("egox_tests_tiny_cache_for_bench", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sampler(tiny, tmp_path_factory) -> WanSampler:
    """A random base with LoRAs that two steps of training made, one as usual and one with a noised exo half."""
    from egox_core.train.config import parse_config
    from egox_core.train.loop import train

    folder = tmp_path_factory.mktemp("models")
    tiny.make_cache(folder / "cache")
    tiny.make_base(folder / "base.safetensors")
    files = {}
    for name, conditioning in ((FULL, {"lambda_g": 2.0}), ("no_clean_latent", {"exo_clean": False}),
                               ("no_prior", {"prior": "none"}), ("no_gga", {"gga_mode": "off"})):
        settings = tiny.settings(folder, output=str(folder / name), steps=2, conditioning=conditioning)
        train(parse_config(settings))
        files[name] = folder / name / "lora.safetensors"
    return WanSampler(base=folder / "base.safetensors", vae=VAE, loras=files)


def test_a_disturbance_is_what_it_says_and_always_the_same(clips) -> None:
    clip = clips[0]
    for name, disturb in DISTURBANCES.items():
        once, again = disturb(clip), disturb(clip)
        assert torch.equal(once.prior, again.prior) and torch.equal(once.truth, clip.truth)
        assert torch.equal(once.depth.depth_m.nan_to_num(-1), again.depth.depth_m.nan_to_num(-1))
        assert (name == "") == torch.equal(once.prior, clip.prior), name
    off = [float((DISTURBANCES[name](clip).depth.depth_m / clip.depth.depth_m).log().abs().median())
           for name in DEPTH_ERRORS]
    assert 0.005 < off[0] < 0.04 and off[0] < off[1] < 0.08
    gone = DISTURBANCES["half the depth missing"](clip)
    assert 0.3 < gone.depth.depth_m.isnan().float().mean() < 0.7
    assert gone.coverage.float().mean() < clip.coverage.float().mean()
    nothing = DISTURBANCES["no depth"](clip)
    assert not nothing.coverage.any() and nothing.depth.depth_m.isnan().all()
    turned, moved = (DISTURBANCES[n](clip).trajectory.w2c for n in ("pose 5 degrees off", "pose 10 cm off"))
    between = turned[:, :, :3] @ clip.trajectory.w2c[:, :, :3].transpose(1, 2)
    cosine = (between.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    assert torch.allclose(cosine.acos().rad2deg(), torch.full((5,), POSE_DEG, dtype=torch.float64), atol=1e-6)
    centres = [torch.stack([camera_centre(p) for p in w2c]) for w2c in (turned, moved, clip.trajectory.w2c)]
    assert torch.allclose(centres[0], centres[2]) and torch.equal(moved[:, :, :3], clip.trajectory.w2c[:, :, :3])
    assert torch.allclose((centres[1] - centres[2]).norm(dim=1), torch.full((5,), POSE_M, dtype=torch.float64))
    trusted = with_depth_trust(clip)
    assert trusted.depth.trust.min() < 0.5 and torch.equal(trusted.prior, clip.prior)


def test_the_rows(clips) -> None:
    rows = rows_of((FULL, "no_gga", "no_prior", "no_clean_latent", "full@2", "no_gga@2"), SETTINGS)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names) and names[0] == FULL
    for place, row in enumerate(rows):
        assert row.against in names[:place] or row.name == FULL, row.name
    second = next(row for row in rows if row.name == "without GGA, seed 2")
    assert second.against == "full, seed 2" and second.settings.lora == "no_gga@2"
    assert {"without GGA", "without ego prior", "without clean latent", "λ_g 10, trust mask"} <= set(names)
    few = chosen_rows(rows, ["no depth, trust mask", "no such row"])
    assert [row.name for row in few] == [FULL, "no depth", "no depth, trust mask"]
    assert [row.name for row in rows_of((FULL,), SETTINGS, ["parts"])] == [FULL]


def test_a_batch_is_its_clips_one_by_one(sampler, clips) -> None:
    from egox_core.train.samples import collate
    from egox_core.train.sampling import sample_ego

    own = sampler.conditioning_of(SETTINGS)
    assert (own.lambda_g, own.exo_clean, own.prior) == (2.0, True, "prior")
    fused = sampler._model(SETTINGS)
    samples = sampler._samples(clips, own, fused)
    for more in ({}, {"exo_clean": False}, {"exo_clean": False, "exo_loss": True}):
        conditioning = own.model_copy(update=more)
        together = sample_ego(fused.model, fused.scope, collate(samples), conditioning, steps=2, seed=SETTINGS.seed)
        for sample, latent in zip(samples, together, strict=True):
            alone = sample_ego(fused.model, fused.scope, sample, conditioning, steps=2, seed=SETTINGS.seed)
            assert torch.allclose(alone[0], latent, atol=1e-4)  # sums in another order in a batch of two


def test_each_setting_and_lora_makes_a_video_of_its_own(sampler, clips) -> None:
    one = clips[:1]
    changes = {"": {}, "strength": {"strength": 0.0}, "λ": {"lambda_g": 0.0}, "mode": {"gga_mode": "power"},
               "rays": {"rays": "pinhole"}, "seed": {"seed": 5}, "shift": {"shift": 20.0},
               "exo": {"lora": "no_clean_latent"},
               "prior": {"lora": "no_prior"}, "gga": {"lora": "no_gga"}}
    made = {name: sampler.generate(one, replace(SETTINGS, **more)) for name, more in changes.items()}
    for name, video in made.items():
        assert video.shape == (1, 5, 32, 32, 3) and video.dtype == np.uint8
        assert all(name == other or not np.array_equal(video, twin) for other, twin in made.items()), name
    trusting = replace(SETTINGS, soft_trust=True)
    assert not np.array_equal(made[""], sampler.generate([with_depth_trust(clips[0])], trusting))
    assert sampler.conditioning_of(replace(SETTINGS, lora="no_clean_latent")).exo_clean is False
    assert sampler.conditioning_of(replace(SETTINGS, lora="no_prior")).prior == "none"
    assert sampler.conditioning_of(replace(SETTINGS, lora="no_gga")).gga_mode == "off"
    fewer = WanSampler(base=sampler.base, vae=VAE, loras={FULL: sampler.files[FULL]})
    assert fewer.fingerprint(FULL) == sampler.fingerprint(FULL) != sampler.fingerprint("no_gga")
    assert fewer.fingerprint() != sampler.fingerprint(), "of all weights"
    vae = sampler.through_vae(np.stack([clips[0].truth.numpy()]))
    assert vae.shape == (1, 5, 32, 32, 3)
    for settings, message in ((replace(SETTINGS, lora="other"), "LoRA"), (replace(SETTINGS, cfg=3.0), "cfg")):
        with pytest.raises(EgoXInputError, match=message):
            sampler.generate(one, settings)


def test_rows_are_kept_and_compared(clips, tmp_path: Path) -> None:
    calls = []

    def generate(some, settings: SampleSettings) -> np.ndarray:
        calls.append(settings)
        grey = 0.5 if settings.lambda_g == 0 else 0.9
        return np.stack([(grey * clip.truth.numpy()).astype(np.uint8) for clip in some])

    fake = SimpleNamespace(generate=generate, fingerprint=lambda lora: "fake")
    rows = chosen_rows(rows_of((FULL,), SETTINGS), ["λ_g 0", "half the depth missing", "half the depth missing, "
                                                    "trust mask"])
    scores = {row.name: score_row(row, clips, fake, tmp_path) for row in rows}
    assert len(calls) == 4
    assert {row.name: score_row(row, clips, fake, tmp_path) for row in rows} == scores and len(calls) == 4
    # All rows of this sampler but λ_g 0 are the same video, and regions are always those of the true prior.
    told = {row.name: figures(row, scores) for row in rows}
    assert told[FULL]["differences"] == {} and told["λ_g 0"]["differences"]["psnr"]["high"] < -5
    same = told["half the depth missing"]["differences"]
    assert same["psnr"] == {**same["psnr"], "mean": 0.0, "low": 0.0, "high": 0.0} and same["psnr_inside"]["mean"] == 0
    table = markdown({"takes": 2, "frames": 5, "ego_px": 32, "steps": 2, "commands": ["run"],
                      "rows": list(told.values())})
    assert "| λ_g 0 | full | -" in table and "## What it can bear" in table and "LoRA strength" not in table
    other = SimpleNamespace(generate=generate, fingerprint=lambda lora: "others' weights")
    score_row(rows[0], clips, other, tmp_path)
    assert len(calls) == 5


def test_a_record_keeps_rows_of_the_same_weights() -> None:
    def record(names: list[str], seed: int = 1234, **weights: str) -> dict:
        loras = {key.removeprefix("lora "): {} for key in weights if key.startswith("lora ")}
        return {"takes": 64, "frames": 9, "ego_px": 128, "steps": 8, "cfg": 1.0, "commands": [" ".join(names)],
                "model": {"fingerprint": names[-1], "weights": weights, "loras": loras},
                "rows": [{"row": name, "of": names[-1], "settings": {"seed": seed}} for name in names]}

    parts = record([FULL, "full, seed 1", "without GGA, seed 1"],
                   **{"base": "b", "lora full": "f", "lora full@1": "1", "lora no_gga@1": "g"})
    later = record([FULL, "λ_g 0"], **{"base": "b", "lora full": "f"})
    both = with_rows_of(parts, later)
    assert [row["row"] for row in both["rows"]] == [FULL, "full, seed 1", "without GGA, seed 1", "λ_g 0"]
    assert both["rows"][0]["of"] == "λ_g 0" and set(both["model"]["loras"]) == {FULL, "full@1", "no_gga@1"}
    assert both["commands"] == [*parts["commands"], *later["commands"]] and both["model"]["weights"]["base"] == "b"
    assert with_rows_of(both, later) == both  # measured again
    for other in (record([FULL, "λ_g 0"], **{"base": "b", "lora full": "trained anew"}), {**later, "takes": 2},
                  record([FULL, "λ_g 0"], 5, **{"base": "b", "lora full": "f"})):
        assert with_rows_of(parts, other) == other
