"""The exo cache in the host's model path: exact where nothing has changed, and what it lives
with."""

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

from .test_model_windows import long_rig, windowed


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    return large_rig(pack, repo_root)


def large_rig(pack, repo_root) -> model_rig.ModelRig:
    size = model_rig.RigSize(frames=9, exo_width=128, height=64)
    with torch.inference_mode():
        return model_rig.random_rig(pack, repo_root / "models", size)


def cache_of(model):
    (wrapper,) = model.get_wrappers("diffusion_model", "egox")
    return wrapper.calls.exo_cache


def counts_of(model) -> tuple[int, int]:
    """Count forwards that computed exo, and those that kept it."""
    return cache_of(model).full, cache_of(model).kept


def sample_twice(rig, model, cfg: float = 3.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Predict each of two steps twice: by a full forward, then by one that may be kept."""
    import comfy.samplers

    pairs = []

    def twice(ask, x, sigmas, extra_args=None, callback=None, disable=None):
        for sigma in sigmas[:2]:
            level = x.new_ones([x.shape[0]]) * sigma
            pairs.append((ask(x, level, **extra_args), ask(x, level, **extra_args)))
        callback(
            {"i": 0, "denoised": pairs[0][0], "x": x, "sigma": sigmas[0], "sigma_hat": sigmas[0]}
        )
        return pairs[-1][0]

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(rig.positive, rig.negative)
    guider.set_cfg(cfg)
    noise = torch.randn(rig.latent["samples"].shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        guider.sample(
            noise,
            rig.latent["samples"],
            comfy.samplers.KSAMPLER(twice),
            torch.tensor([0.9, 0.5, 0.0]),
            disable_pbar=True,
            seed=1,
        )
    return pairs


PACKED = 1e-2
"""Of the largest value: what 8 bits may change."""


def kept_equals_full(rig, model, tolerance: float = PACKED, **options) -> torch.Tensor:
    """Check that every kept forward is as close to its full one as required, and return the first
    prediction."""
    pairs = sample_twice(rig, model, **options)
    for full, kept_prediction in pairs:
        assert (full - kept_prediction).abs().max() <= tolerance * full.abs().max()
    return pairs[0][0]


def leave_little_room(rig, monkeypatch) -> None:
    """Leave no room for keys and values as they are, so that 8 bits are kept."""
    of_cache = rig.nodes("patch.exo_cache")
    size = of_cache.kept_size
    monkeypatch.setattr(
        of_cache, "kept_size", lambda *sizes: size(*sizes) if sizes[-1] is None else 2**62
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
def test_a_kept_forward_equals_a_full_one_at_the_same_noise(rig, monkeypatch, lambda_g, packed):
    """Positions, masks, geometry and conditions of the ego half are those that it has in the whole
    canvas. To rounding with keys and values kept as they are, the twin of 8 bits."""
    if packed:
        leave_little_room(rig, monkeypatch)
    model = rig.patch(lambda_g=lambda_g, recompute_exo=2)
    # The same sums over other shapes of matrices; float32.
    kept_equals_full(rig, model, PACKED if packed else 1e-5)
    assert counts_of(model) == (1, 3), "both steps are of one group of two"


def test_one_is_the_model_without_a_cache(rig):
    model = rig.patch(recompute_exo=1)
    assert cache_of(model) is None
    pairs = sample_twice(rig, model)
    first = sample_twice(rig, rig.patch())[0][0]
    assert torch.equal(pairs[0][0], first) and torch.equal(*pairs[0])


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m", "dpm_2"])
def test_samplers_of_the_host(rig, sampler):
    model = rig.patch(recompute_exo=4)
    every = rig.ksample(rig.patch(), sampler=sampler, steps=8)
    out = rig.ksample(model, sampler=sampler, steps=8)
    full, kept_count = counts_of(model)
    assert full == 2 and kept_count >= 6
    assert out.isfinite().all() and 0 < (out - every).std() < 0.5 * every.std()


def test_released_sampling_and_part_of_the_noise(rig):
    out = rig.wan_sample(steps=8, recompute_exo=4)
    assert 0 < (out - rig.wan_sample(steps=8)).std() < 0.5 * out.std()
    model = rig.patch(recompute_exo=4)
    part = rig.ksample(model, steps=8, denoise=0.5)
    assert part.isfinite().all() and counts_of(model) == (2, 6)


def test_prompts_of_other_lengths_are_kept_apart(pack, repo_root, monkeypatch):
    with torch.inference_mode():
        other = model_rig.make_rig(pack, repo_root / "models", prompt_tokens=(6, 9))
    leave_little_room(other, monkeypatch)
    model = other.patch(recompute_exo=2)
    kept_equals_full(other, model)
    assert cache_of(model).full == 2, "one per prompt"


def test_context_windows_have_keys_of_their_own(pack, repo_root, monkeypatch):
    long, windows = long_rig(pack, repo_root, 41), {"context_length": 13, "context_overlap": 4}
    model, plain = (
        windowed(long.patch(recompute_exo=every), context_schedule="standard_static", **windows)
        for every in (2, 1)
    )
    leave_little_room(long, monkeypatch)
    first = kept_equals_full(long, model, cfg=1.0)
    expected = sample_twice(long, plain, cfg=1.0)[0][0]
    assert (first - expected).abs().max() <= 1e-5 * expected.abs().max(), "no other window's"
    full, kept_count = counts_of(model)
    assert 1 < full < kept_count


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize("lazy", [False, True])
def test_the_hosts_step_caches_skip_kept_and_full_forwards_alike(rig, patch_first, lazy):
    """Bit for bit where they skip nothing. EasyCache after the patch compares whole canvases: it
    gets them."""
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    node = LazyCacheNode if lazy else EasyCacheNode

    def cached(model, threshold: float):
        return node.execute(
            model, reuse_threshold=threshold, start_percent=0.0, end_percent=1.0, verbose=False
        )[0]

    def build(threshold: float):
        if patch_first:
            return cached(rig.patch(recompute_exo=2), threshold)
        return rig.patch(cached(rig.model, threshold), recompute_exo=2)

    inside = patch_first and not lazy
    alone = rig.ksample(rig.patch(recompute_exo=1 if inside else 2), steps=8)
    assert torch.equal(rig.ksample(build(0.0), steps=8), alone)
    model = build(3.0)
    out, cache = rig.ksample(model, steps=8), cache_of(model)
    forwards = sum(counts_of(model))
    assert cache.full > 0 and out.isfinite().all() and (out - alone).abs().max() < alone.abs().max()
    if inside:
        assert cache.kept == 0 and forwards == 8, (
            "it decides after the patch, which then keeps nothing"
        )
        assert "nodes_easycache needs the whole canvas" in rig.nodes("patch.checks").exo_words(
            cache
        )
    else:
        assert forwards < 8


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": torch.float8_e4m3fn},
        {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    ],
)
def test_weights_in_other_types(pack, repo_root, monkeypatch, options):
    other, shipped = large_rig(pack, repo_root), model_rig.standins.SHIPPED["transformer"]
    with torch.inference_mode():
        other.model = model_rig.load_transformer(repo_root / "models" / shipped, **options)
    leave_little_room(other, monkeypatch)
    model = other.patch(recompute_exo=2)
    tolerance = 2e-2 if other.model.model.manual_cast_dtype is None else PACKED
    kept_equals_full(other, model, tolerance)
    assert counts_of(model) == (1, 3)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        (None, "float8_e4m3fn weights, matrix products in float32"),
        (2, "float8_e4m3fn weights, matrix products in float32, as the file asks"),
        (0, "float8_e4m3fn weights, matrix products in float32, since this device has none"),
    ],
)
def test_the_note_says_how_a_file_of_8_bits_is_computed(rig, repo_root, tmp_path, marker, said):
    """An ``fp8_scaled`` file whose marker has two elements asks for whole products."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    assert not rig.nodes("patch.patch").arithmetic_notes(rig.model)
    source = repo_root / "models" / model_rig.standins.SHIPPED["transformer"]
    state, scaled = load_file(source), {}
    for name, x in state.items():
        big = name.startswith("blocks.") and name.endswith(".weight") and x.ndim == 2
        scale = x.abs().max().float() / 448 if big and marker is not None else torch.ones(())
        scaled[name] = (x / scale).to(torch.float8_e4m3fn) if big else x
        if big and marker is not None:
            scaled[name.removesuffix("weight") + "scale_weight"] = scale.reshape(1)
    if marker is not None:
        scaled["scaled_fp8"] = torch.zeros(marker, dtype=torch.float8_e4m3fn)
    with safe_open(source, "pt") as file:
        save_file(scaled, tmp_path / "weights.safetensors", file.metadata())
    with torch.inference_mode():
        options = {"dtype": torch.float8_e4m3fn} if marker is None else {}
        model = model_rig.load_transformer(tmp_path / "weights.safetensors", **options)
    assert said in rig.nodes("patch.patch").arithmetic_notes(model)[0]
    assert rig.ksample(rig.patch(model), steps=1).isfinite().all()


def test_weights_that_are_brought_in_block_by_block(pack, repo_root, monkeypatch):
    """The host's offloading: no weight stays on the device, each is cast for its own use."""
    from comfy.model_patcher import ModelPatcher

    rig = model_rig.random_rig(pack, repo_root / "models", model_rig.RigSize())
    load = ModelPatcher.load
    monkeypatch.setattr(
        ModelPatcher,
        "load",
        lambda self, device=None, *args, **kwargs: load(self, device, lowvram_model_memory=1),
    )
    leave_little_room(rig, monkeypatch)
    model = rig.patch(recompute_exo=2).clone(disable_dynamic=True)
    kept_equals_full(rig, model)
    assert model.model.model_lowvram and counts_of(model) == (1, 3)


def test_runs_of_another_seed_prompt_or_lora_keep_nothing_of_the_run_before(rig):
    """All are clones of one patched model and share its cache. Each equals the run of a fresh one."""

    def weaker(model):
        lora = model.clone()
        name = "diffusion_model.blocks.0.self_attn.k.weight"
        size = rig.model.get_model_object("diffusion_model").blocks[0].self_attn.k.weight.shape
        lora.add_patches({name: ("diff", (torch.full(size, 0.02),))}, 0.7)
        return rig.ksample(lora, steps=4)

    for second in (
        weaker,
        lambda model: rig.ksample(model, steps=4, seed=77),
        lambda model: rig.ksample(model, steps=4, positive=rig.negative, negative=rig.positive),
    ):
        model = rig.patch(recompute_exo=0)
        first = rig.ksample(model, steps=4)
        assert torch.equal(second(model), fresh := second(rig.patch(recompute_exo=0)))
        assert not torch.equal(fresh, first)


@pytest.mark.parametrize("error", [None, RuntimeError("cancelled")])
def test_memory_is_given_back_at_the_end_and_on_errors(rig, error):
    model, held_bytes = rig.patch(recompute_exo=4), []

    def spy(executor, *args, **kwargs):
        out = executor(*args, **kwargs)
        held_bytes.append(cache_of(model).kept_bytes)
        if error and len(held_bytes) == 2:
            raise error
        return out

    model.add_wrapper_with_key("apply_model", "spy", spy)
    with pytest.raises(RuntimeError, match="cancelled") if error else nullcontext():
        rig.ksample(model, steps=4)
    assert max(held_bytes) > 0 and cache_of(model).kept_bytes == 0


def after_each_forward(model, read) -> list:
    """Collect the values that ``read(x)`` gives after each forward of the model."""
    values = []

    def spy(executor, x, *args, **kwargs):
        out = executor(x, *args, **kwargs)
        values.append(read(x))
        return out

    model.add_wrapper_with_key("apply_model", "spy", spy)
    return values


@pytest.mark.parametrize("packed", [False, True])
def test_a_condition_that_is_left_out_gives_its_memory_back(rig, monkeypatch, packed):
    """The host's CFG Override to 1 from the middle on: half of the bytes go at that step, and what
    stays serves to the end."""
    from comfy_extras.nodes_custom_sampler import CFGOverride

    if packed:
        leave_little_room(rig, monkeypatch)
    model = rig.patch(recompute_exo=0)
    cache = cache_of(model)
    readings = after_each_forward(model, lambda x: (len(x), cache.kept_bytes, cache.full))
    override = {"cfg": 1.0, "start_percent": 0.45, "end_percent": 1.0}
    out = rig.ksample(CFGOverride.execute(model, **override)[0], steps=6)
    batches, sizes, full = zip(*readings, strict=True)
    assert batches == (2, 2, 2, 1, 1, 1) and full == (1,) * 6
    shared = cache_rotations(rig) if packed else 0
    assert len(set(sizes[:3])) == len(set(sizes[3:])) == 1
    assert sizes[0] - shared == 2 * (sizes[3] - shared) > 0
    anew = rig.ksample(CFGOverride.execute(rig.patch(), **override)[0], steps=6)
    assert out.isfinite().all() and (out - anew).std() < 0.5 * anew.std()


def cache_rotations(rig) -> int:
    """Compute the bytes of exo's positions, which all conditions share."""
    t, h, w_exo, _ = rig.canvas.latent_grid
    transformer = rig.model.get_model_object("diffusion_model")
    return t * h * w_exo // 4 * transformer.dim // transformer.num_heads * 2 * 4


def test_conditions_that_memory_parts_or_joins_are_kept(rig, monkeypatch):
    """The host stacks cond and uncond as its memory allows, which changes from step to step."""
    model = rig.patch(recompute_exo=0)
    cache = cache_of(model)
    readings = after_each_forward(model, lambda x: (len(x), cache.full))
    memory_required = type(model.model).memory_required

    def required(self, input_shape, cond_shapes=None):
        apart = cond_shapes is not None and input_shape[0] > 1 and 0 < len(readings) < 5
        return 1e30 if apart else memory_required(self, input_shape, cond_shapes or {})

    monkeypatch.setattr(type(model.model), "memory_required", required)
    rig.ksample(model, steps=4)
    assert readings == [(2, 1), (1, 1), (1, 1), (1, 1), (1, 1), (2, 1)]


def test_resident_encoders_leave_for_what_is_kept(rig, monkeypatch):
    """Text encoder, CLIP and VAE stay on a device whose memory nobody needs. It is counted as the
    host counts it."""
    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcher

    cpu, memory = torch.device("cpu"), rig.nodes("host.memory").HostMemory
    encoder = ModelPatcher(torch.nn.Linear(1024, 1024), cpu, cpu)
    ours = rig.patch(recompute_exo=0)
    mine = memory(ours, [2, 1, 3, 8, 24])
    card = 2**31
    # A card of 2 GiB in place of the main memory that the rig computes in.
    monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(management, "current_loaded_models", [])
    for model in (encoder, ours):
        entry = management.LoadedModel(model)
        entry.model_load()
        management.current_loaded_models.append(entry)

    def free(device=None, torch_free_too=False):
        left = card - sum(x.model_loaded_memory() for x in management.current_loaded_models)
        return (left, 0) if torch_free_too else left

    monkeypatch.setattr(management, "get_free_memory", free)
    without = card - ours.loaded_size() - mine._needed_bytes()
    assert ours.loaded_size() == ours.model_size() > 0 and encoder.loaded_size() == 4 * 1025 * 1024
    assert mine.room(cpu) == without, "as if the encoder weren't there"
    mine.take(cpu, without - encoder.loaded_size())
    assert [one.model for one in management.current_loaded_models] == [encoder, ours], "both fit"
    mine.take(cpu, without)
    assert [one.model for one in management.current_loaded_models] == [ours]
    assert mine.room(cpu) == without == free() - mine._needed_bytes()


def test_a_sampled_model_is_in_no_circle_of_references(rig):
    """The host would collect all garbage, and warn, before each later model that it loads."""
    model = rig.patch(recompute_exo=2)
    rig.ksample(model, steps=3)
    sampled = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert sampled() is None
    finally:
        gc.enable()


def test_without_room_the_note_says_how_much_is_missing(rig, monkeypatch):
    monkeypatch.setattr(rig.nodes("host.memory").HostMemory, "room", lambda self, device: 0)
    model = rig.patch(recompute_exo=4)
    out = rig.ksample(model, steps=4)
    assert torch.equal(out, rig.ksample(rig.patch(), steps=4)), "every step is full"
    calls = rig.nodes("patch.patch").patch_calls(model)
    assert calls.warning.startswith("no room to keep exo, which takes "), "before the first step"
    note = rig.nodes("patch.checks").with_kernels("", calls)
    assert "exo computed in 4 of 4 forwards; no room to keep it" in note


def alone(model):
    """Clone the model as behind a LoRA that was trained with exo alone."""
    other = model.clone()
    other.set_attachments("egox_lora_metadata", {"egox.exo": "alone"})
    return other


@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
def test_exo_alone_is_computed_once_and_exactly(rig, monkeypatch, lambda_g):
    model = rig.patch(alone(rig.model), lambda_g=lambda_g)
    kept_latent = rig.ksample(model, steps=4)
    assert counts_of(model) == (1, 3)
    monkeypatch.setattr(type(cache_of(model)), "_still_good", lambda *args: False)
    anew = rig.ksample(model, steps=4)
    assert counts_of(model) == (4, 0)
    assert (kept_latent - anew).abs().max() <= PACKED * anew.abs().max()
    sees = rig.ksample(rig.patch(lambda_g=lambda_g), steps=4)
    assert (kept_latent - sees).abs().max() > 1e-3 * sees.abs().max(), (
        "another model than one whose exo sees ego"
    )


@pytest.mark.parametrize(
    ("exo", "position_scale"),
    [("sees_ego", 1.0), ("sees_ego", 0.5), ("alone", 1.0), ("alone", 0.5)],
)
def test_host_and_trainer_sample_the_same(rig, repo_root, exo, position_scale):
    import comfy.sample

    from egox_train.train.config import ConditioningConfig
    from egox_train.train.samples import TrainSample
    from egox_train.train.sampling import sample_ego
    from egox_train.wan.diffusers_processor import install_gga
    from egox_train.wan.transformer import load_base

    noise = comfy.sample.prepare_noise(rig.latent["samples"], 5)
    model = alone(rig.model) if exo == "alone" else rig.model.clone()
    model.set_model_rope_options(position_scale, 0.0, position_scale, 0.0, 1.0, 0.0)
    host = rig.wan_sample(model, steps=3, cfg=1.0, seed=5)
    into = rig.model.get_model_object("latent_format").process_in
    geometry = rig.nodes("patch.patch").canvas_geometry(
        rig.canvas, rig.depth, rig.trajectory, "released"
    )
    prior = into(rig.canvas.prior_latent)
    sample = TrainSample(
        clips=("rig",),
        exo=into(rig.canvas.exo_latent),
        ego=torch.zeros_like(prior),
        cond_ego=prior,
        text=rig.positive[0][0],
        image=None,
        geometry=(geometry,),
    )
    model = load_base(repo_root / "models" / model_rig.standins.SHIPPED["transformer"])
    trainer = sample_ego(
        model.eval(),
        install_gga(model, position_scale),
        sample,
        ConditioningConfig(exo=exo, image_embedding="none"),
        steps=3,
        noise=noise,
    )
    trainer = rig.model.get_model_object("latent_format").process_out(trainer)
    assert (host - trainer).abs().max() <= PACKED * trainer.abs().max()


def test_exo_alone_is_refused_where_it_cannot_be(rig, monkeypatch):
    model = rig.patch(alone(rig.model))
    model.set_model_attn1_patch(lambda call: call["x"])
    with refuses("before the EgoX patch"):
        rig.ksample(model, steps=2)
    monkeypatch.setattr(rig.nodes("host.memory").HostMemory, "room", lambda self, device: 0)
    with refuses("no room"):
        rig.ksample(rig.patch(alone(rig.model)), steps=2)


def test_the_note_says_where_time_went_and_what_keeping_exo_would_bring(rig):
    checks, calls_of = rig.nodes("patch.checks"), rig.nodes("patch.patch").patch_calls
    model = rig.patch()
    rig.ksample(model, steps=8)
    words = checks.time_words(calls_of(model))
    assert words.endswith("; recompute exo 4 would take about 50 % of it"), (
        "2 of 8 whole, 6 of a third"
    )
    assert not calls_of(model).seconds.total(checks.CACHE)
    model = rig.patch(recompute_exo=4)
    rig.ksample(model, steps=8)
    words, seconds = checks.time_words(calls_of(model)), calls_of(model).seconds
    assert "with exo kept" in words and "in keeping exo" in words and "would take" not in words
    parts = (checks.ATTENTION, checks.CACHE)
    assert 0 < seconds.total(*parts) < seconds.total(checks.FULL, checks.KEPT)


def lora_of_keys(rig) -> dict[str, torch.Tensor]:
    """Draw a LoRA of the first block's keys, in the host's names."""
    name = "diffusion_model.blocks.0.self_attn.k"
    out, into = rig.model.get_model_object(name).weight.shape
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    return {f"{name}.lora_A.weight": draw(4, into) / 5, f"{name}.lora_B.weight": draw(out, 4) / 5}


def with_lora(rig) -> Any:
    """Load that LoRA into the model by the host's own loader."""
    import comfy.sd

    return comfy.sd.load_lora_for_models(rig.model, None, lora_of_keys(rig), 1.0, 0.0)[0]


def create_hook(rig, kind: str) -> Any:
    """Create a hook as *Create Hook LoRA* or *… Model as LoRA* makes it of files."""
    import comfy.hooks

    lora = lora_of_keys(rig)
    if kind == "lora":
        return comfy.hooks.create_hook_lora(lora, 1.0, 1.0)
    a, b = lora.values()
    name = "diffusion_model.blocks.0.self_attn.k.weight"
    return comfy.hooks.create_hook_model_as_lora(
        {name: rig.model.get_model_object(name) + b @ a}, None, 1.0, 1.0
    )


def set_props(conditioning: list, hooks: Any) -> list:
    """Set hooks as *Cond Set Props* does."""
    from comfy_extras.nodes_hooks import ConditioningSetProperties

    (conditioned,) = ConditioningSetProperties().set_properties(
        conditioning, 1.0, "default", hooks=hooks
    )
    return conditioned


@pytest.mark.parametrize("kind", ["lora", "model"])
@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
@pytest.mark.parametrize("every", [1, 2, 0])
def test_a_hook_on_both_prompts_is_the_lora_on_the_model(rig, every, lambda_g, kind):
    hooks = create_hook(rig, kind)
    both = {name: set_props(getattr(rig, name), hooks) for name in ("positive", "negative")}
    options = {"lambda_g": lambda_g, "recompute_exo": every}
    hooked = rig.patch(**options)
    out = rig.ksample(hooked, steps=4, **both)
    expected = rig.ksample(rig.patch(with_lora(rig), **options), steps=4)
    plain = rig.ksample(rig.patch(**options), steps=4)
    assert (out - expected).abs().max() <= 1e-5 * (plain - expected).abs().max()
    if every != 1:
        assert counts_of(hooked) == ((2, 2) if every else (1, 3))
    one = rig.ksample(rig.patch(**options), steps=4, positive=both["positive"])
    assert one.isfinite().all() and not torch.equal(one, out) and not torch.equal(one, plain)


def test_a_hook_through_the_sampler_node_and_over_part_of_the_time(rig):
    """Another strength is another exo half: it is computed anew where a keyframe begins."""
    from comfy_extras.nodes_hooks import CreateHookKeyframe, SetHookKeyframes

    hooks = create_hook(rig, "lora")
    both = {name: set_props(getattr(rig, name), hooks) for name in ("positive", "negative")}
    out, expected = rig.wan_sample(**both), rig.wan_sample(with_lora(rig))
    assert (out - expected).abs().max() <= 1e-5 * expected.abs().max()
    frames = None
    for strength, start in ((1.0, 0.0), (0.0, 0.5)):
        (frames,) = CreateHookKeyframe().create_hook_keyframe(strength, start, frames)
    (timed,) = SetHookKeyframes().set_hook_keyframes(hooks, frames)
    both = {name: set_props(getattr(rig, name), timed) for name in ("positive", "negative")}
    model = rig.patch(recompute_exo=0)
    kept = rig.ksample(model, steps=6, **both)
    assert counts_of(model) == (2, 4)
    anew = rig.ksample(rig.patch(), steps=6, **both)
    assert (kept - anew).std() < 0.5 * anew.std()


class Enhanced(torch.nn.Module):
    """A part of the model in another class."""

    def __init__(self, own: torch.nn.Module) -> None:
        super().__init__()
        self.own = own

    def __getattr__(self, name):
        return getattr(super().__getattr__("own"), name) if name != "own" else self._modules["own"]

    def forward(self, *args, **kwargs):
        return enhance(self.own(*args, **kwargs))


def enhance(out: torch.Tensor) -> torch.Tensor:
    """Enhance as Enhance-A-Video does, by a mean over all tokens."""
    return out * (1 + out.mean().tanh())


def enhanced(own, *args, **kwargs):
    return enhance(own(*args, **kwargs))


WAYS = {
    # way: what takes the place of the method that it names, or of the module
    "function": lambda own: lambda *args, **kwargs: enhanced(own, *args, **kwargs),
    "partial": lambda own: partial(enhanced, own),
    "wraps": lambda own: wraps(own)(WAYS["function"](own)),
    "compile": lambda own: torch.compile(WAYS["function"](own), backend="eager"),
    "module": Enhanced,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", [".self_attn", ""])
def test_attention_that_another_node_replaces(rig, part, way):
    """A forward of the ego half alone isn't the whole one's."""
    model = rig.patch(recompute_exo=2)
    for number in range(len(model.get_model_object("diffusion_model").blocks)):
        name = f"diffusion_model.blocks.{number}{part}"
        name += "" if way == "module" else ".forward"
        model.add_object_patch(name, WAYS[way](model.get_model_object(name)))
    kept_equals_full(rig, model, 1e-5)
    words = rig.nodes("patch.checks").exo_words(cache_of(model))
    assert counts_of(model)[1] == 0 and f"{__name__} needs the whole canvas" in words
    kept_equals_full(rig, clean := rig.patch(recompute_exo=2), 1e-5)
    assert counts_of(clean) == (1, 3)


@pytest.mark.parametrize("what", ["the class", "torch's hook", "forward_orig"])
def test_attention_that_another_node_changes_in_each_call(pack, repo_root, monkeypatch, what):
    """As packs do that take a whole class, and those that were written for diffusers."""
    rig = large_rig(pack, repo_root)  # on which no object patch has left a method
    model = rig.patch(recompute_exo=2)
    transformer = model.get_model_object("diffusion_model")

    def around(apply, call):
        first = transformer.blocks[0].self_attn
        handle = None
        with monkeypatch.context() as patch:
            if what == "the class":
                of_class = type(first).forward
                patch.setattr(type(first), "forward", lambda *a, **k: enhanced(of_class, *a, **k))
            elif what == "forward_orig":
                patch.setattr(transformer, what, partial(enhanced, transformer.forward_orig))
            else:
                handle = first.register_forward_hook(lambda module, args, out: enhance(out))
            out = apply(call["input"], call["timestep"], **call["c"])
        if handle is not None:
            handle.remove()
        return out

    model.set_model_unet_function_wrapper(around)
    kept_equals_full(rig, model, 1e-5)
    assert counts_of(model)[1] == 0 and cache_of(model).in_the_way == {__name__}


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.cross_attn",  # NAG
        "blocks.0.ffn",
        "blocks.0.self_attn.norm_q",
        "text_embedding",
        "head",
    ],
)
def test_what_takes_each_token_by_itself_leaves_exo_kept(rig, name):
    model = rig.patch(recompute_exo=2)
    name = f"diffusion_model.{name}.forward"
    original = model.get_model_object(name)
    model.add_object_patch(name, lambda *args, **kwargs: 1.1 * original(*args, **kwargs))
    kept_equals_full(rig, model, 1e-5)
    assert counts_of(model) == (1, 3) and not cache_of(model).in_the_way


