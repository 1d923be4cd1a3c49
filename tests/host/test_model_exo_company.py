"""Test the exo cache with other packs' patches and conditions that come one by one."""

import re
from functools import partial, update_wrapper, wraps
from types import FunctionType

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig
from tools.setup.base_dir import link_folder

from .exo_cache_rig import (
    check_reused_equals_full,
    count_full_and_reused,
    exo_cache_of,
    large_rig,
    mark_exo_alone,
)
from .extras import extra_nodes, load_by_path


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    return large_rig(pack, repo_root)


def add_extra_node(model, node_name: str):
    """Run one of ComfyUI's own nodes on a model, with settings under which it acts at once."""
    file_and_values = {
        "SkipLayerGuidanceDiT": ("nodes_slg", (3.0, 0.0, 1.0, "0")),
        "EasyCacheNode": ("nodes_easycache", (3.0, 0.0, 1.0, False)),
        "LazyCacheNode": ("nodes_easycache", (3.0, 0.0, 1.0, False)),
        "NAGuidance": ("nodes_nag", (5.0, 0.5, 1.5)),
    }
    file, values = file_and_values[node_name]
    return getattr(extra_nodes(file), node_name).execute(model, *values)[0]


@pytest.mark.parametrize("patch_first", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("exo", ["alone", "other"])
@pytest.mark.parametrize(
    "node_name", ["SkipLayerGuidanceDiT", "EasyCacheNode", "LazyCacheNode", "NAGuidance"]
)
def test_comfyuis_own_nodes_before_and_after_the_patch(rig, node_name, exo, patch_first):
    """Check the table of ComfyUI's own nodes in docs/model-path.md."""
    lora_model = mark_exo_alone(rig.model) if exo == "alone" else rig.model
    plain_model = rig.patch(lora_model, recompute_exo=2)
    model = (
        add_extra_node(plain_model, node_name)
        if patch_first
        else rig.patch(add_extra_node(lora_model, node_name), recompute_exo=2)
    )
    compares_canvases = node_name == "EasyCacheNode" and patch_first
    if compares_canvases and exo == "alone":
        with refuses("exo alone: got ComfyUI's nodes_easycache.*before the EgoX patch") as refusal:
            rig.ksample(model, steps=8)
        assert not re.search(r"\w[\\/]\w", str(refusal.value)), "no path"
        return
    plain_latent = rig.ksample(plain_model, steps=8)
    latent = rig.ksample(model, steps=8)
    calls, cache = rig.nodes("patch.patch").patch_calls(model), exo_cache_of(model)
    note = rig.nodes("patch.checks").add_run_notes("", calls)
    assert calls.attention_count and not calls.missed()
    assert latent.isfinite().all()
    assert torch.equal(latent, plain_latent) is (node_name == "NAGuidance"), "Wan never asks it"
    assert (cache.reused_count > 0) is not compares_canvases
    if node_name == "SkipLayerGuidanceDiT":
        full_steps = 1 if exo == "alone" else 4
        assert cache.full_count == 2 * full_steps, "forwards with skipped layers are kept, too"
    if compares_canvases:
        assert "; ComfyUI's nodes_easycache needs the whole canvas at every step: add" in note
    else:
        assert not cache.whole_canvas_code
    if "Cache" in node_name and not compares_canvases:
        assert sum(count_full_and_reused(model)) < 8, "it skips forwards"


@pytest.mark.parametrize(
    ("node_name", "patch_first"),
    [("EasyCacheNode", True), ("EasyCacheNode", False), ("LazyCacheNode", True)],
)
def test_a_step_cache_that_skips_nothing_changes_nothing(rig, node_name, patch_first):
    cache_node = getattr(extra_nodes("nodes_easycache"), node_name)

    def add_idle_cache(model):
        return cache_node.execute(model, 0.0, 0.0, 1.0, False)[0]

    is_whole = patch_first and node_name == "EasyCacheNode"
    expected_latent = rig.ksample(rig.patch(recompute_exo=1 if is_whole else 2), steps=4)
    model = (
        add_idle_cache(rig.patch(recompute_exo=2))
        if patch_first
        else rig.patch(add_idle_cache(rig.model), recompute_exo=2)
    )
    assert torch.equal(rig.ksample(model, steps=4), expected_latent)


WRAPPER_FILE = """
from functools import partial, wraps

def halve(executor, *args, **kwargs):
    return 0.5 * executor(*args, **kwargs)

def imitate(host_function):
    return wraps(host_function)(lambda *args, **kwargs: halve(*args, **kwargs))

class Halver:
    def __call__(self, *args, **kwargs):
        return halve(*args, **kwargs)

    def method(self, *args, **kwargs):
        return halve(*args, **kwargs)

NODE_CLASS_MAPPINGS = {}
"""


def test_code_is_the_hosts_own_by_its_file(rig, tmp_path, monkeypatch):
    """Check whose code is whose: by file, and not by the name of its module."""
    import folder_paths

    origin = rig.nodes("patch.code_origin")
    host_folder = tmp_path / "Some.Folder" / "ComfyUI"
    linked_pack = tmp_path / "developed" / "linked_pack"
    pack_folders = (host_folder / "custom_nodes", host_folder / "more_nodes")
    files = {
        host_folder / "comfy_extras" / "nodes_own.py": True,
        pack_folders[0] / "pack" / "__init__.py": False,
        pack_folders[1] / "single_file.py": False,  # given by extra_model_paths
        linked_pack / "__init__.py": False,
        host_folder / "venv" / "lib" / "python3" / "site-packages" / "pip_pack.py": False,
        host_folder / "own_link" / "__init__.py": False,  # the target of a link in custom_nodes
        tmp_path / "elsewhere.py": False,
    }
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(WRAPPER_FILE, "utf-8")
    links = {"linked_pack": linked_pack, "own_link": host_folder / "own_link"}
    for name, target in links.items():
        link_folder(target, pack_folders[0] / name)
    monkeypatch.setattr(origin, "HOST_FOLDER", host_folder.resolve())
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "custom_nodes", ([*map(str, pack_folders)], set())
    )
    for file, expected in files.items():
        place = links.get(file.parent.name) and pack_folders[0] / file.parent.name
        place = place or (file.parent if file.name == "__init__.py" else file)
        module = load_by_path(place)
        own_codes = module.halve, module.Halver(), module.Halver().method, partial(module.halve)
        for code in own_codes:
            assert origin.is_hosts_own(code) is expected, (file, code)
            assert origin.name_code(code).removeprefix("ComfyUI's ") == place.stem
        own_function = load_by_path(next(iter(files))).halve
        imitations = module.imitate(own_function), update_wrapper(module.Halver(), own_function)
        for code in imitations:
            assert origin.is_hosts_own(code) is expected, "functools.wraps hides nobody"
    code_without_file = module.halve.__code__.replace(co_filename="<string>")
    function_without_file = FunctionType(code_without_file, {"__name__": "comfy.samplers"})
    assert not origin.is_hosts_own(function_without_file)
    assert origin.is_hosts_own(torch.nn.functional.softmax) and origin.is_hosts_own(torch.add)


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


@pytest.mark.parametrize(
    ("replacement_kind", "module_suffix"),
    [*((kind, ".self_attn") for kind in REPLACEMENTS), ("function", ""), ("module", "")],
)
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
    assert count_full_and_reused(model)[1] == 0
    assert exo_cache_of(model).whole_canvas_code == {__name__: False}


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
