"""Test every sampler of ComfyUI with the patched model."""

from dataclasses import replace

import pytest
import torch

from tools.rigs import model_rig

from .extras import extra_nodes

SAMPLER_NAMES = ("euler", "dpmpp_2m", "uni_pc", "heun", "euler_ancestral")


@torch.inference_mode()
def sample_custom_advanced(model, sampler, sigmas, rig, seed: int, cfg: float) -> torch.Tensor:
    """Run the graph of ComfyUI's RandomNoise, CFGGuider and SamplerCustomAdvanced."""
    custom_sampler_nodes = extra_nodes("nodes_custom_sampler")

    noise = custom_sampler_nodes.RandomNoise.execute(seed)[0]
    guider = custom_sampler_nodes.CFGGuider.execute(model, rig.positive, rig.negative, cfg)[0]
    return custom_sampler_nodes.SamplerCustomAdvanced.execute(
        noise, guider, sampler, sigmas, rig.latent
    )[0]["samples"]


@pytest.mark.parametrize("sampler_name", SAMPLER_NAMES)
def test_ksampler_changes_ego_by_lambda_g_and_leaves_exo_unchanged(rig, sampler_name):
    guided_model, unguided_model = rig.patch(lambda_g=3.0), rig.patch(lambda_g=0.0)
    wrapper = guided_model.get_all_wrappers("diffusion_model")[0]
    exo_before = wrapper.exo.clone()
    ego_latent = rig.ksample(guided_model, sampler=sampler_name)
    assert torch.equal(wrapper.exo, exo_before)
    assert exo_before.dtype == torch.float32, "the host's cast to the model's dtype isn't followed"
    assert (
        ego_latent.shape == rig.latent["samples"].shape
        and ego_latent.isfinite().all()
        and ego_latent.std() > 0.1
    )
    assert (ego_latent - rig.ksample(unguided_model, sampler=sampler_name)).abs().max() > 1e-4


@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m", "uni_pc"])
def test_sampler_node_equals_the_graph_with_ksampler(rig, sampler_name):
    shift_node = extra_nodes("nodes_model_advanced").ModelSamplingSD3()

    (model,) = shift_node.patch(rig.patch(), 3.0)
    assert torch.equal(
        rig.wan_sample(sampler=sampler_name), rig.ksample(model, sampler=sampler_name)
    )


def test_sampler_node_equals_the_graph_with_released_sampling(rig):
    sampler, sigmas = rig.nodes("released_sampling").EgoXReleasedSampling.execute(4, 3.0).result
    graph_latent = sample_custom_advanced(rig.patch(), sampler, sigmas, rig, seed=5, cfg=3.0)
    assert torch.equal(rig.wan_sample(sampler="released", steps=4), graph_latent)


def test_sampler_node_recomputes_the_image_embedding_from_its_seed(image_embedding_rig):
    """Check that the sampler node's seed acts like the noise seed of a graph."""
    assert image_embedding_rig.canvas.noise_seed == 5
    graph_latent = image_embedding_rig.ksample(image_embedding_rig.patch(), seed=5)
    assert torch.equal(
        image_embedding_rig.wan_sample(sampler="euler", seed=5, shift=8.0), graph_latent
    ), "the model's own shift is 8"

    other_seed_rig = replace(image_embedding_rig)
    conditioning_node = image_embedding_rig.nodes("conditioning").EgoXConditioning
    exo_frames, prior_frames = model_rig.clip_pictures(image_embedding_rig.size)
    text_prompts = [
        [[text, {}]]
        for ((text, _),) in (image_embedding_rig.positive, image_embedding_rig.negative)
    ]
    with torch.inference_mode():
        (
            other_seed_rig.positive,
            other_seed_rig.negative,
            other_seed_rig.latent,
            other_seed_rig.canvas,
        ) = conditioning_node.execute(
            *text_prompts,
            image_embedding_rig.vae,
            exo_frames,
            prior_frames,
            99,
            clip_vision=image_embedding_rig.canvas.clip_vision,
        ).result
    assert not torch.equal(other_seed_rig.ksample(other_seed_rig.patch(), seed=5), graph_latent), (
        "noise_seed 99 shows other noise"
    )
    assert torch.equal(other_seed_rig.wan_sample(sampler="euler", seed=5, shift=8.0), graph_latent)


def test_the_progress_text_names_step_and_time_left(rig):
    time_left_text = rig.nodes("host.steps").time_left_text
    texts = [
        time_left_text(steps_done, 50, seconds)
        for steps_done, seconds in ((1, 0.0), (4, 16.0), (50, 99.0))
    ]
    assert texts == ["step 2 of 50", "step 5 of 50, 4:05 left", "50 of 50 steps"]


def draw_released_noise(rig) -> torch.Tensor:
    shape = rig.latent["samples"].shape
    generator = torch.Generator("cpu").manual_seed(5)
    return torch.randn(shape, dtype=torch.bfloat16, generator=generator).float()


@pytest.mark.parametrize("sampler", ["released", "euler_ancestral"])
def test_the_authors_noise_is_the_samplers_first_latent(rig, monkeypatch, sampler):
    """Check that sampler node and released noise node give equal latents."""
    import comfy.samplers

    custom_sampler_nodes = extra_nodes("nodes_custom_sampler")

    first_latents: list[torch.Tensor] = []
    sample = comfy.samplers.CFGGuider.sample

    def record_noise(self, noise, *args, **kwargs):
        first_latents.append(noise.clone())
        return sample(self, noise, *args, **kwargs)

    monkeypatch.setattr(comfy.samplers.CFGGuider, "sample", record_noise)
    node_latent = rig.wan_sample(sampler=sampler, noise="released")
    assert len(first_latents) == 1
    assert torch.equal(first_latents[0], draw_released_noise(rig))
    assert not torch.equal(node_latent, rig.wan_sample(sampler=sampler)), (
        "the host's noise is another"
    )

    shift_node = extra_nodes("nodes_model_advanced").ModelSamplingSD3()

    with torch.inference_mode():
        (model,) = shift_node.patch(rig.patch(), 3.0)
        noise = rig.nodes("host.noise").ReleasedNoise(5)
        released_node = rig.nodes("released_sampling").EgoXReleasedSampling
        solver, sigmas = released_node.execute(3, 3.0).result
        if sampler != "released":
            solver = comfy.samplers.sampler_object(sampler)
            sigmas = comfy.samplers.KSampler(model, 3, model.load_device, sampler, "simple").sigmas
        guider = custom_sampler_nodes.CFGGuider.execute(model, rig.positive, rig.negative, 3.0)[0]
        graph_latent = custom_sampler_nodes.SamplerCustomAdvanced.execute(
            noise, guider, solver, sigmas, rig.latent
        )[0]["samples"]
    assert torch.equal(node_latent, graph_latent)


def test_with_the_same_noise_comfyuis_samplers_give_the_same_without_ksampler(rig, monkeypatch):
    """Check that SamplerCustomAdvanced and KSampler give equal latents for each sampler."""
    sampling = rig.nodes("sampling")
    for step_options in (
        {"steps": 4},
        {"steps": 4, "start_step": 1, "end_step": 3, "leftover_noise": True},
    ):
        ksampler_latent = rig.wan_sample(sampler="dpmpp_2m", **step_options)
        with monkeypatch.context() as patch:
            patch.setattr(
                sampling, "make_noise", lambda seed, noise: sampling.Noise_RandomNoise(seed)
            )
            assert torch.equal(
                rig.wan_sample(sampler="dpmpp_2m", noise="released", **step_options),
                ksampler_latent,
            )
