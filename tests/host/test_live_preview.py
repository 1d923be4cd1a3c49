"""Test the live preview of Wan EgoX Sampler."""

import base64

import cv2
import numpy as np
import pytest
import torch

from tests.host.asking import Page
from tools.rigs import model_rig


@pytest.mark.parametrize("sampler", ["released", "euler"])
def test_every_step_shows_the_ego_clip(rig, monkeypatch, sampler):
    live_module, steps_module = (rig.nodes(name) for name in ("show.live", "host.steps"))
    plain_latent = rig.wan_sample(sampler=sampler)
    page = Page()
    page.attach_node(monkeypatch, rig.nodes("sampling").EgoXWanSampler, live_module, steps_module)
    assert torch.equal(rig.wan_sample(sampler=sampler), plain_latent)
    assert [event for event, _, _ in page.sent_messages] == [
        live_module.EVENT
    ] * 3 and steps_module.CALLBACK == 4
    for _, data, sid in page.sent_messages:
        assert (data["node"], sid) == ("7", "page")
        (stream,) = data["preview"]["streams"]
        assert (stream["count"], stream["width"], stream["height"]) == (3, 4, 4), (
            "3 latent frames of the ego half"
        )
        data_header, _, encoded_picture = stream["files"][0]["data"].partition(",")
        picture = cv2.imdecode(
            np.frombuffer(base64.b64decode(encoded_picture), np.uint8), cv2.IMREAD_COLOR
        )
        assert data_header == "data:image/jpeg;base64"
        assert picture.shape[0] >= 4
    # Frames a second of latents: a quarter of the video's 20.
    assert data["preview"]["fps"] == pytest.approx(5.0)


def test_the_preview_has_the_fitted_colours_of_the_raw_latent(rig):
    """Check that a latent in the model's scale is drawn in the colours fitted for its unscaled
    values."""
    import comfy.latent_formats

    latents_module = model_rig.import_core_module(rig.pack, "wan.latents")
    live_preview = rig.nodes("show.live").LivePreview("7", rig.canvas.latent_colours, 30.0)
    latent_format = comfy.latent_formats.Wan21()
    drawn_colours = live_preview.draw_colours(
        latent_format.process_in(rig.canvas.prior_latent.float()), latent_format
    )
    assert drawn_colours.shape == (3, 4, 4, 3)
    expected_colours = latents_module.latent_colours(
        rig.canvas.prior_latent[0], rig.canvas.latent_colours
    )
    assert torch.allclose(drawn_colours, expected_colours, atol=1e-4)
