"""Test the node Preview Ego View."""

import importlib

import pytest
import torch

from egox_core.scene.build import build_scene
from egox_core.video import probe_video
from lab.drawn import SyntheticSpec, make_take
from tests.host.asking import Page
from tests.refusals import refuses


@pytest.fixture(scope="module")
def nodes_of(pack):
    def load(file: str):
        return importlib.import_module(f"{pack.__name__}.nodes.{file}")

    return load


@pytest.fixture(scope="module")
def rendered(nodes_of):
    """Provide a drawn take, and the outputs of Render Ego Prior for it."""
    take = make_take(
        SyntheticSpec(frames=2, exo_width=112, exo_height=64, ego_size=64, edge_samples=1)
    )
    scene = build_scene(take.exo_rgb, take.depth_video())
    node = nodes_of("render_ego_prior").EgoXRenderEgoPrior
    return take, node.execute(take.trajectory(), "exact", "preset", scene=scene).result


def test_the_preview_is_filled_and_its_film_is_saved(nodes_of, rendered, tmp_path):
    take, (prior, coverage, _, depth, unobserved, *_) = rendered
    execute = nodes_of("preview_ego_view").EgoXPreviewEgoView.execute
    exo_images = take.exo_rgb.float() / 255
    audio = {"waveform": torch.rand(1, 1, 800) - 0.5, "sample_rate": 8000}
    output = execute(prior, depth, unobserved, "off", 1.0, exo_images, audio)
    frames, video, film = output.result
    seen_mask = coverage > 0
    assert torch.equal(frames[seen_mask], prior[seen_mask])
    assert not prior[~seen_mask].any() and frames[~seen_mask].any(-1).float().mean() > 0.9
    (preview,) = output.ui["egox_preview"]
    streams = {stream["name"]: stream["label"] for stream in preview["streams"]}
    assert streams == {"exo": "exo", "prior": "prior", "ego": "preview"}
    unobserved_share = preview["seen"]["shares"]["unobserved"][0]  # what is filled stays marked
    assert unobserved_share == pytest.approx(float(unobserved[0].mean()), abs=1e-6)
    for saved_video, width in ((video, 64), (film, 112 + 64 + 64 + 8)):
        saved_video.save_to(str(tmp_path / "film.mp4"))
        info = probe_video(tmp_path / "film.mp4")
        assert (info.frame_count, info.width) == (2, width)
        assert saved_video.get_components().audio is not None
    for changes, words in (
        ((prior, depth, unobserved[:, :32]), "unobserved"),
        ((prior[:, :32], depth, unobserved), "holes of the prior"),
    ):
        with refuses(words):
            execute(*changes, "auto", 1.0)


def test_the_room_comes_from_the_priors_scene_or_the_socket(nodes_of, rendered):
    take, (prior, _, _, depth, unobserved, *_) = rendered
    execute = nodes_of("preview_ego_view").EgoXPreviewEgoView.execute
    scene = build_scene(take.exo_rgb, take.depth_video())
    rendered_scene = nodes_of("host.remember").PRIOR_SOURCES[prior]["scene"]
    edited = prior.clone()  # as any image node leaves it
    assert rendered_scene is not scene

    def run(pictures, **settings):
        output = execute(pictures, depth, unobserved, "off", 1.0, **settings)
        (preview,) = output.ui["egox_preview"]
        return output.result[0], preview["text"]

    frames, text = run(prior)
    assert "walls guessed from" in text
    by_socket, _ = run(edited, scene=scene)
    assert torch.equal(by_socket, frames)
    without, text = run(edited)
    assert "isn't given" in text and "haze alone" in text
    haze, text = run(prior, fill="haze")
    assert torch.equal(haze, without) and "haze," in text
    assert not torch.equal(haze, frames)


def test_the_first_frame_is_shown_while_the_others_are_drawn(nodes_of, rendered, monkeypatch):
    _, (prior, _, _, depth, unobserved, *_) = rendered
    node, page = nodes_of("preview_ego_view").EgoXPreviewEgoView, Page()
    live_module = nodes_of("show.live")
    page.attach_node(monkeypatch, node, live_module)
    node.execute(prior, depth, unobserved, "off", 1.0)
    ((event, message, _),) = page.sent_messages
    assert (event, message["node"], message["preview"]["frames"]) == (live_module.EVENT, "7", 1)
    (stream,) = message["preview"]["streams"]
    assert stream["files"][0]["data"].startswith("data:image/jpeg;base64,")
