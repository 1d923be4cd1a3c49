"""Every sampler of the host with the patched model, and the sampler node against the graphs it
stands for."""

from dataclasses import replace

import pytest
import torch

from tools.rigs import model_rig

SAMPLERS = ("euler", "dpmpp_2m", "uni_pc", "heun", "euler_ancestral")


@torch.inference_mode()
def custom_advanced(model, sampler, sigmas, rig, seed: int, cfg: float) -> torch.Tensor:
    """Run the graph RandomNoise + CFGGuider + SamplerCustomAdvanced, by the host's own nodes."""
    from comfy_extras import nodes_custom_sampler as host

    noise = host.RandomNoise.execute(seed)[0]
    guider = host.CFGGuider.execute(model, rig.positive, rig.negative, cfg)[0]
    return host.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, rig.latent)[0][
        "samples"
    ]


@pytest.mark.parametrize("name", SAMPLERS)
def test_ksampler(rig, name):
    """Exo unchanged to the bit, ego finite, λ_g effective."""
    strong, none = rig.patch(lambda_g=3.0), rig.patch(lambda_g=0.0)
    wrapper = strong.get_all_wrappers("diffusion_model")[0]
    before, ego = wrapper.exo.clone(), rig.ksample(strong, sampler=name)
    assert torch.equal(wrapper.exo, before)
    assert before.dtype == torch.float32, "the host's cast to the model's dtype isn't followed"
    assert ego.shape == rig.latent["samples"].shape and ego.isfinite().all() and ego.std() > 0.1
    assert (ego - rig.ksample(none, sampler=name)).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "uni_pc"])
def test_sampler_node_equals_the_graph_with_ksampler(rig, name):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    (model,) = ModelSamplingSD3().patch(rig.patch(), 3.0)
    assert torch.equal(rig.wan_sample(sampler=name), rig.ksample(model, sampler=name))


def test_sampler_node_equals_the_graph_with_released_sampling(rig):
    sampler, sigmas = rig.nodes("released_sampling").EgoXReleasedSampling.execute(4, 3.0).result
    expected = custom_advanced(rig.patch(), sampler, sigmas, rig, seed=5, cfg=3.0)
    assert torch.equal(rig.wan_sample(sampler="released", steps=4), expected)


def test_sampler_node_redoes_the_picture_embedding_from_its_seed(wan21):
    """Its seed wins over noise_seed, and gives what the graph with that noise_seed gives, bit for
    bit."""
    assert wan21.canvas.noise_seed == 5
    of_graph = wan21.ksample(wan21.patch(), seed=5)
    assert torch.equal(wan21.wan_sample(sampler="euler", seed=5, shift=8.0), of_graph), (
        "the model's own shift is 8"
    )

    other = replace(wan21)
    conditioning = wan21.nodes("conditioning").EgoXConditioning
    exo, prior = model_rig.clip_pictures(wan21.size)
    plain = [[[text, {}]] for ((text, _),) in (wan21.positive, wan21.negative)]
    with torch.inference_mode():
        other.positive, other.negative, other.latent, other.canvas = conditioning.execute(
            *plain,
            wan21.vae,
            exo,
            prior,
            99,
            clip_vision=wan21.canvas.clip_vision,
        ).result
    assert not torch.equal(other.ksample(other.patch(), seed=5), of_graph), (
        "noise_seed 99 shows other noise"
    )
    assert torch.equal(other.wan_sample(sampler="euler", seed=5, shift=8.0), of_graph)


def test_the_words_of_the_time_that_is_left(rig):
    """That they reach the page: test_model_server."""
    words = rig.nodes("host.steps").time_left_text
    texts = [words(done, 50, seconds) for done, seconds in ((1, 0.0), (4, 16.0), (50, 99.0))]
    assert texts == ["step 2 of 50", "step 5 of 50, 4:05 left", "50 of 50 steps"]


