"""Test that the exo cache in ComfyUI gives exact results, and is off where it can't."""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch

from tests.cached_bytes import count_cached_bytes
from tests.refusals import refuses
from tools.rigs import model_rig

from .exo_cache_rig import (
    PACKED_TOLERANCE,
    check_reused_equals_full,
    count_full_and_reused,
    exo_cache_of,
    large_rig,
    leave_little_room,
    mark_exo_alone,
    sample_twice,
)
from .test_model_windows import add_context_windows, long_rig


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    return large_rig(pack, repo_root)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
def test_a_forward_with_cached_exo_equals_a_full_one_at_the_same_noise(
    rig, monkeypatch, lambda_g, packed
):
    if packed:
        leave_little_room(rig, monkeypatch)
    model = rig.patch(lambda_g=lambda_g, recompute_exo=2)
    # The same sums over other shapes of matrices; float32.
    check_reused_equals_full(rig, model, PACKED_TOLERANCE if packed else 1e-5)
    assert count_full_and_reused(model) == (1, 3), "both steps are of one group of two"


def test_recompute_exo_1_uses_no_cache(rig):
    model = rig.patch(recompute_exo=1)
    assert exo_cache_of(model) is None
    prediction_pairs = sample_twice(rig, model)
    uncached_prediction = sample_twice(rig, rig.patch())[0][0]
    assert torch.equal(prediction_pairs[0][0], uncached_prediction) and torch.equal(
        *prediction_pairs[0]
    )


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m", "dpm_2"])
def test_comfyuis_samplers_work_with_the_exo_cache(rig, sampler):
    model = rig.patch(recompute_exo=4)
    uncached_latent = rig.ksample(rig.patch(), sampler=sampler, steps=8)
    cached_latent = rig.ksample(model, sampler=sampler, steps=8)
    full_count, reused_count = count_full_and_reused(model)
    assert full_count == 2
    assert reused_count >= 6
    assert (
        cached_latent.isfinite().all()
        and 0 < (cached_latent - uncached_latent).std() < 0.5 * uncached_latent.std()
    )


def test_released_sampling_and_partial_denoising_use_the_exo_cache(rig):
    cached_latent = rig.wan_sample(steps=8, recompute_exo=4)
    assert 0 < (cached_latent - rig.wan_sample(steps=8)).std() < 0.5 * cached_latent.std()
    model = rig.patch(recompute_exo=4)
    partly_denoised_latent = rig.ksample(model, steps=8, denoise=0.5)
    assert partly_denoised_latent.isfinite().all()
    assert count_full_and_reused(model) == (2, 6)


def test_prompts_of_different_lengths_have_separate_caches(pack, repo_root, monkeypatch):
    with torch.inference_mode():
        two_lengths_rig = model_rig.make_rig(pack, repo_root / "models", prompt_tokens=(6, 9))
    leave_little_room(two_lengths_rig, monkeypatch)
    model = two_lengths_rig.patch(recompute_exo=2)
    check_reused_equals_full(two_lengths_rig, model)
    assert exo_cache_of(model).full_count == 2, "one per prompt"


def test_each_context_window_has_its_own_cached_keys(pack, repo_root, monkeypatch):
    long_video_rig = long_rig(pack, repo_root, 41)
    window_options = {"context_length": 13, "context_overlap": 4}
    model, uncached_model = (
        add_context_windows(
            long_video_rig.patch(recompute_exo=recompute_exo),
            context_schedule="standard_static",
            **window_options,
        )
        for recompute_exo in (2, 1)
    )
    leave_little_room(long_video_rig, monkeypatch)
    cached_prediction = check_reused_equals_full(long_video_rig, model, cfg=1.0)
    uncached_prediction = sample_twice(long_video_rig, uncached_model, cfg=1.0)[0][0]
    assert (
        cached_prediction - uncached_prediction
    ).abs().max() <= 1e-5 * uncached_prediction.abs().max(), "no other window's"
    full_count, reused_count = count_full_and_reused(model)
    assert 1 < full_count < reused_count


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": torch.float8_e4m3fn},
        {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    ],
)
def test_the_exo_cache_works_with_float8_weights(pack, repo_root, monkeypatch, options):
    float8_rig = large_rig(pack, repo_root)
    shipped_file = model_rig.standins.SHIPPED["transformer"]
    with torch.inference_mode():
        float8_rig.model = model_rig.load_transformer(
            repo_root / "models" / shipped_file, **options
        )
    leave_little_room(float8_rig, monkeypatch)
    model = float8_rig.patch(recompute_exo=2)
    tolerance = 2e-2 if float8_rig.model.model.manual_cast_dtype is None else PACKED_TOLERANCE
    check_reused_equals_full(float8_rig, model, tolerance)
    assert count_full_and_reused(model) == (1, 3)


