"""What the guided model keeps in memory for context windows."""

from __future__ import annotations

import pytest
import torch

from tools.rigs import model_rig

T, H, W_EXO, W_EGO = 61, 28, 49, 28  # tokens of 241 frames at the released size
LIMIT = 64 * 2**20


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    with torch.inference_mode():
        return model_rig.make_rig(pack, repo_root / "models")


def default_windows(rig, steps: int) -> list[list[int]]:
    """Latent frames of each model call, with the host node's own defaults."""
    from comfy_extras.nodes_context_windows import WanContextWindowsManualNode as Node

    values = {part.id: part.default for part in Node.define_schema().inputs if part.id != "model"}
    handler = Node.execute(rig.model, **values).args[0].model_options["context_handler"]
    calls = []
    for step in range(steps):
        handler._step = step
        windows = handler.context_schedule.func(T, handler, {})
        calls += [list(getattr(window, "index_list", window)) for window in windows]
    return calls


def test_directions_of_windows_are_bounded_and_right(rig, monkeypatch) -> None:
    guidance = rig.patch().get_all_wrappers("diffusion_model")[0].guidance
    tokens = T * H * (W_EXO + W_EGO)
    generator = torch.Generator().manual_seed(0)
    kind = type(guidance.geometry)
    guidance.geometry = kind(
        query_dirs=torch.rand(T, H * W_EGO, 3, generator=generator), key_dirs=torch.rand(T, tokens, 3,
                                                                                         generator=generator),
        key_trust=torch.rand(tokens, generator=generator), grid=(T, H, W_EXO, W_EGO), rays=guidance.geometry.rays)
    cpu = torch.device("cpu")
    assert guidance._for_call(cpu, None) is guidance.geometry and guidance.placed_bytes == 0
    windows = default_windows(rig, steps=3)
    assert len({tuple(frames) for frames in windows}) > 2
    most, selected = 0, []
    real = kind.select_frames
    monkeypatch.setattr(kind, "select_frames", lambda self, frames: selected.append(frames) or real(self, frames))
    for frames in windows:
        placed = guidance._for_call(cpu, frames)
        assert placed is guidance._for_call(cpu, frames), "a second call of the same window takes what is kept"
        most = max(most, guidance.placed_bytes)
    assert placed.tokens == len(frames) * H * (W_EXO + W_EGO)
    assert torch.equal(placed.query_dirs, guidance.geometry.query_dirs[frames])
    assert 0 < most <= LIMIT
    assert len(selected) <= len(windows)
    guidance._for_call(cpu, list(range(55)))  # alone beyond the limit: given, not kept
    assert guidance.placed_bytes <= LIMIT
