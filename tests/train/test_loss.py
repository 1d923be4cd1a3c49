"""Test the loss and gradients of a training step against the released training code."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize

from egox_core.gga.attention import gga_attention
from egox_core.gga.geometry import tokens_from_latents
from egox_core.gga.options import GgaOptions
from egox_core.types import GgaGeometry
from egox_train.train.config import ConditioningConfig, TimestepConfig
from egox_train.train.loss import draw_sigmas, flow_loss, model_timesteps, noised_input, sigma_table
from egox_train.train.samples import CachedSamples, TrainSample, collate
from egox_train.wan import diffusers_processor
from egox_train.wan.diffusers_processor import install_gga
from egox_train.wan.transformer import load_base
from tests.paths import GOLDEN
from tests.refusals import refuses
from tests.train.golden_model import golden_transformer

GRADIENTS = (
    "blocks.0.attn1.to_q.weight",
    "blocks.1.attn1.to_v.weight",
    "blocks.1.attn2.to_out.0.weight",
)


@pytest.fixture(scope="module")
def golden_tensors() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "train_step.safetensors")


@pytest.mark.parametrize(
    ("case", "noise_of", "mode"),
    [
        ("gc_on_gga", "gc_on_gga", "released"),
        ("gc_on_gga_b", "gc_on_gga_b", "released"),
        ("gc_off_nogga", "gc_on_gga", "off"),
    ],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_equal_the_released_trainers(
    golden_tensors, case, noise_of, mode, checkpointing
):
    model = golden_transformer()
    gga_scope = install_gga(model)
    if checkpointing:
        model.enable_gradient_checkpointing()
    sample = TrainSample(
        clips=("golden",),
        exo=golden_tensors["in.exo_latent_norm"],
        ego=golden_tensors["in.ego_gt_latent_norm"],
        cond_ego=golden_tensors["in.ego_prior_latent_norm"],
        text=golden_tensors["in.text_embeds"],
        image=golden_tensors["in.image_embeds"],
        geometry=(
            tokens_from_latents(
                golden_tensors["in.point_vecs_per_frame"], golden_tensors["in.cam_rays"]
            ),
        ),
    )
    conditioning_config = ConditioningConfig(mode="trainer", gga_mode=mode)
    assert (conditioning_config.mask_mode, conditioning_config.lambda_g) == ("trainer", 1.0)
    sigmas, noise = golden_tensors[f"{case}.sigma"], golden_tensors[f"{noise_of}.noise"]
    model_input = noised_input(sample, noise, sigmas, conditioning_config)
    torch.testing.assert_close(
        model_input, golden_tensors[f"{noise_of}.model_input_36ch"], atol=1e-6, rtol=0
    )
    assert model_timesteps(sigmas).tolist() == golden_tensors[f"{case}.timestep"].tolist()

    loss_result = flow_loss(model, gga_scope, sample, noise, sigmas, conditioning_config)
    loss_result.loss.backward()
    assert abs(float(loss_result.loss.detach()) - float(golden_tensors[f"{case}.loss"])) < 1e-4
    torch.testing.assert_close(
        loss_result.target, golden_tensors[f"{noise_of}.target_ego"], atol=1e-6, rtol=0
    )
    # float32, other kernels: the forward's own tolerance (quirks: tiny forward 5e-5)
    torch.testing.assert_close(
        loss_result.prediction, golden_tensors[f"{case}.prediction_ego"], atol=5e-5, rtol=0
    )
    parameters_by_name = dict(model.named_parameters())
    for name in GRADIENTS:
        golden_gradient = golden_tensors[f"{case}.grad.{name}"]
        assert (
            parameters_by_name[name].grad - golden_gradient
        ).norm() / golden_gradient.norm() < 1e-4, name


def random_geometry(t: int, h: int, w_exo: int, w_ego: int, seed: int) -> GgaGeometry:
    """Draw random ray directions and trust values."""
    generator = torch.Generator().manual_seed(seed)
    exo_directions, ego_rays = (
        normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
        for shape in ((t, t, 2 * h, 2 * w_exo), (t, 2 * h, 2 * w_ego))
    )
    trust = torch.rand(t, 2 * h, 2 * w_exo, generator=generator)
    return tokens_from_latents(exo_directions, ego_rays, trust)


def test_recomputed_bias_gives_identical_gradients():
    geometry = random_geometry(3, 4, 6, 4, seed=1)
    generator = torch.Generator().manual_seed(2)
    query_key_value = [
        torch.randn(1, geometry.tokens, 32, generator=generator, requires_grad=True)
        for _ in range(3)
    ]

    def attend(**recompute) -> torch.Tensor:
        return gga_attention(
            *query_key_value, 2, geometry, GgaOptions(), chunk_bytes=1, **recompute
        )

    outputs = [attend(recompute=recompute) for recompute in (False, True)]
    stored, recomputed = (
        (x, *torch.autograd.grad(x.square().sum(), query_key_value)) for x in outputs
    )
    assert all(torch.equal(*pair) for pair in zip(stored, recomputed, strict=True))
    with torch.no_grad():
        assert torch.equal(attend(), outputs[0])


@pytest.mark.parametrize("clips", [1, 3])
def test_shared_bias_of_a_batch_equals_single_clips(
    training_folder, tiny_training, monkeypatch, clips
):
    """Check that a shared attention bias gives the same losses and gradients as one per clip."""
    cached_samples = CachedSamples(tiny_training.make_config(training_folder), "train")
    batch = collate([cached_samples.load(item) for item in cached_samples.groups[0][:clips]])
    noise_latent = torch.randn(clips, 16, 2, 4, 4, generator=torch.Generator().manual_seed(9))
    sigmas, results = torch.full((clips,), 0.5), []
    for byte_limit in (diffusers_processor.SHARED_BIAS_BYTES, 0):
        monkeypatch.setattr(diffusers_processor, "SHARED_BIAS_BYTES", byte_limit)
        model = load_base(training_folder / "base.safetensors")
        scope = install_gga(model)
        result = flow_loss(model, scope, batch, noise_latent, sigmas, ConditioningConfig())
        assert (scope.shared_bias(torch.float32) is not None) == bool(byte_limit)
        result.loss.backward()
        results.append((result.clip_losses, model.blocks[0].attn1.to_q.weight.grad))
    for shared_value, single_value in zip(*results, strict=True):  # float32 sums in another order
        torch.testing.assert_close(shared_value, single_value, atol=1e-6, rtol=1e-5)


def test_backward_stores_no_full_bias():
    """Check that autograd doesn't store the whole attention bias."""
    geometry = random_geometry(6, 12, 12, 12, seed=3)
    q, k, v = (torch.randn(1, geometry.tokens, 8, requires_grad=True) for _ in range(3))
    saved_bytes: dict[int, int] = {}

    def record_size(tensor: torch.Tensor) -> torch.Tensor:
        saved_bytes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record_size, lambda tensor: tensor):
        gga_attention(
            q, k, v, 1, geometry, GgaOptions(mode="released", lambda_g=3.0), recompute=True
        )
    ego_map_bytes = 4 * geometry.tokens * 6 * 12 * 12
    geometry_bytes = geometry.key_dirs.numel() * 4  # the inputs themselves
    assert sum(saved_bytes.values()) < ego_map_bytes / 4 + geometry_bytes


