"""Check that nodes which bypass the EgoX patch are refused.

Two functions here replace the forward as TeaCache nodes do.
"""

import contextlib
import logging
from unittest import mock

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import standins


def plain_forward(
    self,
    x,
    timestep,
    context,
    clip_fea=None,
    time_dim_concat=None,
    transformer_options=None,
    **kwargs,
):
    """Run the transformer as a node pack that replaces its forward would."""
    freqs = self.rope_encode(x.shape[2], x.shape[3], x.shape[4], device=x.device, dtype=x.dtype)
    return self.forward_orig(
        x, timestep, context, clip_fea=clip_fea, freqs=freqs, transformer_options={}
    )


def optionless_forward_orig(original):
    """Run the transformer's blocks without transformer_options, as another pack does."""

    def forward_orig(x, t, context, clip_fea=None, freqs=None, transformer_options=None, **kwargs):
        return original(x, t, context, clip_fea=clip_fea, freqs=freqs, transformer_options={})

    return forward_orig


def bypass_patch(model, method_name: str):
    """Clone the model with a method replaced, as bypassing nodes do."""
    transformer = model.get_model_object("diffusion_model")
    replacement = (
        plain_forward.__get__(transformer)
        if method_name == "forward"
        else optionless_forward_orig(transformer.forward_orig)
    )

    def call_replaced(apply, args):
        with mock.patch.object(transformer, method_name, replacement):
            return apply(args["input"], args["timestep"], **args["c"])

    bypassed_model = model.clone()
    bypassed_model.set_model_unet_function_wrapper(call_replaced)
    return bypassed_model


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize(
    ("method_name", "lost_part"), [("forward", "exo half"), ("forward_orig", "geometry")]
)
def test_a_replaced_forward_is_refused_in_the_first_step(rig, method_name, lost_part, patch_first):
    model = (
        bypass_patch(rig.patch(), method_name)
        if patch_first
        else rig.patch(bypass_patch(rig.model, method_name))
    )
    with refuses("first sampling step") as refusal:
        rig.ksample(model, steps=3)
    message = str(refusal.value)
    assert lost_part in message and "TeaCache" in message and __name__ in message, (
        "what is lost, what to remove, whose code it is"
    )


def test_a_run_without_other_nodes_logs_no_warning(rig, repo_root, caplog):
    lora_file = repo_root / "models" / standins.SHIPPED["lora"]
    lora_model, _ = rig.nodes("lora").load_lora(rig.model, lora_file, 1.0)
    with caplog.at_level(logging.WARNING):
        rig.ksample(rig.patch(lora_model), steps=2)
    assert not [record for record in caplog.records if "[EgoX]" in record.getMessage()]


def test_cached_geometry_is_created_outside_a_compiled_graph(rig, monkeypatch):
    """Check that cached ray directions aren't created in memory of a compiled graph."""
    forward_module = rig.nodes("patch.forward")
    pauses = []

    @contextlib.contextmanager
    def record_pause():
        pauses.append(1)
        yield

    monkeypatch.setattr(forward_module, "pause_malloc_graph", record_pause)
    guidance = rig.patch().get_all_wrappers("diffusion_model")[0].guidance
    device = guidance.geometry.key_dirs.device
    assert guidance.directions(device, None, torch.float32) is guidance.geometry and pauses == [], (
        "nothing is made for the whole clip"
    )
    window_geometry = guidance.directions(device, [0], torch.float32)
    assert guidance.directions(device, [0], torch.float32) is window_geometry
    assert pauses == [1], "once a window: what is made is kept"