def test_a_scheduled_lora_s_strength_is_part_of_the_key(rig):
    module = rig.nodes("patch.exo_cache")
    x = torch.zeros(1, 36, 3, 8, 8)
    executor = SimpleNamespace(
        class_obj=rig.model.get_model_object("diffusion_model"), wrappers=[None], idx=0
    )
    cache = rig.nodes("patch.exo_cache").ExoCache(0)
    base = {
        "sample_sigmas": torch.tensor([1.0, 0.0]),
        "sigmas": torch.tensor([1.0]),
        "uuids": ["a"],
    }
    changes = (
        {},
        {module.WEIGHTS: ((1, 0.5),)},
        {module.WEIGHTS: ((1, 0.7),)},
        {"uuids": ["b"]},
        {module.SLOTS: {"dit": {("double_block", 1): torch.nn.functional.softmax}}},
    )
    cases = [*(({**base, **more}, None) for more in changes), (base, [0, 1, 2])]
    calls = [
        module.exo_call(cache, executor, x, (), options, frames, 1) for options, frames in cases
    ]
    assert len({(call.key, call.conditions, call.weights) for call in calls}) == 6


def one_at_a_time(model, how: str):
    """Add a wrapper of another pack that calls the model for each condition of a stack by itself.
    Of the stack's names it passes on all, only its own side's, or none."""

    def around(apply, args):
        outputs, count = [], len(args["cond_or_uncond"])
        for place, side in enumerate(args["cond_or_uncond"]):
            own = {
                name: x.chunk(count)[place] if isinstance(x, torch.Tensor) else x
                for name, x in args["c"].items()
            }
            options = dict(own["transformer_options"])
            if how == "its side":
                options["cond_or_uncond"] = [side]
            elif how == "nothing":
                del options["cond_or_uncond"], options["uuids"]
            own["transformer_options"] = options
            x, level = (args[name].chunk(count)[place] for name in ("input", "timestep"))
            outputs.append(apply(x, level, **own))
        return torch.cat(outputs)

    wrapped = model.clone()
    wrapped.set_model_unet_function_wrapper(around)
    return wrapped