def test_the_exo_cache_works_with_offloaded_weights(pack, repo_root, monkeypatch):
    """Check the exo cache's results when weights are kept in main memory."""
    from comfy.model_patcher import ModelPatcher

    rig = model_rig.random_rig(pack, repo_root / "models", model_rig.RigSize())
    original_load = ModelPatcher.load
    monkeypatch.setattr(
        ModelPatcher,
        "load",
        lambda self, device=None, *args, **kwargs: original_load(
            self, device, lowvram_model_memory=1
        ),
    )
    leave_little_room(rig, monkeypatch)
    model = rig.patch(recompute_exo=2).clone(disable_dynamic=True)
    check_reused_equals_full(rig, model)
    assert model.model.model_lowvram
    assert count_full_and_reused(model) == (1, 3)


def test_a_run_with_another_seed_prompt_or_lora_reuses_nothing(rig):
    """Check that changed inputs give the result of a freshly patched model."""

    def sample_with_lora(model):
        lora_model = model.clone()
        weight_name = "diffusion_model.blocks.0.self_attn.k.weight"
        weight_shape = (
            rig.model.get_model_object("diffusion_model").blocks[0].self_attn.k.weight.shape
        )
        lora_model.add_patches({weight_name: ("diff", (torch.full(weight_shape, 0.02),))}, 0.7)
        return rig.ksample(lora_model, steps=4)

    for sample_changed_run in (
        sample_with_lora,
        lambda model: rig.ksample(model, steps=4, seed=77),
        lambda model: rig.ksample(model, steps=4, positive=rig.negative, negative=rig.positive),
    ):
        model = rig.patch(recompute_exo=0)
        first_latent = rig.ksample(model, steps=4)
        assert torch.equal(
            sample_changed_run(model),
            expected_latent := sample_changed_run(rig.patch(recompute_exo=0)),
        )
        assert not torch.equal(expected_latent, first_latent)


@pytest.mark.parametrize("error", [None, RuntimeError("cancelled")])
def test_cached_memory_is_freed_at_the_end_and_on_errors(rig, error):
    model = rig.patch(recompute_exo=4)
    cached_bytes = []

    def record_cached_bytes(executor, *args, **kwargs):
        prediction = executor(*args, **kwargs)
        cached_bytes.append(count_cached_bytes(exo_cache_of(model)))
        if error and len(cached_bytes) == 2:
            raise error
        return prediction

    model.add_wrapper_with_key("apply_model", "spy", record_cached_bytes)
    with pytest.raises(RuntimeError, match="cancelled") if error else nullcontext():
        rig.ksample(model, steps=4)
    assert max(cached_bytes) > 0
    assert count_cached_bytes(exo_cache_of(model)) == 0


def record_after_each_forward(model, read_value) -> list:
    """Collect what ``read_value(x)`` returns after each forward of the model."""
    values = []

    def record_value(executor, x, *args, **kwargs):
        prediction = executor(x, *args, **kwargs)
        values.append(read_value(x))
        return prediction

    model.add_wrapper_with_key("apply_model", "spy", record_value)
    return values


