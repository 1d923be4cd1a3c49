"""Test that the exo cache in ComfyUI gives exact results, and is off where it can't."""

import gc
import weakref
from contextlib import nullcontext
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

from .test_model_windows import add_context_windows, long_rig


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    return large_rig(pack, repo_root)


def large_rig(pack, repo_root) -> model_rig.ModelRig:
    rig_size = model_rig.RigSize(frames=9, exo_width=128, height=64)
    with torch.inference_mode():
        return model_rig.random_rig(pack, repo_root / "models", rig_size)


def exo_cache_of(model):
    (wrapper,) = model.get_wrappers("diffusion_model", "egox")
    return wrapper.calls.exo_cache


def count_full_and_reused(model) -> tuple[int, int]:
    """Count a model's forwards that computed the exo half, and those that reused the cached one."""
    return exo_cache_of(model).full_count, exo_cache_of(model).reused_count


def sample_twice(rig, model, cfg: float = 3.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Predict each of two sampling steps twice."""
    import comfy.samplers

    prediction_pairs = []

    def sample_each_step_twice(predict, x, sigmas, extra_args=None, callback=None, disable=None):
        for sigma in sigmas[:2]:
            noise_level = x.new_ones([x.shape[0]]) * sigma
            prediction_pairs.append(
                (predict(x, noise_level, **extra_args), predict(x, noise_level, **extra_args))
            )
        callback(
            {
                "i": 0,
                "denoised": prediction_pairs[0][0],
                "x": x,
                "sigma": sigmas[0],
                "sigma_hat": sigmas[0],
            }
        )
        return prediction_pairs[-1][0]

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(rig.positive, rig.negative)
    guider.set_cfg(cfg)
    noise = torch.randn(rig.latent["samples"].shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        guider.sample(
            noise,
            rig.latent["samples"],
            comfy.samplers.KSAMPLER(sample_each_step_twice),
            torch.tensor([0.9, 0.5, 0.0]),
            disable_pbar=True,
            seed=1,
        )
    return prediction_pairs


PACKED_TOLERANCE = 1e-2
"""Largest error of keys and values that are cached in 8 bits, as a share of the largest value."""


def check_reused_equals_full(
    rig, model, tolerance: float = PACKED_TOLERANCE, **options
) -> torch.Tensor:
    """Check that predictions with the exo cache are close to full ones."""
    prediction_pairs = sample_twice(rig, model, **options)
    for full_prediction, reused_prediction in prediction_pairs:
        assert (
            full_prediction - reused_prediction
        ).abs().max() <= tolerance * full_prediction.abs().max()
    return prediction_pairs[0][0]


def leave_little_room(rig, monkeypatch) -> None:
    """Report so little free memory to the exo cache that it stores keys and values in 8 bits."""
    exo_cache_module = rig.nodes("patch.exo_cache")
    kept_size = exo_cache_module.kept_size
    monkeypatch.setattr(
        exo_cache_module,
        "kept_size",
        lambda *sizes: kept_size(*sizes) if sizes[-1] is None else 2**62,
    )


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


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize("uses_lazy_cache", [False, True])
def test_comfyuis_step_caches_skip_forwards_with_and_without_cached_exo(
    rig, patch_first, uses_lazy_cache
):
    """Check that EasyCache and LazyCache don't change results while they skip no step."""
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    step_cache_node = LazyCacheNode if uses_lazy_cache else EasyCacheNode

    def add_step_cache(model, threshold: float):
        return step_cache_node.execute(
            model, reuse_threshold=threshold, start_percent=0.0, end_percent=1.0, verbose=False
        )[0]

    def patch_with_step_cache(threshold: float):
        if patch_first:
            return add_step_cache(rig.patch(recompute_exo=2), threshold)
        return rig.patch(add_step_cache(rig.model, threshold), recompute_exo=2)

    compares_whole_canvases = patch_first and not uses_lazy_cache
    latent_without_step_cache = rig.ksample(
        rig.patch(recompute_exo=1 if compares_whole_canvases else 2), steps=8
    )
    assert torch.equal(rig.ksample(patch_with_step_cache(0.0), steps=8), latent_without_step_cache)
    model = patch_with_step_cache(3.0)
    latent = rig.ksample(model, steps=8)
    cache = exo_cache_of(model)
    forward_count = sum(count_full_and_reused(model))
    assert (
        cache.full_count > 0
        and latent.isfinite().all()
        and (latent - latent_without_step_cache).abs().max() < latent_without_step_cache.abs().max()
    )
    if compares_whole_canvases:
        assert cache.reused_count == 0 and forward_count == 8, (
            "it decides after the patch, which then keeps nothing"
        )
        assert "nodes_easycache needs the whole canvas" in rig.nodes(
            "patch.checks"
        ).describe_exo_use(cache)
    else:
        assert forward_count < 8


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


@pytest.mark.parametrize(
    ("marker_size", "expected_note"),
    [
        (None, "float8_e4m3fn weights, matrix products in float32"),
        (2, "float8_e4m3fn weights, matrix products in float32, as the file asks"),
        (0, "float8_e4m3fn weights, matrix products in float32, since this device has none"),
    ],
)
def test_the_note_says_how_a_float8_file_is_computed(
    rig, repo_root, tmp_path, marker_size, expected_note
):
    """Check that the node's note names the number format of float8 files."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    assert not rig.nodes("patch.patch").arithmetic_notes(rig.model)
    shipped_file = repo_root / "models" / model_rig.standins.SHIPPED["transformer"]
    shipped_weights = load_file(shipped_file)
    scaled_weights = {}
    for name, weight in shipped_weights.items():
        is_block_matrix = (
            name.startswith("blocks.") and name.endswith(".weight") and weight.ndim == 2
        )
        scale = (
            weight.abs().max().float() / 448
            if is_block_matrix and marker_size is not None
            else torch.ones(())
        )
        scaled_weights[name] = (
            (weight / scale).to(torch.float8_e4m3fn) if is_block_matrix else weight
        )
        if is_block_matrix and marker_size is not None:
            scaled_weights[name.removesuffix("weight") + "scale_weight"] = scale.reshape(1)
    if marker_size is not None:
        scaled_weights["scaled_fp8"] = torch.zeros(marker_size, dtype=torch.float8_e4m3fn)
    with safe_open(shipped_file, "pt") as file:
        save_file(scaled_weights, tmp_path / "weights.safetensors", file.metadata())
    with torch.inference_mode():
        load_options = {"dtype": torch.float8_e4m3fn} if marker_size is None else {}
        model = model_rig.load_transformer(tmp_path / "weights.safetensors", **load_options)
    assert expected_note in rig.nodes("patch.patch").arithmetic_notes(model)[0]
    assert rig.ksample(rig.patch(model), steps=1).isfinite().all()


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
        cached_bytes.append(exo_cache_of(model).kept_bytes)
        if error and len(cached_bytes) == 2:
            raise error
        return prediction

    model.add_wrapper_with_key("apply_model", "spy", record_cached_bytes)
    with pytest.raises(RuntimeError, match="cancelled") if error else nullcontext():
        rig.ksample(model, steps=4)
    assert max(cached_bytes) > 0
    assert exo_cache_of(model).kept_bytes == 0


def record_after_each_forward(model, read_value) -> list:
    """Collect what ``read_value(x)`` returns after each forward of the model."""
    values = []

    def record_value(executor, x, *args, **kwargs):
        prediction = executor(x, *args, **kwargs)
        values.append(read_value(x))
        return prediction

    model.add_wrapper_with_key("apply_model", "spy", record_value)
    return values


@pytest.mark.parametrize("packed", [False, True])
def test_the_cached_memory_of_a_dropped_condition_is_freed(rig, monkeypatch, packed):
    """Check that half of the cache is freed when one of two prompts is dropped."""
    from comfy_extras.nodes_custom_sampler import CFGOverride

    if packed:
        leave_little_room(rig, monkeypatch)
    model = rig.patch(recompute_exo=0)
    exo_cache = exo_cache_of(model)
    forward_readings = record_after_each_forward(
        model, lambda x: (len(x), exo_cache.kept_bytes, exo_cache.full_count)
    )
    cfg_override = {"cfg": 1.0, "start_percent": 0.45, "end_percent": 1.0}
    cached_latent = rig.ksample(CFGOverride.execute(model, **cfg_override)[0], steps=6)
    batch_sizes, cached_bytes, full_counts = zip(*forward_readings, strict=True)
    assert batch_sizes == (2, 2, 2, 1, 1, 1)
    assert full_counts == (1,) * 6
    shared_bytes = count_rotation_bytes(rig) if packed else 0
    assert len(set(cached_bytes[:3])) == len(set(cached_bytes[3:])) == 1
    assert cached_bytes[0] - shared_bytes == 2 * (cached_bytes[3] - shared_bytes) > 0
    uncached_latent = rig.ksample(CFGOverride.execute(rig.patch(), **cfg_override)[0], steps=6)
    assert (
        cached_latent.isfinite().all()
        and (cached_latent - uncached_latent).std() < 0.5 * uncached_latent.std()
    )


def count_rotation_bytes(rig) -> int:
    """Count the bytes of the exo tokens' rotary embeddings."""
    t, h, w_exo, _ = rig.canvas.latent_grid
    transformer = rig.model.get_model_object("diffusion_model")
    return t * h * w_exo // 4 * transformer.dim // transformer.num_heads * 2 * 4


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


def mark_exo_alone(model):
    """Clone a model, marked as having a LoRA that was trained with exo tokens alone."""
    marked_model = model.clone()
    marked_model.set_attachments("egox_lora_metadata", {"egox.exo": "alone"})
    return marked_model


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
    with refuses("before the EgoX patch"):
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


def draw_key_lora(rig) -> dict[str, torch.Tensor]:
    """Draw a random LoRA for the first block's keys."""
    layer_name = "diffusion_model.blocks.0.self_attn.k"
    output_size, input_size = rig.model.get_model_object(layer_name).weight.shape
    draw_normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    return {
        f"{layer_name}.lora_A.weight": draw_normal(4, input_size) / 5,
        f"{layer_name}.lora_B.weight": draw_normal(output_size, 4) / 5,
    }


def load_key_lora(rig) -> Any:
    """Load the LoRA of :func:`draw_key_lora` into the model with ComfyUI's own loader."""
    import comfy.sd

    return comfy.sd.load_lora_for_models(rig.model, None, draw_key_lora(rig), 1.0, 0.0)[0]


def create_hook(rig, kind: str) -> Any:
    """Create a hook as ComfyUI's *Create Hook LoRA* or *Create Hook Model as LoRA* does."""
    import comfy.hooks

    key_lora = draw_key_lora(rig)
    if kind == "lora":
        return comfy.hooks.create_hook_lora(key_lora, 1.0, 1.0)
    down_weight, up_weight = key_lora.values()
    weight_name = "diffusion_model.blocks.0.self_attn.k.weight"
    return comfy.hooks.create_hook_model_as_lora(
        {weight_name: rig.model.get_model_object(weight_name) + up_weight @ down_weight},
        None,
        1.0,
        1.0,
    )


def attach_hooks(conditioning: list, hooks: Any) -> list:
    """Attach hooks to a conditioning as ComfyUI's *Cond Set Props* does."""
    from comfy_extras.nodes_hooks import ConditioningSetProperties

    (hooked_conditioning,) = ConditioningSetProperties().set_properties(
        conditioning, 1.0, "default", hooks=hooks
    )
    return hooked_conditioning


@pytest.mark.parametrize("kind", ["lora", "model"])
@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
@pytest.mark.parametrize("recompute_exo", [1, 2, 0])
def test_a_hook_on_both_prompts_equals_the_lora_on_the_model(rig, recompute_exo, lambda_g, kind):
    lora_hooks = create_hook(rig, kind)
    hooked_prompts = {
        name: attach_hooks(getattr(rig, name), lora_hooks) for name in ("positive", "negative")
    }
    patch_options = {"lambda_g": lambda_g, "recompute_exo": recompute_exo}
    patched_model = rig.patch(**patch_options)
    hooked_latent = rig.ksample(patched_model, steps=4, **hooked_prompts)
    lora_latent = rig.ksample(rig.patch(load_key_lora(rig), **patch_options), steps=4)
    plain_latent = rig.ksample(rig.patch(**patch_options), steps=4)
    assert (hooked_latent - lora_latent).abs().max() <= 1e-5 * (
        plain_latent - lora_latent
    ).abs().max()
    if recompute_exo != 1:
        assert count_full_and_reused(patched_model) == ((2, 2) if recompute_exo else (1, 3))
    positive_only_latent = rig.ksample(
        rig.patch(**patch_options), steps=4, positive=hooked_prompts["positive"]
    )
    assert (
        positive_only_latent.isfinite().all()
        and not torch.equal(positive_only_latent, hooked_latent)
        and not torch.equal(positive_only_latent, plain_latent)
    )


def test_a_hook_works_in_the_sampler_node_and_with_keyframes(rig):
    """Check that the exo half is computed again when a hook's strength changes."""
    from comfy_extras.nodes_hooks import CreateHookKeyframe, SetHookKeyframes

    lora_hooks = create_hook(rig, "lora")
    hooked_prompts = {
        name: attach_hooks(getattr(rig, name), lora_hooks) for name in ("positive", "negative")
    }
    hooked_latent, lora_latent = (
        rig.wan_sample(**hooked_prompts),
        rig.wan_sample(load_key_lora(rig)),
    )
    assert (hooked_latent - lora_latent).abs().max() <= 1e-5 * lora_latent.abs().max()
    hook_keyframes = None
    for strength, start in ((1.0, 0.0), (0.0, 0.5)):
        (hook_keyframes,) = CreateHookKeyframe().create_hook_keyframe(
            strength, start, hook_keyframes
        )
    (timed_hooks,) = SetHookKeyframes().set_hook_keyframes(lora_hooks, hook_keyframes)
    hooked_prompts = {
        name: attach_hooks(getattr(rig, name), timed_hooks) for name in ("positive", "negative")
    }
    model = rig.patch(recompute_exo=0)
    cached_latent = rig.ksample(model, steps=6, **hooked_prompts)
    assert count_full_and_reused(model) == (2, 4)
    uncached_latent = rig.ksample(rig.patch(), steps=6, **hooked_prompts)
    assert (cached_latent - uncached_latent).std() < 0.5 * uncached_latent.std()


class EnhancedModule(torch.nn.Module):
    """Wrap a module and scale its output by a mean over all tokens."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        return (
            getattr(super().__getattr__("inner"), name)
            if name != "inner"
            else self._modules["inner"]
        )

    def forward(self, *args, **kwargs):
        return enhance(self.inner(*args, **kwargs))


def enhance(tokens: torch.Tensor) -> torch.Tensor:
    """Scale tokens by a mean over all of them, as Enhance-A-Video does."""
    return tokens * (1 + tokens.mean().tanh())


def call_enhanced(inner_call, *args, **kwargs):
    return enhance(inner_call(*args, **kwargs))


REPLACEMENTS = {
    # kind: a factory of the replacement for the given method or module
    "function": lambda inner_call: (
        lambda *args, **kwargs: call_enhanced(inner_call, *args, **kwargs)
    ),
    "partial": lambda inner_call: partial(call_enhanced, inner_call),
    "wraps": lambda inner_call: wraps(inner_call)(REPLACEMENTS["function"](inner_call)),
    "compile": lambda inner_call: torch.compile(
        REPLACEMENTS["function"](inner_call), backend="eager"
    ),
    "module": EnhancedModule,
}


@pytest.mark.parametrize("replacement_kind", REPLACEMENTS)
@pytest.mark.parametrize("module_suffix", [".self_attn", ""])
def test_attention_that_another_node_replaces_switches_the_exo_cache_off(
    rig, module_suffix, replacement_kind
):
    model = rig.patch(recompute_exo=2)
    for block_number in range(len(model.get_model_object("diffusion_model").blocks)):
        object_name = f"diffusion_model.blocks.{block_number}{module_suffix}"
        object_name += "" if replacement_kind == "module" else ".forward"
        model.add_object_patch(
            object_name, REPLACEMENTS[replacement_kind](model.get_model_object(object_name))
        )
    check_reused_equals_full(rig, model, 1e-5)
    cache_note = rig.nodes("patch.checks").describe_exo_use(exo_cache_of(model))
    assert (
        count_full_and_reused(model)[1] == 0 and f"{__name__} needs the whole canvas" in cache_note
    )
    check_reused_equals_full(rig, unreplaced_model := rig.patch(recompute_exo=2), 1e-5)
    assert count_full_and_reused(unreplaced_model) == (1, 3)


@pytest.mark.parametrize("changed_object", ["the class", "torch's hook", "forward_orig"])
def test_attention_changed_in_each_call_switches_the_exo_cache_off(
    pack, repo_root, monkeypatch, changed_object
):
    """Check that the exo cache is off when another pack changes attention in each call."""
    rig = large_rig(pack, repo_root)  # on which no object patch has left a method
    model = rig.patch(recompute_exo=2)
    transformer = model.get_model_object("diffusion_model")

    def call_with_changed_attention(apply, call):
        self_attention = transformer.blocks[0].self_attn
        handle = None
        with monkeypatch.context() as patch:
            if changed_object == "the class":
                class_forward = type(self_attention).forward
                patch.setattr(
                    type(self_attention),
                    "forward",
                    lambda *a, **k: call_enhanced(class_forward, *a, **k),
                )
            elif changed_object == "forward_orig":
                patch.setattr(
                    transformer, changed_object, partial(call_enhanced, transformer.forward_orig)
                )
            else:
                handle = self_attention.register_forward_hook(
                    lambda module, args, output: enhance(output)
                )
            prediction = apply(call["input"], call["timestep"], **call["c"])
        if handle is not None:
            handle.remove()
        return prediction

    model.set_model_unet_function_wrapper(call_with_changed_attention)
    check_reused_equals_full(rig, model, 1e-5)
    assert count_full_and_reused(model)[1] == 0 and exo_cache_of(model).whole_canvas_code == {
        __name__
    }


@pytest.mark.parametrize(
    "module_path",
    [
        "blocks.0.cross_attn",  # NAG
        "blocks.0.ffn",
        "blocks.0.self_attn.norm_q",
        "text_embedding",
        "head",
    ],
)
def test_replaced_modules_that_work_per_token_leave_exo_cached(rig, module_path):
    model = rig.patch(recompute_exo=2)
    module_path = f"diffusion_model.{module_path}.forward"
    original = model.get_model_object(module_path)
    model.add_object_patch(module_path, lambda *args, **kwargs: 1.1 * original(*args, **kwargs))
    check_reused_equals_full(rig, model, 1e-5)
    assert count_full_and_reused(model) == (1, 3)
    assert not exo_cache_of(model).whole_canvas_code


def test_the_strength_of_a_scheduled_lora_is_part_of_the_cache_key(rig):
    exo_cache_module = rig.nodes("patch.exo_cache")
    model_input = torch.zeros(1, 36, 3, 8, 8)
    executor = SimpleNamespace(
        class_obj=rig.model.get_model_object("diffusion_model"), wrappers=[None], idx=0
    )
    cache = rig.nodes("patch.exo_cache").ExoCache(0)
    base_options = {
        "sample_sigmas": torch.tensor([1.0, 0.0]),
        "sigmas": torch.tensor([1.0]),
        "uuids": ["a"],
    }
    option_changes = (
        {},
        {exo_cache_module.WEIGHTS: ((1, 0.5),)},
        {exo_cache_module.WEIGHTS: ((1, 0.7),)},
        {"uuids": ["b"]},
        {exo_cache_module.SLOTS: {"dit": {("double_block", 1): torch.nn.functional.softmax}}},
    )
    cases = [
        *(({**base_options, **changed_options}, None) for changed_options in option_changes),
        (base_options, [0, 1, 2]),
    ]
    exo_calls = [
        exo_cache_module.make_exo_call(cache, executor, model_input, (), options, frames, 1)
        for options, frames in cases
    ]
    assert len({(call.key, call.conditions, call.weights) for call in exo_calls}) == 6


def call_conditions_one_by_one(model, passed_names: str):
    """Patch the model so that each condition is computed in its own call.

    Of the stack's names it passes on all, only those of its own side, or none."""

    def call_each_condition(apply, args):
        outputs = []
        count = len(args["cond_or_uncond"])
        for position, side in enumerate(args["cond_or_uncond"]):
            condition_args = {
                name: x.chunk(count)[position] if isinstance(x, torch.Tensor) else x
                for name, x in args["c"].items()
            }
            options = dict(condition_args["transformer_options"])
            if passed_names == "its side":
                options["cond_or_uncond"] = [side]
            elif passed_names == "nothing":
                del options["cond_or_uncond"], options["uuids"]
            condition_args["transformer_options"] = options
            x, noise_level = (args[name].chunk(count)[position] for name in ("input", "timestep"))
            outputs.append(apply(x, noise_level, **condition_args))
        return torch.cat(outputs)

    wrapped_model = model.clone()
    wrapped_model.set_model_unet_function_wrapper(call_each_condition)
    return wrapped_model


@pytest.mark.parametrize("passed_names", ["all names", "its side"])
@pytest.mark.parametrize("recompute_exo", [1, 0])
def test_a_wrapper_may_call_the_model_for_one_condition_at_a_time(rig, passed_names, recompute_exo):
    model = rig.patch(recompute_exo=recompute_exo)
    plain_latent = rig.ksample(model, steps=4)
    wrapped_latent = rig.ksample(call_conditions_one_by_one(model, passed_names), steps=4)
    assert (wrapped_latent - plain_latent).abs().max() < 1e-5 * plain_latent.abs().max()
    if recompute_exo == 0:
        assert count_full_and_reused(model) == (2, 6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("recompute_exo", [0, 3])
def test_a_condition_that_returns_gives_the_same_stacked_or_single(
    rig, monkeypatch, packed, recompute_exo
):
    """Check that results agree after a condition was skipped for some steps."""
    from comfy_extras.nodes_custom_sampler import CFGOverride

    if packed:
        leave_little_room(rig, monkeypatch)
    memory_required = type(rig.model.model).memory_required

    def sample_with_override(splits_conditions: bool):
        def require_memory(self, input_shape, cond_shapes=None):
            splits_stack = splits_conditions and cond_shapes is not None and input_shape[0] > 1
            return 1e30 if splits_stack else memory_required(self, input_shape, cond_shapes or {})

        monkeypatch.setattr(type(rig.model.model), "memory_required", require_memory)
        model = rig.patch(recompute_exo=recompute_exo)
        cfg_override = {"cfg": 1.0, "start_percent": 0.2, "end_percent": 0.5}
        latent = rig.ksample(CFGOverride.execute(model, **cfg_override)[0], steps=8)
        return latent, exo_cache_of(model).full_count

    (stacked_latent, stacked_full_count), (single_latent, single_full_count) = (
        sample_with_override(False),
        sample_with_override(True),
    )
    # In 8 bits a number may round the other way.
    tolerance = 1e-3 if packed else 1e-5
    assert (stacked_latent - single_latent).abs().max() < tolerance * single_latent.abs().max()
    assert stacked_full_count < single_full_count
