"""Test the node Preview Ego View."""

import importlib

import av
import numpy as np
import pytest
import torch

from egox_core.scene.build import build_scene
from lab.drawn import SyntheticSpec, make_take
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
    node = nodes_of("preview_ego_view").EgoXPreviewEgoView
    exo_images = take.exo_rgb.float() / 255
    audio = {"waveform": torch.rand(1, 1, 800) - 0.5, "sample_rate": 8000}
    options = (prior, depth, unobserved, "off", 1.0, exo_images, audio)
    output = node.execute(*options)
    frames, video, film = output.result
    seen_mask = coverage > 0
    assert torch.equal(frames[seen_mask], prior[seen_mask])
    assert not prior[~seen_mask].any() and frames[~seen_mask].any(-1).float().mean() > 0.9
    (preview,) = output.ui["egox_preview"]
    streams = {stream["name"]: stream["label"] for stream in preview["streams"]}
    assert streams == {"exo": "exo", "prior": "prior", "ego": "preview"}
    # What is filled stays marked as never seen.
    assert preview["seen"]["shares"]["unobserved"][0] == pytest.approx(
        float(unobserved[0].mean()), abs=1e-6
    )
    for saved_video, width in ((video, 64), (film, 112 + 64 + 64 + 8)):
        video_path = tmp_path / f"{width}.mp4"
        saved_video.save_to(str(video_path))
        with av.open(str(video_path)) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            assert container.streams.audio
        assert np.stack(pictures).shape[::2] == (2, width)


def test_inputs_of_different_renderings_are_refused(nodes_of, rendered):
    _, (prior, _, _, depth, unobserved, *_) = rendered
    execute = nodes_of("preview_ego_view").EgoXPreviewEgoView.execute
    with refuses("unobserved"):
        execute(prior, depth, unobserved[:, :32], "auto", 1.0)
    with refuses("holes of the prior"):
        execute(prior[:, :32], depth, unobserved, "auto", 1.0)
