"""Test the node EgoX Conditioning."""

import importlib

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig
from tools.rigs.standins import SHIPPED, TESTS_ONLY


@pytest.fixture(scope="module")
def conditioning_module(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.conditioning")


@torch.inference_mode()
def test_outputs_are_an_ego_latent_and_comfyuis_conditioning(pack, standin_models):
    rig = model_rig.make_rig(pack, standin_models)
    assert rig.latent["samples"].shape == (1, 16, 3, 4, 4)
    assert not rig.latent["samples"].any()
    canvas = rig.canvas
    assert (
        canvas.latent_grid == (3, 4, 8, 4)
        and canvas.mask_mode == "released"
        and canvas.noise_seed == 0
    )
    assert canvas.image_embedding == "none", "no CLIP vision, no embedding"
    exo_frames, prior_frames = model_rig.clip_pictures(rig.size)
    assert torch.equal(canvas.exo_latent, rig.vae.encode(exo_frames))
    for ((_, conditioning_values),) in (rig.positive, rig.negative):
        assert torch.equal(conditioning_values["concat_latent_image"], rig.vae.encode(prior_frames))
        assert torch.equal(conditioning_values["concat_mask"], torch.ones(1, 4, 3, 4, 4)), (
            "the host inverts: ego is unknown"
        )
        assert "clip_vision_output" not in conditioning_values


@torch.inference_mode()
def test_embedding_modes_differ_and_released_shows_the_samplers_noise(pack, standin_models):
    import comfy.latent_formats
    import comfy.sample

    embeddings = {}
    for mode in ("released", "exo+prior", "exo only"):
        rig = model_rig.make_rig(
            pack, standin_models, image_embedding=True, noise_seed=7, image_embedding_mode=mode
        )
        embeddings[mode] = rig.positive[0][1]["clip_vision_output"].penultimate_hidden_states
        assert embeddings[mode].shape == (1, 257, 1280)
    assert not torch.equal(embeddings["released"], embeddings["exo+prior"]) and not torch.equal(
        embeddings["exo only"], embeddings["exo+prior"]
    )

    noise = comfy.sample.prepare_noise(rig.latent["samples"], 7)[:, :, :1]
    first_canvas_frame = torch.cat(
        (rig.canvas.exo_latent[:, :, :1], comfy.latent_formats.Wan21().process_out(noise)), dim=-1
    )
    picture = rig.vae.decode(first_canvas_frame)[:, 0]
    expected_embedding = rig.canvas.clip_vision.encode_image(picture).penultimate_hidden_states
    assert torch.equal(embeddings["released"], expected_embedding)


@torch.inference_mode()
def test_a_model_without_image_embedding_gets_none(pack, conditioning_module, standin_models):
    rig = model_rig.make_rig(pack, standin_models, image_embedding=True)
    text = model_rig.text_conditioning(1024, 6, 1)
    exo_frames, prior_frames = model_rig.clip_pictures(rig.size)

    def condition(kind: str, prior_frames=prior_frames, **inputs):
        model = model_rig.load_transformer(standin_models / kind)
        return conditioning_module.EgoXConditioning.execute(
            text, text, rig.vae, exo_frames, prior_frames, 3, model=model, **inputs
        )

    node_output = condition(SHIPPED["transformer"], clip_vision=rig.canvas.clip_vision)
    assert "clip_vision_output" not in node_output[0][0][1]
    assert node_output[3].image_embedding == "none"
    assert "no picture embedding" in node_output.ui.as_dict()["text"][0]
    with refuses("clip_vision_h"):
        condition(TESTS_ONLY["transformer_img_emb"])
    with refuses("ego prior length"):
        condition(SHIPPED["transformer"], prior_frames[:5])


@torch.inference_mode()
def test_low_memory_encodes_and_decodes_in_comfyuis_tiles(
    pack, conditioning_module, standin_models
):
    import nodes as host_nodes

    rig = model_rig.make_rig(
        pack, standin_models, model_rig.RigSize(frames=5, exo_width=288, height=48)
    )
    exo_frames, prior_frames = model_rig.clip_pictures(rig.size)
    plain_conditioning = model_rig.text_conditioning(1024, 6, 1)
    node_output = conditioning_module.EgoXConditioning.execute(
        plain_conditioning,
        plain_conditioning,
        rig.vae,
        exo_frames,
        prior_frames,
        -1,
        low_memory=True,
    )
    (expected_latent,) = host_nodes.VAEEncodeTiled().encode(rig.vae, exo_frames, 256, 64)
    assert (
        torch.equal(node_output[3].exo_latent, expected_latent["samples"])
        and node_output[2][conditioning_module.LATENT_SOURCES]["tile_size"] == 256
    )
    assert not torch.equal(node_output[3].exo_latent, rig.canvas.exo_latent)
    assert rig.latent[conditioning_module.LATENT_SOURCES]["tile_size"] == 0


@torch.inference_mode()
def test_the_vae_reports_its_progress(pack, standin_models, monkeypatch):
    rig = model_rig.make_rig(pack, standin_models)
    reports = list[tuple[int, int, str]]()
    host_vae = importlib.import_module(f"{pack.__name__}.nodes.host.vae")
    monkeypatch.setattr(
        host_vae, "host_progress", lambda total: lambda *report: reports.append(report)
    )
    exo_frames, _ = model_rig.clip_pictures(rig.size)
    exo_latent = host_vae.encode_video(rig.vae, exo_frames)
    assert torch.equal(exo_latent, rig.canvas.exo_latent)
    video = host_vae.decode_video(rig.vae, exo_latent)
    assert torch.equal(video, rig.vae.decode(exo_latent).reshape(-1, *exo_frames.shape[1:]))
    for stage_name in ("encoder", "decoder"):
        counts, totals = zip(
            *((n, of) for n, of, stage in reports if stage == stage_name), strict=True
        )
        assert list(counts) == list(range(1, len(counts) + 1)) and 2 <= len(counts) <= totals[-1]
    reports.clear()
    rig.vae.decode(exo_latent)
    assert not reports, "nothing is left behind"


@torch.inference_mode()
def test_the_same_pictures_are_encoded_once(pack, conditioning_module, standin_models, monkeypatch):
    """Check that a new LoRA strength or seed doesn't make the VAE encode the same pictures
    again."""
    rig = model_rig.make_rig(pack, standin_models, image_embedding=True, noise_seed=7)
    exo_frames, prior_frames = model_rig.clip_pictures(rig.size)
    vision = rig.canvas.clip_vision
    calls = {"encode": 0, "encode_image": 0}

    def count_calls(thing, name: str) -> None:
        method = getattr(thing, name)

        def counted(*args, **options):
            calls[name] += 1
            return method(*args, **options)

        monkeypatch.setattr(thing, name, counted)

    count_calls(rig.vae, "encode")
    count_calls(vision, "encode_image")
    for exo, mode, seed, *expected_calls in (
        (exo_frames, "released", 7, 2, 1),
        (exo_frames, "released", 7, 2, 1),
        (exo_frames, "released", 8, 2, 2),
        (exo_frames, "exo+prior", 9, 2, 3),
        (exo_frames, "exo+prior", 10, 2, 3),
        (exo_frames.clone(), "none", 10, 3, 3),
    ):
        conditioning_module.condition_clip(
            [], [], rig.vae, exo, prior_frames, seed, mode, clip_vision=vision
        )
        assert [*calls.values()] == expected_calls, (mode, seed)
