"""Exo Camera Motion as the host calls it."""

import pytest
import torch


def test_depth_gets_poses_and_a_preview(pack):
    from egox_pack.lab.drawn import SyntheticSpec, make_take
    from egox_pack.nodes.exo_motion import EgoXExoMotion

    spec = dict(frames=9, fps=4.0, exo_width=224, exo_height=128, ego_size=16, edge_samples=1)
    way = dict(exo_path="dolly", exo_motion=0.4, texture="soft")
    take = make_take(SyntheticSpec(seed=5, **spec, **way))
    depth = take.depth_video()
    bare_depth = type(depth)(
        depth_m=depth.depth_m,
        exo=type(depth.exo).of_exo(depth.exo.camera, frames=depth.frames),
    )
    mask = take.exo_dynamic.float()
    out = EgoXExoMotion.execute(take.exo_frames(), bare_depth, "auto", dynamic_mask=mask)
    moving_depth, text = out.args
    assert moving_depth.exo.pose.shape == (9, 3, 4) and text.startswith("the exo camera moves: 0.")
    preview = out.ui["egox_preview"][0]
    assert [s["name"] for s in preview["streams"]] == ["points", "path"]
    still = EgoXExoMotion.execute(take.exo_frames()[:1].expand(9, -1, -1, -1), bare_depth, "auto")
    assert still.args[0] is bare_depth and "static" in still.args[1]
    with pytest.raises(ValueError, match="motion of the exo camera"):
        EgoXExoMotion.execute(torch.zeros_like(take.exo_frames()), bare_depth, "moves")
