"""Test the patched model with ComfyUI's context windows."""

from typing import Any

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

from .extras import extra_nodes

TOKEN_GRID = (28, 49, 28)  # rows, exo and ego columns at the released size
BYTE_LIMIT = 64 * 2**20
W_EXO = 8  # latents of the rig's exo half


def long_rig(pack, repo_root, frames: int) -> model_rig.ModelRig:
    with torch.inference_mode():
        return model_rig.random_rig(pack, repo_root / "models", model_rig.RigSize(frames=frames))


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    return long_rig(pack, repo_root, 97)  # 25 latent frames; a window by default has 21


def add_context_windows(model, node_name: str = "WanContextWindowsManualNode", **changes: Any):
    """Apply ComfyUI's context windows to the model."""
    node = getattr(extra_nodes("nodes_context_windows"), node_name)
    return node.execute(model, **{**model_rig.node_defaults(node), **changes}).args[0]


def record_calls(rig, model, steps: int) -> list[tuple[torch.Tensor, Any, list[int] | None]]:
    """Record each call of the transformer and the frames that guided it."""
    (wrapper,) = model.get_all_wrappers("diffusion_model")
    recorded_calls, guided_frames = [], []
    directions = wrapper.guidance.directions

    def note_frames(device, window_frames, dtype):
        guided_frames.append(window_frames)
        return directions(device, window_frames, dtype)

    def record_call(executor, x, *args, **kwargs):
        recorded_calls.append((x.clone(), args[4].get("context_window"), guided_frames[-1]))
        return executor(x, *args, **kwargs)

    watched_model = model.clone()
    watched_model.add_wrapper_with_key("diffusion_model", "watch", record_call)
    wrapper.guidance.directions = note_frames
    try:
        latent = rig.ksample(watched_model, steps=steps, cfg=1.0)
    finally:
        del wrapper.guidance.directions
    assert latent.isfinite().all()
    assert latent.shape == rig.latent["samples"].shape
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
def test_both_halves_of_a_window_show_the_same_times(rig, changes, patch_first):
    ((full_input, _, _),) = record_calls(rig, rig.patch(), steps=1)
    model = (
        add_context_windows(rig.patch(), **changes)
        if patch_first
        else rig.patch(add_context_windows(rig.model, **changes))
    )
    window_calls = record_calls(rig, model, steps=3)
    whole_clip_calls = 0
    for model_input, window, guided_frames in window_calls:
        anchor_frame = getattr(window, "causal_anchor_index", None)
        frames = ([] if anchor_frame is None else [anchor_frame]) + list(window.index_list)
        if changes.get("retain_first_frame"):
            frames[0] = 0
        assert torch.equal(model_input[:, 16:], full_input[:, 16:, frames]), (
            "mask and condition of both halves"
        )
        assert torch.equal(
            model_input[:, :16, ..., :W_EXO], full_input[:, :16, frames][..., :W_EXO]
        ), "the clean exo latent"
        assert (
            list(range(full_input.shape[2])) if guided_frames is None else guided_frames
        ) == frames, "directions"
        whole_clip_calls += guided_frames is None
    assert len(
        {tuple(window.index_list) for _, window, _ in window_calls}
    ) > 1 and whole_clip_calls < len(window_calls)


def test_a_looped_window_as_long_as_the_clip_keeps_its_order(pack, repo_root):
    """Check a window as long as the clip that begins in the middle of it."""
    rig = long_rig(pack, repo_root, 85)
    ((full_input, _, _),) = record_calls(rig, rig.patch(), steps=1)
    reordered_windows = 0
    for model_input, window, guided_frames in record_calls(
        rig, add_context_windows(rig.patch(), context_schedule="looped_uniform"), steps=3
    ):
        anchor_frame = getattr(window, "causal_anchor_index", None)
        frames = ([] if anchor_frame is None else [anchor_frame]) + list(window.index_list)
        assert torch.equal(model_input[:, 16:], full_input[:, 16:, frames])
        reordered_windows += len(frames) == full_input.shape[
            2
        ] and guided_frames == frames != sorted(frames)
    assert reordered_windows, "no window began in the middle"


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
    model = add_context_windows(rig.patch(), "ContextWindowsManualNode", **settings)
    with refuses(match):
        rig.ksample(model, steps=1)
    if "dim" not in changes:  # a clip no longer than a window is not cut
        windowed_model = add_context_windows(
            rig.patch(), "ContextWindowsManualNode", **{**settings, "context_length": 25}
        )
        assert torch.equal(
            *(
                rig.ksample(model_variant, steps=1, cfg=1.0)
                for model_variant in (windowed_model, rig.patch())
            )
        )


def test_directions_of_windows_are_correct_and_bounded_in_memory(rig, monkeypatch):
    """Check values and memory of ray directions for a long clip in windows."""
    window_frames = [
        list(range(21)),
        *([0, *range(start, start + 21)] for start in range(8, 40, 8)),
    ] * 2
    (wrapper,) = rig.patch().get_all_wrappers("diffusion_model")
    guidance = wrapper.guidance
    latent_frames = 61
    (h, w_exo, w_ego) = TOKEN_GRID
    tokens = latent_frames * h * (w_exo + w_ego)
    geometry_class = type(guidance.geometry)
    guidance.geometry = geometry_class(
        query_dirs=torch.rand(latent_frames, h * w_ego, 3),
        key_dirs=torch.rand(latent_frames, tokens, 3),
        key_trust=torch.rand(tokens),
        grid=(latent_frames, h, w_exo, w_ego),
        rays=guidance.geometry.rays,
    )
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(
        geometry_class, "to", lambda self, device: self
    )  # the bytes are the same on a GPU
    assert (
        guidance.directions(cpu, None, torch.float16) is guidance.geometry
        and guidance.placed_bytes == 0
    )
    guidance.directions(gpu, None, torch.float16)
    assert guidance.placed_bytes <= BYTE_LIMIT, (
        "the whole clip is 97 MB: no place of its own beside the windows'"
    )
    most_bytes = 0
    selected_windows = []
    select_frames = geometry_class.select_frames
    monkeypatch.setattr(
        geometry_class,
        "select_frames",
        lambda self, frames: selected_windows.append(frames) or select_frames(self, frames),
    )
    for frames in window_frames:
        window_directions = guidance.directions(gpu, frames, torch.float16)
        assert window_directions is guidance.directions(gpu, frames, torch.float16), (
            "a second call of the same window takes what is kept"
        )
        most_bytes = max(most_bytes, guidance.placed_bytes)
    assert window_directions.tokens == len(frames) * h * (w_exo + w_ego)
    assert torch.equal(window_directions.query_dirs, guidance.geometry.query_dirs[frames])
    assert 0 < most_bytes <= BYTE_LIMIT
    assert len(selected_windows) <= len(window_frames), "what is kept is not made again"
    guidance.directions(
        gpu, list(range(55)), torch.float16
    )  # alone beyond the limit: given, not kept
    assert guidance.placed_bytes <= BYTE_LIMIT
    wrapper.to(cpu)
    assert guidance.placed_bytes == 0, "nothing stays where the model was"