def test_conditions_stay_cached_whether_they_are_stacked_or_not(rig, monkeypatch):
    """Check that cached keys are reused when ComfyUI stops stacking conditions."""
    model = rig.patch(recompute_exo=0)
    exo_cache = exo_cache_of(model)
    forward_readings = record_after_each_forward(model, lambda x: (len(x), exo_cache.full_count))
    memory_required = type(model.model).memory_required

    def require_memory(self, input_shape, cond_shapes=None):
        splits_stack = (
            cond_shapes is not None and input_shape[0] > 1 and 0 < len(forward_readings) < 5
        )
        return 1e30 if splits_stack else memory_required(self, input_shape, cond_shapes or {})

    monkeypatch.setattr(type(model.model), "memory_required", require_memory)
    rig.ksample(model, steps=4)
    assert forward_readings == [(2, 1), (1, 1), (1, 1), (1, 1), (1, 1), (2, 1)]


def test_loaded_encoders_are_unloaded_to_make_room_for_the_exo_cache(rig, monkeypatch):
    """Check that encoders are unloaded from a full GPU when the exo cache needs memory."""
    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcher

    cpu = torch.device("cpu")
    memory_class = rig.nodes("host.memory").ComfyMemory
    encoder = ModelPatcher(torch.nn.Linear(1024, 1024), cpu, cpu)
    patched_model = rig.patch(recompute_exo=0)
    comfy_memory = memory_class(patched_model, [2, 1, 3, 8, 24])
    card_bytes = 2**31
    # A card of 2 GiB in place of the main memory that the rig computes in.
    monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(management, "current_loaded_models", [])
    for model in (encoder, patched_model):
        loaded_model = management.LoadedModel(model)
        loaded_model.model_load()
        management.current_loaded_models.append(loaded_model)

    def get_free_bytes(device=None, torch_free_too=False):
        free_bytes = card_bytes - sum(
            x.model_loaded_memory() for x in management.current_loaded_models
        )
        return (free_bytes, 0) if torch_free_too else free_bytes

    monkeypatch.setattr(management, "get_free_memory", get_free_bytes)
    room_without_encoder = card_bytes - patched_model.loaded_size() - comfy_memory._needed_bytes()
    assert (
        patched_model.loaded_size() == patched_model.model_size() > 0
        and encoder.loaded_size() == 4 * 1025 * 1024
    )
    assert comfy_memory.available_bytes(cpu) == room_without_encoder, (
        "as if the encoder weren't there"
    )
    comfy_memory.reserve(cpu, room_without_encoder - encoder.loaded_size())
    assert [loaded.model for loaded in management.current_loaded_models] == [
        encoder,
        patched_model,
    ], "both fit"
    comfy_memory.reserve(cpu, room_without_encoder)
    assert [loaded.model for loaded in management.current_loaded_models] == [patched_model]
    assert (
        comfy_memory.available_bytes(cpu)
        == room_without_encoder
        == get_free_bytes() - comfy_memory._needed_bytes()
    )


def test_a_sampled_model_is_in_no_reference_cycle(rig):
    """Check that a sampled model is freed when its last reference is deleted."""
    model = rig.patch(recompute_exo=2)
    rig.ksample(model, steps=3)
    model_reference = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert model_reference() is None
    finally:
        gc.enable()


def test_without_room_for_the_exo_cache_the_note_says_how_much_it_takes(rig, monkeypatch):
    monkeypatch.setattr(
        rig.nodes("host.memory").ComfyMemory, "available_bytes", lambda self, device: 0
    )
    model = rig.patch(recompute_exo=4)
    latent = rig.ksample(model, steps=4)
    assert torch.equal(latent, rig.ksample(rig.patch(), steps=4)), "every step is full"
    calls = rig.nodes("patch.patch").patch_calls(model)
    assert calls.warning.startswith("no room to keep exo, which takes "), "before the first step"
    note = rig.nodes("patch.checks").add_run_notes("", calls)
    assert "exo computed in 4 of 4 forwards; no room to keep it" in note


@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
def test_an_exo_half_that_sees_no_ego_is_computed_once_and_exactly(rig, monkeypatch, lambda_g):
    model = rig.patch(mark_exo_alone(rig.model), lambda_g=lambda_g)
    cached_latent = rig.ksample(model, steps=4)
    assert count_full_and_reused(model) == (1, 3)
    monkeypatch.setattr(type(exo_cache_of(model)), "_is_valid", lambda *args: False)
    recomputed_latent = rig.ksample(model, steps=4)
    assert count_full_and_reused(model) == (4, 0)
    assert (
        cached_latent - recomputed_latent
    ).abs().max() <= PACKED_TOLERANCE * recomputed_latent.abs().max()
    joint_attention_latent = rig.ksample(rig.patch(lambda_g=lambda_g), steps=4)
    assert (
        cached_latent - joint_attention_latent
    ).abs().max() > 1e-3 * joint_attention_latent.abs().max(), (
        "another model than one whose exo sees ego"
    )