def test_noise_table_equals_the_released_trainers():
    noise_table = sigma_table(TimestepConfig(kind="table", shift=1.0))
    torch.testing.assert_close(noise_table, torch.arange(1000, 0, -1) / 1000, atol=1e-6, rtol=0)
    assert model_timesteps(noise_table).tolist() == list(range(1000, 0, -1))
    golden_table = load_file(GOLDEN / "schedule_50.safetensors")
    golden_name = next(k for k in golden_table if "trainer" in k and "sigma" in k)
    torch.testing.assert_close(
        noise_table, golden_table[golden_name][:1000].float(), atol=1e-6, rtol=0
    )


def test_drawn_noise_levels_follow_shift_and_generator():
    def draw(**timesteps) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return draw_sigmas(TimestepConfig(**timesteps), 20000, generator)

    sigmas = draw(kind="uniform", shift=3.0)
    assert torch.equal(sigmas, draw(kind="uniform", shift=3.0))
    assert float(sigmas.median()) == pytest.approx(0.75, abs=0.01)  # 3 * 0.5 / (1 + 2 * 0.5)
    sigmas = draw(kind="table", shift=100.0, uniform_share=0.5)  # else under 1 % below .5
    assert float((sigmas < 0.5).float().mean()) == pytest.approx(0.255, abs=0.01)


@pytest.mark.parametrize("first_known", [True, False])
def test_single_views_have_a_known_first_frame_or_known_parts(first_known):
    ego_latent, condition_latent, noise_latent = torch.randn(3, 1, 16, 2, 4, 4)
    view_sample = TrainSample(
        clips=("view",),
        exo=ego_latent[..., :0],
        ego=ego_latent,
        cond_ego=condition_latent,
        text=torch.zeros(1, 1, 24),
        first_known=first_known,
    )
    batch, noise = collate([view_sample] * 2), noise_latent.expand(2, -1, -1, -1, -1)
    model_input = noised_input(batch, noise, torch.ones(2), ConditioningConfig())
    torch.testing.assert_close(model_input[:1, :16], noise_latent)
    assert torch.equal(model_input[1:, 20:], condition_latent)
    assert (model_input[:, 16:20, 0] == first_known).all() and not model_input[:, 16:20, 1:].any()
    with refuses("clips of one batch: .*expected one size"):
        collate([view_sample, replace(view_sample, text=torch.zeros(1, 2, 24))])


@pytest.mark.parametrize("exo_clean", [True, False])
def test_noise_levels_of_bfloat16_samples_are_not_rounded(exo_clean):
    """Check that bfloat16 samples are noised at exact noise levels."""
    latent = torch.full((1, 16, 1, 2, 2), 100.0, dtype=torch.bfloat16)
    sample = TrainSample(clips=("one",), exo=latent, ego=latent, cond_ego=latent, text=latent)
    noise_latent = torch.zeros(1, 16, 1, 2, 4, dtype=torch.bfloat16)
    noisy_columns = slice(2, 4) if exo_clean else slice(0, 4)
    for sigma in sigma_table(TimestepConfig(kind="table")):
        config = ConditioningConfig(exo_clean=exo_clean)
        model_input = noised_input(sample, noise_latent, sigma[None], config)
        mixed_latent = model_input[0, :16, ..., noisy_columns].float()
        exact_signal = 100 * (1 - sigma)
        assert ((mixed_latent - exact_signal).abs() <= 2**-8 * exact_signal).all(), (
            "one rounding, of the result"
        )
