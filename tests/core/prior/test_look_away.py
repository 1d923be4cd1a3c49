"""Memory of never-seen places: what comes back, and what never does."""

from dataclasses import replace

import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.model import sensor_from_upright
from egox_core.cameras.path import CameraPath
from egox_core.cameras.presets import preset_camera
from egox_core.prior.look_away import MAX_PARALLAX, LookAwayMemory, guess_depth
from egox_core.prior.options import PriorOptions
from egox_core.types import CameraTrajectory, DepthVideo
from tests.poses import path_of

from ..box_room import view
from .test_render import fill_card

EXO = preset_camera("pinhole", 64)
EGO = preset_camera("aria_released", 64).rescale(64, 64)


def turned(yaw_deg: float, x: float = 0.0) -> torch.Tensor:
    """Compute w2c of a head in the middle of the room that has turned away from the exo camera's
    view."""
    turn = Rotation.from_euler("y", -yaw_deg, degrees=True).as_matrix()
    pose = sensor_from_upright(EGO.quarter_turns) @ torch.from_numpy(turn)
    return torch.cat((pose, -x * pose[:, :1]), 1)


def clip(
    poses: list[torch.Tensor],
) -> tuple[torch.Tensor, DepthVideo, CameraTrajectory, torch.Tensor]:
    """Draw exo's pictures and depth, the path, and what the ego camera truly sees."""
    exo_w2c = torch.eye(3, 4).double()
    exo, path = view(EXO, exo_w2c), path_of(torch.stack(poses), EGO, exo_w2c=exo_w2c)
    depth_m = exo.depth_m.expand(len(poses), -1, -1)
    depth = DepthVideo(
        depth_m=depth_m,
        dynamic=torch.zeros_like(depth_m, dtype=torch.bool),
        exo=CameraPath.of_exo(EXO, exo_w2c, path.frames),
    )
    rgb = exo.rgb.float().expand(len(poses), -1, -1, -1) / 255
    return rgb, depth, path, torch.stack([view(EGO, pose).rgb.float() / 255 for pose in poses])


def after(ego: torch.Tensor) -> LookAwayMemory:
    """Remember a chunk ``ego`` that looked away, and one after it that looked back."""
    memory = LookAwayMemory()
    for poses, ego_video in ((AWAY, ego), ([turned(0)] * 9, clip([turned(0)] * 9)[3])):
        exo, depth, path, _ = clip(poses)
        assert not memory.fill(exo, torch.zeros_like(ego), depth, path).any(), "nothing to draw yet"
        memory.keep(ego_video, path)
    return memory


def second_visit(ego: torch.Tensor, then: list[torch.Tensor]) -> tuple:
    """Fill the prior of poses ``then`` after :func:`after`, and return it with the filled mask and
    the truth."""
    memory = after(ego)
    exo, depth, path, truth = clip(then)
    filled = memory.fill(exo, torch.zeros(len(then), 64, 64, 3), depth, path)
    return filled, filled.amax(-1) > 0, truth


AWAY = [turned(60 + 2 * t) for t in range(9)]


def test_the_second_visit_shows_what_the_first_one_made():
    filled, where, expected = second_visit(clip(AWAY)[3], [turned(66), turned(72)])
    assert where.float().mean() > 0.3
    assert (filled - expected)[where].square().mean().sqrt() < 0.03
    assert not where[0, ~EGO.pixel_rays()[1]].any(), "outside of the lens nothing is drawn"


def test_a_card_that_is_full_costs_a_word(monkeypatch):
    fill_card(monkeypatch)
    ego, filled = clip(AWAY)[3], []
    for kind in ("cpu", "meta"):
        monkeypatch.setattr(PriorOptions, "torch_device", lambda _, kind=kind: torch.device(kind))
        filled.append(second_visit(ego, [turned(66)])[0])
    assert torch.equal(*filled) and filled[0].any()
    (note,) = after(ego).notes
    assert note.text == "the prior is drawn on the CPU, not on meta: Memory is full"


def test_exo_always_wins():
    """Pixels that the prior shows, and those whose surface the scene has, stay as they are."""
    memory = after(torch.ones(9, 64, 64, 3))  # a wrong colour everywhere
    exo, depth, path, _ = clip(AWAY)
    assert memory.fill(exo, torch.zeros(9, 64, 64, 3), depth, path).any()
    grey = torch.full((9, 64, 64, 3), 0.5)
    assert torch.equal(memory.fill(exo, grey, depth, path), grey)
    exo, depth, path, _ = clip([turned(0)])
    assert memory.fill(exo, torch.zeros(1, 64, 64, 3), depth, path)[0, 24:40, 24:40].amax() == 0


def test_what_moves_is_not_remembered():
    ego = clip(AWAY)[3]
    for t in range(9):
        ego[t, 20:40, 20:40] = t / 8  # another colour in each frame
    _, where, _ = second_visit(ego, [turned(64)])
    _, still, _ = second_visit(clip(AWAY)[3], [turned(64)])
    assert where[0, 24:36, 24:36].float().mean() < 0.2 < 0.8 < still[0, 24:36, 24:36].float().mean()


def test_chunks_that_show_no_surface_end_no_run(recwarn):
    """The head has turned from all that exo saw, or a chunk's depth is unknown throughout."""
    memory, ego = after(clip(AWAY)[3]), torch.ones(9, 64, 64, 3)
    exo, depth, path, _ = clip([turned(178 + t) for t in range(9)])
    for chunk_depth in (depth, replace(depth, depth_m=torch.full_like(depth.depth_m, torch.nan))):
        memory.fill(exo, torch.zeros_like(ego), chunk_depth, path)
        memory.keep(ego, path)
    assert not recwarn.list and not any(len(chunk.points) for chunk in memory._chunks[2:])


@pytest.mark.parametrize(("share", "drawn"), [(0.5, True), (1.5, False)])
def test_a_guessed_place_is_drawn_near_its_own_view_only(share, drawn):
    memory = after(clip(AWAY)[3])
    x = share * MAX_PARALLAX * memory._chunks[0].distance_m
    exo, depth, path, _ = clip([turned(66, x=x)])
    assert bool(memory.fill(exo, torch.zeros(1, 64, 64, 3), depth, path).any()) == drawn


def test_guessed_depth_keeps_what_is_known_and_continues_it():
    depth_m = torch.full((32, 32), 2.0)
    depth_m[:, 16:] = torch.nan
    guess = guess_depth(depth_m, 9.0)
    assert torch.equal(guess[:, :16], depth_m[:, :16]) and (guess - 2).abs().max() < 1e-3
    assert (guess_depth(torch.full((8, 8), torch.nan), 9.0) - 9).abs().max() < 1e-4
