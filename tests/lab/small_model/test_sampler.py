"""The sampler of held-out clips, with a LoRA of two steps."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

for package in ("torchmetrics", "diffusers", "peft", "pydantic"):
    pytest.importorskip(package)

from lab.drawn import SyntheticSpec, make_take  # noqa: E402
from lab.small_model.held_out import HeldOutClip, clip_of_take  # noqa: E402
from lab.small_model.sampler import SampleSettings, SmallModelSampler  # noqa: E402
from tests.paths import STANDIN_VAE  # noqa: E402
from tests.train import tiny_cache as tiny  # noqa: E402

SPEC = SyntheticSpec(
    frames=5,
    fps=5.0,
    exo_width=64,
    exo_height=32,
    ego_size=32,
    texture="plain",
    clutter="calm",
    edge_samples=1,
)
SETTINGS = SampleSettings(steps=2)


@pytest.fixture(scope="module")
def clips() -> list[HeldOutClip]:
    return [clip_of_take(make_take(replace(SPEC, seed=seed))) for seed in (1, 2)]


@pytest.fixture(scope="module")
def sampler(tmp_path_factory) -> SmallModelSampler:
    """A random base with a LoRA of two steps."""

    folder = tmp_path_factory.mktemp("models")
    tiny.make_cache(folder / "cache")
    tiny.make_base(folder / "base.safetensors")
    save_file({"embedding": torch.zeros(1, 24)}, folder / "text.safetensors")
    tiny.train(folder, output=str(folder), steps=2, conditioning={"lambda_g": 2.0})
    return SmallModelSampler(
        folder / "base.safetensors",
        STANDIN_VAE,
        folder / "lora.safetensors",
        folder / "text.safetensors",
        shift=3.0,
    )


def test_a_batch_is_its_clips_one_by_one(sampler, clips):
    from egox_train.train.samples import collate
    from egox_train.train.sampling import sample_ego

    own = sampler.conditioning_of(SETTINGS)
    assert (own.lambda_g, own.exo_clean, own.prior) == (2.0, True, "prior")
    model, scope = sampler._model(SETTINGS)
    samples = sampler._samples(clips, own)
    for more in ({}, {"exo_clean": False}, {"exo_clean": False, "exo_loss": True}):
        conditioning = own.model_copy(update=more)
        together = sample_ego(
            model, scope, collate(samples), conditioning, steps=2, seed=SETTINGS.seed
        )
        for sample, latent in zip(samples, together, strict=True):
            alone = sample_ego(model, scope, sample, conditioning, steps=2, seed=SETTINGS.seed)
            assert torch.allclose(
                alone[0], latent, atol=1e-4
            )  # sums in another order in a batch of two
