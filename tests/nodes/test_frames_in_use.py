"""The frames in use are one choice for pictures, depth and poses: the prior of part of a clip is
part of its prior."""

from types import ModuleType

import torch

from tools.rigs.model_rig import node_defaults

SIZE = 64
START, COUNT = 8, 13
FULL_FPS = 20.0


def prior_of(pack: ModuleType, **choice) -> tuple[torch.Tensor, torch.Tensor]:
    """Stages 1 to 4 through the nodes; prior [T, H, W, 3] and coverage [T, H, W]."""
    from egox_pack.nodes.depth_align import EgoXDepthAlign
    from egox_pack.nodes.ego_pose import EgoXEgoPoseInput
    from egox_pack.nodes.load_exo_video import EgoXLoadExoVideo
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior
    from egox_pack.nodes.scene import EgoXBuildScene

    def run(node, **inputs):
        return node.execute(**node_defaults(node) | inputs).result

    images, _, _, frames = run(
        EgoXLoadExoVideo,
        file="sample/synthetic_room/exo.mp4",
        width=SIZE * 7 // 4,
        height=SIZE,
        **choice,
    )
    depth = run(EgoXDepthAlign, frames=frames)[0]
    scene = run(EgoXBuildScene, exo_images=images, depth=depth)[0]
    trajectory = run(EgoXEgoPoseInput, frames=frames)[0]
    return run(EgoXRenderEgoPrior, scene=scene, trajectory=trajectory)[:2]


def test_half_the_rate_from_frame_8_gives_the_same_prior_frames(pack):
    whole, covered = prior_of(pack, frame_count=33)
    part, part_covered = prior_of(
        pack, frame_count=COUNT, start_frame=START, target_fps=FULL_FPS / 2
    )
    same = list(range(START, START + 2 * COUNT, 2))
    both = (covered[same] > 0) & (part_covered > 0)
    either = (covered[same] > 0) | (part_covered > 0)
    # Not bit-equal: the background is fused over other frames, which differ in noise and in what
    # the person hides.
    assert both.sum() / either.sum() > 0.97
    error = (part - whole[same])[both].square().mean()
    assert -10 * torch.log10(error) > 30
    # The bound means something: one frame off is clearly worse.
    off = (part - whole[[i - 1 for i in same]])[both].square().mean()
    assert off > 2 * error