def released_noise_of(rig) -> torch.Tensor:
    shape = rig.latent["samples"].shape
    generator = torch.Generator("cpu").manual_seed(5)
    return torch.randn(shape, dtype=torch.bfloat16, generator=generator).float()


@pytest.mark.parametrize("sampler", ["released", "euler_ancestral"])
def test_the_authors_noise_is_the_samplers_first_latent(rig, monkeypatch, sampler):
    """And the node gives what the graph gives with the NOISE of EgoX Released Sampling."""
    import comfy.samplers
    from comfy_extras import nodes_custom_sampler as host

    drawn: list[torch.Tensor] = []
    outer = comfy.samplers.CFGGuider.sample

    def keep(self, noise, *args, **kwargs):
        drawn.append(noise.clone())
        return outer(self, noise, *args, **kwargs)

    monkeypatch.setattr(comfy.samplers.CFGGuider, "sample", keep)
    ours = rig.wan_sample(sampler=sampler, noise="released")
    assert len(drawn) == 1 and torch.equal(drawn[0], released_noise_of(rig))
    assert not torch.equal(ours, rig.wan_sample(sampler=sampler)), "the host's noise is another"

    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    with torch.inference_mode():
        (model,) = ModelSamplingSD3().patch(rig.patch(), 3.0)
        noise = rig.nodes("host.noise").ReleasedNoise(5)
        released = rig.nodes("released_sampling").EgoXReleasedSampling
        solver, sigmas = released.execute(3, 3.0).result
        if sampler != "released":
            solver, sigmas = (
                comfy.samplers.sampler_object(sampler),
                comfy.samplers.KSampler(model, 3, model.load_device, sampler, "simple").sigmas,
            )
        guider = host.CFGGuider.execute(model, rig.positive, rig.negative, 3.0)[0]
        graph = host.SamplerCustomAdvanced.execute(noise, guider, solver, sigmas, rig.latent)[0][
            "samples"
        ]
    assert torch.equal(ours, graph)


def test_one_path_of_the_host_or_of_the_pack_with_the_hosts_noise(rig, monkeypatch):
    """With the authors' noise the host's samplers run without its KSampler: same schedule, same
    numbers."""
    sampling = rig.nodes("sampling")
    for steps in (
        {"steps": 4},
        {"steps": 4, "start_step": 1, "end_step": 3, "leftover_noise": True},
    ):
        expected = rig.wan_sample(sampler="dpmpp_2m", **steps)
        with monkeypatch.context() as patch:
            patch.setattr(
                sampling, "noise_object", lambda seed, noise: sampling.Noise_RandomNoise(seed)
            )
            assert torch.equal(
                rig.wan_sample(sampler="dpmpp_2m", noise="released", **steps), expected
            )


def test_the_picture_shows_the_authors_noise(wan21):
    import comfy.latent_formats

    canvas = wan21.canvas
    raw = comfy.latent_formats.Wan21().process_out(released_noise_of(wan21)[:, :, :1])
    with torch.inference_mode():
        picture = wan21.vae.decode(torch.cat((canvas.exo_latent[:, :, :1], raw), dim=-1))[:, 0]
        expected = canvas.clip_vision.encode_image(picture).penultimate_hidden_states
        ((_, redone),), _ = wan21.nodes("sampling").reembed(
            wan21.model, canvas, 5, "released", wan21.positive, wan21.negative
        )
    assert torch.equal(redone["clip_vision_output"].penultimate_hidden_states, expected)


def test_a_part_of_a_batch_gets_its_own_part_of_the_noise(pack):
    import importlib

    noise = importlib.import_module(f"{pack.__name__}.nodes.host.noise").ReleasedNoise(3)
    batch_noise = noise.generate_noise({"samples": torch.zeros(3, 16, 2, 4, 4)})
    part = noise.generate_noise({"samples": torch.zeros(2, 16, 2, 4, 4), "batch_index": [0, 2]})
    assert torch.equal(part, batch_noise[[0, 2]])
