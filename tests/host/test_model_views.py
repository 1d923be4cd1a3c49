"""Several exo views and rays under the host's sampler: one view is EgoX, order tells nothing, company is called on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tools.rigs import model_rig

SLOTS = "patches_replace"


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    with torch.inference_mode():
        return model_rig.random_rig(pack, repo_root / "models", model_rig.RigSize())


def views_canvas(rig, order: list[int], layout: str = "full"):
    """The rig's canvas with these views in this order: drawn latents, half as large in a mosaic."""
    panels_of, types = model_rig.core(rig.pack, "wan.panels"), model_rig.core(rig.pack, "types")
    panels = types.Panels(views=len(order), layout=layout)
    t, h, w_exo, _ = rig.canvas.latent_grid
    size = (h, w_exo) if layout == "full" else (h // 2, w_exo // 2)
    views = [torch.randn(1, 16, t, *size, generator=torch.Generator().manual_seed(100 + view)) for view in order]
    exo = panels_of.place_views(views, panels)
    return replace(rig.canvas, exo_latent=exo, panels=panels, exo_size=(8 * exo.shape[-1], rig.size.height))


def geometry_of(rig, order: list[int], panels):
    """Joined geometry: the rig's depth, turned and scaled for each view so that no two are alike."""
    gga, panels_of = model_rig.core(rig.pack, "gga.geometry"), model_rig.core(rig.pack, "wan.panels")
    own = [gga.gga_geometry(replace(rig.depth, depth_m=(1 + 0.3 * view) * rig.depth.depth_m), rig.trajectory,
                            frames=rig.size.frames, exo_size=rig.canvas.exo_size, ego_size=rig.canvas.ego_size)
           for view in order]
    return panels_of.join_geometries(own, panels)


def patched(rig, canvas, *, order: list[int] | None = None, guide: bool = False, model=None, **more):
    """The model patched for a canvas of views."""
    options = model_rig.core(rig.pack, "gga.options").GgaOptions(mode="released" if guide else "off")
    geometry = geometry_of(rig, order, canvas.panels) if guide else None
    patch = rig.nodes("patch.patch")
    return patch.patch_with_geometry(rig.model if model is None else model, canvas, geometry, options, **more)[0]


def rays_of(rig, canvas, order: list[int]) -> torch.Tensor:
    """Drawn rays, each view's own."""
    panels_of, channels = model_rig.core(rig.pack, "wan.panels"), model_rig.core(rig.pack, "sizes").RAY_CHANNELS
    t, h, w_exo, w_ego = (n // d for n, d in zip(canvas.latent_grid, (1, 2, 2, 2), strict=True))
    tile = (h, w_exo // len(order)) if canvas.panels.layout == "full" else (h // 2, w_exo // 2)
    maps = [torch.randn(channels, t, *tile, generator=torch.Generator().manual_seed(view)) for view in order]
    ego = torch.randn(channels, t, h, w_ego, generator=torch.Generator().manual_seed(50))
    return torch.cat((panels_of.place_views(maps, canvas.panels), ego), dim=-1).movedim(0, -1)


def injection(rig, trained: bool = True, blocks: int = 1):
    pose = model_rig.core(rig.pack, "wan.pose_injection").PoseInjection(
        rig.model.get_model_object("diffusion_model").dim, hidden=16, blocks=blocks)
    if trained:
        for layer in (pose.outer, *pose.deeper):
            torch.nn.init.normal_(layer.weight, std=0.3)
    return pose.requires_grad_(False)


def host_rope(rig, x: torch.Tensor, **options) -> torch.Tensor:
    return rig.model.get_model_object("diffusion_model").rope_encode(*x.shape[-3:], device=x.device, dtype=x.dtype,
                                                                     transformer_options=options)


@pytest.mark.parametrize("guide", [True, False])
def test_one_view_is_egox(rig, guide: bool) -> None:
    canvas = views_canvas(rig, [0])
    own = replace(rig.canvas, exo_latent=canvas.exo_latent)
    expected = rig.ksample(replace_canvas(rig, own).patch(lambda_g=3.0 if guide else 0.0))
    got = rig.ksample(patched(rig, canvas, order=[0], guide=guide))
    assert (got - expected).abs().max() < 1e-6 and expected.std() > 0.5


def replace_canvas(rig, canvas) -> model_rig.ModelRig:
    return replace(rig, canvas=canvas)


MOVED = {"scale_x": 1.3, "scale_y": 0.7, "scale_t": 1.1, "shift_x": 1.0, "shift_y": 4.0, "shift_t": 2.0}


@pytest.mark.parametrize("options", [{}, {"rope_options": MOVED}], ids=["plain", "moved"])
def test_our_positions_are_the_hosts(rig, options: dict) -> None:
    """One panel's table is the host's own to the bit; those of more are its columns again. Shift and scale are kept,
    there to the rounding of positions (float32, up to 15)."""
    own, types = rig.nodes("patch.tokens"), model_rig.core(rig.pack, "types")
    transformer = rig.model.get_model_object("diffusion_model")
    one = torch.zeros(1, 36, 3, 4, 12)
    plain = host_rope(rig, one, **options).unflatten(1, (3, 2, 6))
    near = 1e-5 if options else 0.0
    single = own.canvas_rope(transformer, types.Panels(), one, 8, options).unflatten(1, (3, 2, 6))
    assert torch.allclose(single, plain, rtol=0, atol=near)
    three = own.canvas_rope(transformer, types.Panels(views=3), torch.zeros(1, 36, 3, 4, 28), 24, options)
    assert torch.allclose(three.unflatten(1, (3, 2, 14)), plain[:, :, :, [0, 1, 2, 3] * 3 + [4, 5]], rtol=0, atol=near)


def test_host_and_trainer_have_the_same_positions(rig) -> None:
    """Rotations of the host against cosines and sines of diffusers' form, in every layout."""
    pytest.importorskip("diffusers")
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

    own, types = rig.nodes("patch.tokens"), model_rig.core(rig.pack, "types")
    tokens = model_rig.core(rig.pack, "wan.diffusers_tokens")
    transformer = rig.model.get_model_object("diffusion_model")
    head = transformer.dim // transformer.num_heads
    for panels, w_exo in ((types.Panels(views=2), 16), (types.Panels(views=4, layout="mosaic"), 8)):
        x = torch.zeros(1, 36, 3, 4, w_exo + 4)
        scope = tokens.TokenScope(poses=False)
        scope.set(panels, (3, 4, w_exo, 4))
        cosines, sines = tokens.CanvasRope(WanRotaryPosEmbed(head, (1, 2, 2), 64), scope)(x)
        table = own.canvas_rope(transformer, panels, x, w_exo, {})[:, :, 0]
        assert torch.allclose(table[..., 0, 0], cosines[:, :, 0, ::2], atol=1e-6)
        assert torch.allclose(table[..., 1, 0], sines[:, :, 0, ::2], atol=1e-6)


@pytest.mark.parametrize("guide", [True, False])
@pytest.mark.parametrize("layout", ["full", "mosaic"])
def test_the_order_of_views_tells_nothing(rig, layout: str, guide: bool) -> None:
    pose, results = injection(rig), []
    for order in ([0, 1, 2, 3], [2, 0, 3, 1], [0, 1, 2, 2]):
        canvas = views_canvas(rig, order, layout)
        model = patched(rig, canvas, order=order, guide=guide, pose=pose, rays=rays_of(rig, canvas, order))
        results.append(rig.ksample(model))
    first, other, swapped = results
    assert (other - first).abs().max() < 1e-4  # float32 sums over tokens in another order; values of about 1
    assert (swapped - first).abs().max() > 1e-2


@pytest.mark.parametrize("blocks", [1, 2])
def test_untrained_rays_change_nothing_and_trained_ones_act(rig, blocks: int) -> None:
    canvas = views_canvas(rig, [0, 1])
    rays, plain = rays_of(rig, canvas, [0, 1]), rig.ksample(patched(rig, canvas))
    assert torch.equal(rig.ksample(patched(rig, canvas, pose=injection(rig, False, blocks), rays=rays)), plain)
    pose = injection(rig, blocks=blocks)
    acting = rig.ksample(patched(rig, canvas, pose=pose, rays=rays))
    assert (acting - plain).abs().max() > 1e-2
    swapped = rig.ksample(patched(rig, canvas, pose=pose, rays=rays_of(rig, canvas, [1, 0])))
    assert (swapped - acting).abs().max() > 1e-3, "whose rays they are counts"


@pytest.mark.parametrize("patch_first", [True, False])
def test_slots_that_were_there_are_called_on(rig, patch_first: bool) -> None:
    """They get our positions, and stay as they were in the model's options."""
    canvas, seen = views_canvas(rig, [0, 1]), []

    def other(args, extra):
        seen.append(args["pe"].shape[1])
        out = extra["original_block"](args)
        return {"img": 0.5 * out["img"]}

    def with_slot(model):
        model = model.clone()
        model.set_model_patch_replace(other, "dit", "double_block", 0)
        return model

    plain = rig.ksample(patched(rig, canvas), steps=1, cfg=1.0)
    model = with_slot(patched(rig, canvas)) if patch_first else patched(rig, canvas, model=with_slot(rig.model))
    halved = rig.ksample(model, steps=1, cfg=1.0)
    assert seen == [3 * 2 * 10] and (halved - plain).abs().max() > 1e-2
    transformer_options = model.model_options["transformer_options"]
    assert list(transformer_options[SLOTS]["dit"].values()) == [other], "ours end with the forward"


def test_a_step_past_the_slots_is_no_result(rig) -> None:
    def without_slots(executor, x, timestep, context, clip_fea, concat, options, **kwargs):
        return executor(x, timestep, context, clip_fea, concat, {**options, SLOTS: {}}, **kwargs)

    model = patched(rig, views_canvas(rig, [0, 1]))
    model.add_wrapper_with_key("diffusion_model", "zz_other", without_slots)
    error = model_rig.core(rig.pack, "errors").EgoXInputError
    with pytest.raises(error, match="without the places of several exo views"):
        rig.ksample(model)


def test_context_windows_see_their_own_frames(pack, repo_root) -> None:
    from comfy_extras.nodes_context_windows import WanContextWindowsManualNode

    with torch.inference_mode():
        rig = model_rig.random_rig(pack, repo_root / "models", model_rig.RigSize(frames=97))
    canvas = views_canvas(rig, [0, 1])
    rays, pose, calls = rays_of(rig, canvas, [0, 1]), injection(rig), []
    model = patched(rig, canvas, pose=pose, rays=rays)
    inputs = WanContextWindowsManualNode.define_schema().inputs
    values = {part.id: part.default for part in inputs if part.id != "model"}
    model = WanContextWindowsManualNode.execute(model, **values).args[0]

    def watch(executor, x, *args, **kwargs):
        window, slots = args[4].get("context_window"), args[4][SLOTS]["dit"]
        anchor = getattr(window, "causal_anchor_index", None)
        expected = pose(rays[([] if anchor is None else [anchor]) + list(window.index_list)])
        assert torch.allclose(slots["double_block", 0].added(), expected.flatten(0, 2)[None], atol=1e-6)
        assert slots["double_block", 1].pe.shape[1] == expected[..., 0].numel() == x.shape[2] * 2 * 10
        calls.append(tuple(window.index_list))
        return executor(x, *args, **kwargs)

    watched = model.clone()
    watched.add_wrapper_with_key("diffusion_model", "watch", watch)
    assert rig.ksample(watched, steps=1, cfg=1.0).isfinite().all() and len(set(calls)) > 1


@pytest.mark.slow
def test_torch_compile_takes_each_canvas_own_positions(rig) -> None:
    """The host's compile node drops the guards on transformer_options, where the slots are."""
    import torch._dynamo
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    torch._dynamo.reset()
    two, mosaic = views_canvas(rig, [0, 1]), views_canvas(rig, [0, 1, 2, 3], "mosaic")
    pose = injection(rig)
    for model in (patched(rig, views_canvas(rig, [0])), patched(rig, two), patched(rig, mosaic),
                  patched(rig, two, pose=pose, rays=rays_of(rig, two, [0, 1])), patched(rig, views_canvas(rig, [0]))):
        compiled = model.clone(disable_dynamic=True)
        set_torch_compile_wrapper(model=compiled, backend="eager",
                                  options={"guard_filter_fn": skip_torch_compile_dict})
        got, expected = (rig.ksample(each, steps=1, cfg=1.0) for each in (compiled, model))
        assert (got - expected).abs().max() < 1e-3  # choices differ by 0.1 and more
    torch._dynamo.reset()


def test_a_kept_exo_half_is_refused_in_words(rig) -> None:
    canvas = views_canvas(rig, [0, 1])
    patch = rig.nodes("patch.patch")
    options = model_rig.core(rig.pack, "gga.options").GgaOptions(mode="off")
    model, note = patch.patch_with_geometry(rig.model, canvas, None, options, recompute_exo=4)
    assert patch.patch_calls(model).exo_cache is None and "exo is computed at every step" in note


def test_the_host_makes_room_for_all_panels(rig) -> None:
    from comfy.patcher_extension import WrappersMP

    canvas = views_canvas(rig, [0, 1, 2])
    model = patched(rig, canvas)
    (memory,) = model.get_wrappers(WrappersMP.PREPARE_SAMPLING, "egox")
    assert memory(lambda model, shape: shape, None, [1, 16, 3, 4, 4])[-1] == 3 * 8 + 4
    shape = memory.batching_patches()["memory_usage_shape_process"]["c_concat"]([1, 20, 3, 4, 4])
    assert shape[-1] == 3 * 8


def test_what_does_not_fit_is_refused(rig) -> None:
    error = model_rig.core(rig.pack, "errors").EgoXInputError
    canvas, types = views_canvas(rig, [0, 1]), model_rig.core(rig.pack, "types")
    with pytest.raises(error, match="a canvas of 2 exo views"):
        replace_canvas(rig, canvas).patch()
    with pytest.raises(error, match="panels of one width"):
        patched(rig, replace(rig.canvas, panels=types.Panels(views=3)))
    with pytest.raises(error, match="rays of the canvas: got none"):
        patched(rig, canvas, pose=injection(rig))
    with pytest.raises(error, match="rays of the canvas: got shape"):
        patched(rig, canvas, pose=injection(rig), rays=rays_of(rig, canvas, [0, 1])[:, :, 1:])
