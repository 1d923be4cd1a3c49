"""The live preview on Wan EgoX Sampler shows the ego half, all its frames, after each step. No
number is changed."""

import base64

import cv2
import numpy as np
import pytest
import torch

from tests.host.asking import Page
from tools.rigs import model_rig


@pytest.mark.parametrize("sampler", ["released", "euler"])
def test_every_step_shows_the_ego_clip(rig, monkeypatch, sampler):
    live, listener = (rig.nodes(name) for name in ("show.live", "host.steps"))
    plain = rig.wan_sample(sampler=sampler)
    page = Page()
    page.shows(monkeypatch, rig.nodes("sampling").EgoXWanSampler, live, listener)
    assert torch.equal(rig.wan_sample(sampler=sampler), plain)
    assert [event for event, _, _ in page.sent] == [live.EVENT] * 3 and listener.CALLBACK == 4
    for _, data, sid in page.sent:
        assert (data["node"], sid) == ("7", "page")
        (stream,) = data["preview"]["streams"]
        assert (stream["count"], stream["width"], stream["height"]) == (3, 4, 4), (
            "3 latent frames of the ego half"
        )
        head, _, body = stream["files"][0]["data"].partition(",")
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_COLOR)
        assert head == "data:image/jpeg;base64" and picture.shape[0] >= 4
    # Frames a second of latents: a quarter of the video's 20.
    assert data["preview"]["fps"] == pytest.approx(5.0)


def test_fitted_colours_are_those_of_the_raw_latent(rig):
    """Steps give latents in model space, the fit was made on raw ones."""
    import comfy.latent_formats

    colours = model_rig.core(rig.pack, "wan.latents")
    live = rig.nodes("show.live").LivePreview("7", rig.canvas.latent_colours, 30.0)
    latent_format = comfy.latent_formats.Wan21()
    drawn = live.colours(latent_format.process_in(rig.canvas.prior_latent.float()), latent_format)
    assert drawn.shape == (3, 4, 4, 3)
    expected = colours.latent_colours(rig.canvas.prior_latent[0], rig.canvas.latent_colours)
    assert torch.allclose(drawn, expected, atol=1e-4)


def test_without_a_fit_the_colours_are_the_hosts_own(rig):
    import comfy.latent_formats
    import latent_preview

    latent_format, x0 = comfy.latent_formats.Wan21(), torch.randn(1, 16, 2, 4, 4)
    host = latent_preview.Latent2RGBPreviewer(
        latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias
    )
    expected = np.asarray(host.decode_latent_to_preview(x0), np.float32) / 255
    live = rig.nodes("show.live").LivePreview("7", None, 30.0)
    drawn = live.colours(x0, latent_format)[0].numpy()
    assert np.abs(drawn - expected).max() <= 1 / 255, "the host truncates to bytes"
