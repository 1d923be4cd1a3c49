"""egox_one_video: from one video to the first-person video, with nothing placed, masked or written
by hand."""

from __future__ import annotations

from dataclasses import replace

from . import notes as notes
from .graph import Graph, Subgraph
from .layout import Block
from .parts import (
    DEPTH_COLOR,
    Page,
    depth_models,
    egox,
    geometry,
    hub_link,
    note,
    promote,
    sam3_track,
    sampled_long,
)

SDPOSE = "sdpose_wholebody_fp16.safetensors"


def egox_one_video(graph: Graph) -> Page:
    """The host's detectors find the wearer's head, its depth models the room, its language model
    the words."""
    read_me = note(graph, "One video, nothing by hand", notes.ONE_VIDEO)
    stages = geometry(
        graph, depth={"preset": "released_wild"}, pose={"source": "estimated"}, in_hand=True
    )
    depth_models(stages, masks=False)
    stages.depth.sources["dynamic_mask"] = stages.inside.take("dynamic_mask", "MASK")
    head = graph.add_subgraph(
        wearer(graph),
        360,
        exo_images=(stages.load, "exo_images"),
        depth=(stages.scene_and_prior, "depth"),
    )
    stages.scene_and_prior.sources["dynamic_mask"] = (head, "everybody")
    stages.pose.sources["estimated"] = (head, "trajectory")
    stage = egox(graph, captioned=True, long=True, steps=50, cfg=5.0)
    stage.inside.promote(stage.texts[0], "caption", label="Caption")
    promote(stage, weights=False)
    return replace(sampled_long(graph, read_me, stages, stage, "egox_one_video"), above=(head,))


def wearer(graph: Graph) -> Subgraph:
    """SAM3 says who and where, SDPose where the head's points are; of both comes the path of the
    head."""
    inside = graph.subgraph(
        "Wearer's head",
        "Who wears the camera, and where the head is in every frame: SAM3, "
        "SDPose, Estimate Head Pose. Its trajectory goes to Ego Pose Input, "
        "where it can be corrected.",
    )
    exo, depth = inside.take("exo_images", "IMAGE"), inside.take("depth", "EGOX_DEPTH")
    sam, words, track = sam3_track(inside, exo)
    everybody = inside.add(
        "SAM3_TrackToMask", 340, title="Everybody", track_data=(track, "track_data")
    )
    one = inside.add(
        "SAM3_TrackToMask",
        340,
        title="The wearer",
        track_data=(track, "track_data"),
        object_indices="0",
    )
    boxes = inside.add(
        "SAM3_Detect",
        340,
        title="Boxes for SDPose",
        image=exo,
        refine_iterations=0,
        model=(sam, "MODEL"),
        conditioning=(words, "CONDITIONING"),
    )
    pose = inside.add(
        "CheckpointLoaderSimple",
        360,
        title="Load SDPose",
        ckpt_name=SDPOSE,
        models=hub_link(SDPOSE, "checkpoints", "SDPose"),
    )
    points = inside.add(
        "SDPoseKeypointExtractor",
        340,
        model=(pose, "MODEL"),
        vae=(pose, "VAE"),
        image=exo,
        bboxes=(boxes, "bboxes"),
    )
    head = inside.add(
        "EgoXEstimateHeadPose",
        380,
        420,
        exo_images=exo,
        pose_keypoints=(points, "keypoints"),
        depth=depth,
        person_mask=(one, "masks"),
    )
    inside.give("trajectory", (head, "trajectory"))
    inside.give("everybody", (everybody, "masks"))
    inside.promote_player(head, "Head in the exo video")
    inside.rows = [
        [
            Block("Who moves: SAM3", [[sam, words], [track, everybody, one]], DEPTH_COLOR),
            Block("Points of the head: SDPose", [[boxes, pose], [points]], DEPTH_COLOR),
            Block("Head pose", [[head]]),
        ]
    ]
    return inside