@pytest.mark.parametrize("how", ["all names", "its side"])
@pytest.mark.parametrize("every", [1, 0])
def test_a_wrapper_may_ask_for_one_condition_at_a_time(rig, how, every):
    model = rig.patch(recompute_exo=every)
    plain_latent = rig.ksample(model, steps=4)
    wrapped_latent = rig.ksample(one_at_a_time(model, how), steps=4)
    assert (wrapped_latent - plain_latent).abs().max() < 1e-5 * plain_latent.abs().max()
    if every == 0:
        assert counts_of(model) == (2, 6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("every", [0, 3])
def test_a_condition_that_comes_back_gives_the_same_stacked_and_single(
    rig, monkeypatch, packed, every
):
    """The host's CFG Override to 1 in the middle of a run: which conditions share a forward is a
    matter of free memory, and changes nothing."""
    from comfy_extras.nodes_custom_sampler import CFGOverride

    if packed:
        leave_little_room(rig, monkeypatch)
    own = type(rig.model.model).memory_required

    def sampled(single: bool):
        def required(self, input_shape, cond_shapes=None):
            apart = single and cond_shapes is not None and input_shape[0] > 1
            return 1e30 if apart else own(self, input_shape, cond_shapes or {})

        monkeypatch.setattr(type(rig.model.model), "memory_required", required)
        model = rig.patch(recompute_exo=every)
        override = {"cfg": 1.0, "start_percent": 0.2, "end_percent": 0.5}
        out = rig.ksample(CFGOverride.execute(model, **override)[0], steps=8)
        return out, cache_of(model).full

    (stacked, fulls), (single, forwards) = sampled(False), sampled(True)
    # In 8 bits a number may round the other way.
    tolerance = 1e-3 if packed else 1e-5
    assert (stacked - single).abs().max() < tolerance * single.abs().max()
    assert fulls < forwards