@pytest.mark.parametrize(
    ("exo", "position_scale"),
    [("sees_ego", 1.0), ("sees_ego", 0.5), ("alone", 1.0), ("alone", 0.5)],
)
def test_comfyui_and_the_trainer_sample_the_same_latent(rig, repo_root, exo, position_scale):
    import comfy.sample

    from egox_train.train.config import ConditioningConfig
    from egox_train.train.samples import TrainSample
    from egox_train.train.sampling import sample_ego
    from egox_train.wan.diffusers_processor import install_gga
    from egox_train.wan.transformer import load_base

    noise = comfy.sample.prepare_noise(rig.latent["samples"], 5)
    model = mark_exo_alone(rig.model) if exo == "alone" else rig.model.clone()
    model.set_model_rope_options(position_scale, 0.0, position_scale, 0.0, 1.0, 0.0)
    host_latent = rig.wan_sample(model, steps=3, cfg=1.0, seed=5)
    to_model_space = rig.model.get_model_object("latent_format").process_in
    geometry = rig.nodes("patch.patch").canvas_geometry(
        rig.canvas, rig.depth, rig.trajectory, "released"
    )
    prior_latent = to_model_space(rig.canvas.prior_latent)
    sample = TrainSample(
        clips=("rig",),
        exo=to_model_space(rig.canvas.exo_latent),
        ego=torch.zeros_like(prior_latent),
        cond_ego=prior_latent,
        text=rig.positive[0][0],
        image=None,
        geometry=(geometry,),
    )
    model = load_base(repo_root / "models" / model_rig.standins.SHIPPED["transformer"])
    trainer_latent = sample_ego(
        model.eval(),
        install_gga(model, position_scale),
        sample,
        ConditioningConfig(exo=exo, image_embedding="none"),
        steps=3,
        noise=noise,
    )
    trainer_latent = rig.model.get_model_object("latent_format").process_out(trainer_latent)
    assert (
        host_latent - trainer_latent
    ).abs().max() <= PACKED_TOLERANCE * trainer_latent.abs().max()


def test_exo_alone_is_refused_without_room_and_with_an_attention_patch(rig, monkeypatch):
    model = rig.patch(mark_exo_alone(rig.model))
    model.set_model_attn1_patch(lambda call: call["x"])
    with refuses("take the node of .*test_model_exo_cache out of the model's path"):
        rig.ksample(model, steps=2)
    monkeypatch.setattr(
        rig.nodes("host.memory").ComfyMemory, "available_bytes", lambda self, device: 0
    )
    with refuses("no room"):
        rig.ksample(rig.patch(mark_exo_alone(rig.model)), steps=2)


def test_the_note_says_where_time_went_and_what_caching_exo_would_save(rig):
    checks = rig.nodes("patch.checks")
    patch_calls = rig.nodes("patch.patch").patch_calls
    model = rig.patch()
    rig.ksample(model, steps=8)
    time_note = checks.describe_times(patch_calls(model))
    assert time_note.endswith("; recompute exo 4 would take about 50 % of it"), (
        "2 of 8 whole, 6 of a third"
    )
    assert not patch_calls(model).seconds.total(checks.CACHE)
    model = rig.patch(recompute_exo=4)
    rig.ksample(model, steps=8)
    time_note = checks.describe_times(patch_calls(model))
    seconds = patch_calls(model).seconds
    assert (
        "with exo kept" in time_note
        and "in keeping exo" in time_note
        and "would take" not in time_note
    )
    cache_parts = (checks.ATTENTION, checks.CACHE)
    assert 0 < seconds.total(*cache_parts) < seconds.total(checks.FULL, checks.KEPT)
