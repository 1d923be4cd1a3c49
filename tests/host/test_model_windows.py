"""The host's context windows run with its node's own defaults: both halves show the same times, or
the settings are refused. What the guided model keeps in memory for them is tested, too."""

from typing import Any

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

TOKENS = (28, 49, 28)  # rows, exo and ego columns at the released size
LIMIT = 64 * 2**20
W_EXO = 8  # latents of the rig's exo half


def long_rig(pack, repo_root, frames: int) -> model_rig.ModelRig:
    with torch.inference_mode():
        return model_rig.random_rig(pack, repo_root / "models", model_rig.RigSize(frames=frames))


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    return long_rig(pack, repo_root, 97)  # 25 latent frames; a window by default has 21


def windowed(model, kind: str = "WanContextWindowsManualNode", **changes: Any):
    """Run the host's node on the model, with default inputs but for the changes."""
    from comfy_extras import nodes_context_windows

    node = getattr(nodes_context_windows, kind)
    return node.execute(model, **{**model_rig.node_defaults(node), **changes}).args[0]


def calls_of(rig, model, steps: int) -> list[tuple[torch.Tensor, Any, list[int] | None]]:
    """Record each call of the transformer: its input, the host's window, and the frames whose
    directions guided it."""
    (wrapper,) = model.get_all_wrappers("diffusion_model")
    recorded_calls, frames = [], []
    directions = wrapper.guidance.directions

    def note_frames(device, of_call, dtype):
        frames.append(of_call)
        return directions(device, of_call, dtype)

    def watch(executor, x, *args, **kwargs):
        recorded_calls.append((x.clone(), args[4].get("context_window"), frames[-1]))
        return executor(x, *args, **kwargs)

    watched = model.clone()
    watched.add_wrapper_with_key("diffusion_model", "watch", watch)
    wrapper.guidance.directions = note_frames
    try:
        out = rig.ksample(watched, steps=steps, cfg=1.0)
    finally:
        del wrapper.guidance.directions
    assert out.isfinite().all() and out.shape == rig.latent["samples"].shape
    return recorded_calls


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"context_schedule": "looped_uniform", "closed_loop": True, "retain_first_frame": True},
        {"context_schedule": "batched", "context_stride": 2},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "defaults",
)
def test_both_halves_show_the_same_times(rig, changes, patch_first):
    ((full_input, _, _),) = calls_of(rig, rig.patch(), steps=1)
    model = (
        windowed(rig.patch(), **changes)
        if patch_first
        else rig.patch(windowed(rig.model, **changes))
    )
    window_calls = calls_of(rig, model, steps=3)
    wholes = 0
    for x, window, guided in window_calls:
        anchor = getattr(window, "causal_anchor_index", None)
        frames = ([] if anchor is None else [anchor]) + list(window.index_list)
        if changes.get("retain_first_frame"):
            frames[0] = 0
        assert torch.equal(x[:, 16:], full_input[:, 16:, frames]), (
            "mask and condition of both halves"
        )
        assert torch.equal(x[:, :16, ..., :W_EXO], full_input[:, :16, frames][..., :W_EXO]), (
            "the clean exo latent"
        )
        assert (list(range(full_input.shape[2])) if guided is None else guided) == frames, (
            "directions"
        )
        wholes += guided is None
    assert len({tuple(window.index_list) for _, window, _ in window_calls}) > 1 and wholes < len(
        window_calls
    )


def test_a_looped_window_as_long_as_the_clip_keeps_its_order(pack, repo_root):
    """21 frames and the anchor before them, of a clip of 22: no shape tells that it begins in the
    middle."""
    rig = long_rig(pack, repo_root, 85)
    ((full_input, _, _),) = calls_of(rig, rig.patch(), steps=1)
    turned = 0
    for x, window, guided in calls_of(
        rig, windowed(rig.patch(), context_schedule="looped_uniform"), steps=3
    ):
        anchor = getattr(window, "causal_anchor_index", None)
        frames = ([] if anchor is None else [anchor]) + list(window.index_list)
        assert torch.equal(x[:, 16:], full_input[:, 16:, frames])
        turned += len(frames) == full_input.shape[2] and guided == frames != sorted(frames)
    assert turned, "the case that this is about took place"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"dim": 3, "context_length": 2}, "dim of the context windows"),
        (
            {"cond_retain_index_list": "0", "causal_window_fix": False},
            "without a frame before each window",
        ),
        ({"cond_retain_index_list": "0, 1"}, r"condition \[0, 1\]"),
        ({"latent_retain_index_list": "0"}, r"latent \[0\], with a frame before"),
    ],
)
def test_windows_whose_halves_would_disagree_are_refused(rig, changes, match):
    settings = {"dim": 2, "context_length": 9, "context_overlap": 2, **changes}
    model = windowed(rig.patch(), "ContextWindowsManualNode", **settings)
    with refuses(match):
        rig.ksample(model, steps=1)
    if "dim" not in changes:  # a clip no longer than a window is not cut
        windowed_model = windowed(
            rig.patch(), "ContextWindowsManualNode", **{**settings, "context_length": 25}
        )
        assert torch.equal(
            *(rig.ksample(each, steps=1, cfg=1.0) for each in (windowed_model, rig.patch()))
        )


def test_directions_of_windows_are_bounded_and_right(rig, monkeypatch):
    """Of 241 frames at the released size, in windows of 21 latent frames, with an anchor before them
    or without."""
    windows = [list(range(21)), *([0, *range(start, start + 21)] for start in range(8, 40, 8))] * 2
    (wrapper,) = rig.patch().get_all_wrappers("diffusion_model")
    guidance = wrapper.guidance
    t, (h, w_exo, w_ego) = 61, TOKENS
    tokens = t * h * (w_exo + w_ego)
    kind = type(guidance.geometry)
    guidance.geometry = kind(
        query_dirs=torch.rand(t, h * w_ego, 3),
        key_dirs=torch.rand(t, tokens, 3),
        key_trust=torch.rand(tokens),
        grid=(t, h, w_exo, w_ego),
        rays=guidance.geometry.rays,
    )
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(kind, "to", lambda self, device: self)  # the bytes are the same on a GPU
    assert (
        guidance.directions(cpu, None, torch.float16) is guidance.geometry
        and guidance.placed_bytes == 0
    )
    guidance.directions(gpu, None, torch.float16)
    assert guidance.placed_bytes <= LIMIT, (
        "the whole clip is 97 MB: no place of its own beside the windows'"
    )
    most, selected = 0, []
    real = kind.select_frames
    monkeypatch.setattr(
        kind, "select_frames", lambda self, frames: selected.append(frames) or real(self, frames)
    )
    for frames in windows:
        window_directions = guidance.directions(gpu, frames, torch.float16)
        assert window_directions is guidance.directions(gpu, frames, torch.float16), (
            "a second call of the same window takes what is kept"
        )
        most = max(most, guidance.placed_bytes)
    assert window_directions.tokens == len(frames) * h * (w_exo + w_ego)
    assert torch.equal(window_directions.query_dirs, guidance.geometry.query_dirs[frames])
    assert 0 < most <= LIMIT
    assert len(selected) <= len(windows), "what is kept is not made again"
    guidance.directions(
        gpu, list(range(55)), torch.float16
    )  # alone beyond the limit: given, not kept
    assert guidance.placed_bytes <= LIMIT
    wrapper.to(cpu)
    assert guidance.placed_bytes == 0, "nothing stays where the model was"
