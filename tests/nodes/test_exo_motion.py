"""Test the node Exo Camera Motion."""

import pytest
import torch


def test_a_moving_cameras_depth_gets_poses_and_a_preview(pack):
    from egox_pack.lab.drawn import SyntheticSpec, make_take
    from egox_pack.nodes.exo_motion import EgoXExoMotion

    drawing_options = dict(
        frames=5, fps=2.0, exo_width=160, exo_height=96, ego_size=16, edge_samples=1
    )
    motion_options = dict(exo_path="dolly", exo_motion=0.4, texture="soft")
    take = make_take(SyntheticSpec(seed=5, **drawing_options, **motion_options))
    depth = take.depth_video()
    bare_depth = type(depth)(
        depth_m=depth.depth_m,
        exo=type(depth.exo).of_exo(depth.exo.camera, frames=depth.frames),
    )
    moving_mask = take.exo_dynamic.float()
    node_output = EgoXExoMotion.execute(
        take.exo_frames(), bare_depth, "auto", dynamic_mask=moving_mask
    )
    moving_depth, text = node_output.args
    assert moving_depth.exo.pose.shape == (5, 3, 4)
    assert text.startswith("the exo camera moves: 0.")
    preview = node_output.ui["egox_preview"][0]
    assert [stream["name"] for stream in preview["streams"]] == ["points", "path"]
    static_output = EgoXExoMotion.execute(
        take.exo_frames()[:1].expand(5, -1, -1, -1), bare_depth, "auto"
    )
    assert static_output.args[0] is bare_depth
    assert "static" in static_output.args[1]
    with pytest.raises(ValueError, match="motion of the exo camera"):
        EgoXExoMotion.execute(torch.zeros_like(take.exo_frames()), bare_depth, "moves")
