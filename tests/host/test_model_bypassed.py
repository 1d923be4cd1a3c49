"""Nodes of other packs that lead sampling past the patch end in an error that says so. Nothing is
lost unseen.

Re-creations of two ways in which TeaCache nodes put their own forward in place."""

import contextlib
import logging
from unittest import mock

import pytest
import torch

from tests.refusals import refuses


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
    """Run ``forward`` as one pack replaces it, without the wrappers of transformer_options."""
    freqs = self.rope_encode(x.shape[2], x.shape[3], x.shape[4], device=x.device, dtype=x.dtype)
    return self.forward_orig(
        x, timestep, context, clip_fea=clip_fea, freqs=freqs, transformer_options={}
    )


def optionless_forward_orig(original):
    """Replace ``forward_orig`` as another pack does, calling the blocks without
    transformer_options."""

    def forward_orig(x, t, context, clip_fea=None, freqs=None, transformer_options=None, **kwargs):
        return original(x, t, context, clip_fea=clip_fea, freqs=freqs, transformer_options={})

    return forward_orig


def bypass(model, name: str):
    """Clone the model with another forward of the transformer during each call, as such nodes do
    it."""
    transformer = model.get_model_object("diffusion_model")
    other = (
        plain_forward.__get__(transformer)
        if name == "forward"
        else optionless_forward_orig(transformer.forward_orig)
    )

    def around(apply, args):
        with mock.patch.object(transformer, name, other):
            return apply(args["input"], args["timestep"], **args["c"])

    bypassed = model.clone()
    bypassed.set_model_unet_function_wrapper(around)
    return bypassed


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize(("name", "lost"), [("forward", "exo half"), ("forward_orig", "geometry")])
def test_a_replaced_forward_ends_in_the_first_step(rig, name, lost, patch_first):
    model = bypass(rig.patch(), name) if patch_first else rig.patch(bypass(rig.model, name))
    with refuses("first sampling step") as raised:
        rig.ksample(model, steps=3)
    message = str(raised.value)
    assert lost in message and "TeaCache" in message and __name__ in message, (
        "what is lost, what to remove, whose code it is"
    )


@pytest.mark.parametrize("changes", [{"lambda_g": 0.0}, {"gga_mode": "off"}])
def test_without_geometry_a_replaced_forward_orig_is_no_failure(rig, changes):
    assert torch.equal(
        rig.ksample(bypass(rig.patch(**changes), "forward_orig")), rig.ksample(rig.patch(**changes))
    )


def test_a_whole_run_says_nothing(rig, caplog):
    with caplog.at_level(logging.WARNING):
        rig.ksample(rig.patch(), steps=2)
    assert not [record for record in caplog.records if "[EgoX]" in record.getMessage()]


def test_geometry_is_kept_outside_a_compiling_hosts_graph(rig, monkeypatch):
    """Hosts from 0.35 on take memory back after a compiled forward, but not what was made while
    told to pause."""
    override = rig.nodes("patch.forward")
    paused = []

    @contextlib.contextmanager
    def pause():
        paused.append(1)
        yield

    monkeypatch.setattr(override, "pause_malloc_graph", pause)
    guidance = rig.patch().get_all_wrappers("diffusion_model")[0].guidance
    device = guidance.geometry.key_dirs.device
    assert guidance.directions(device, None, torch.float32) is guidance.geometry and paused == [], (
        "nothing is made for the whole clip"
    )
    window = guidance.directions(device, [0], torch.float32)
    assert guidance.directions(device, [0], torch.float32) is window
    assert paused == [1], "once a window: what is made is kept"
