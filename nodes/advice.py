"""Replace functions and arguments in the core's messages by nodes and buttons of a graph."""

from ..egox_core.errors import WORDS

WORDS.update(
    {
        "give the video's own depth: a file, or the output of MoGe": (
            "for a video alone open the template egox_one_video; where you have its depth press "
            "'Upload own files' on Load Exo Video and add it; or fetch "
            "moge_2_vitl_normal_fp16.safetensors (0.66 GB) and depth_anything_3_base.safetensors "
            "(0.54 GB), all that the prior needs, and un-bypass the depth group"
        ),
        "the output of MoGe": "the output of Run MoGe Inference",
        "the output of Depth Anything 3": "the output of Run Depth Anything 3",
        "fov_deg of stages.align": "exo_fov of Depth Align",
        "measure it by takes.with_takes_raw_scale": "run Depth Align again",
        "the output of Take.depth_with_raw_scale": "the output of Depth Align",
        "stages.align": "Depth Align",
        "stages.load_clip": "Load Exo Video",
        "stages.path": "Ego Pose Input",
        "stages.scene": "Build Scene",
        "or make a path": (
            "or press 'Open pose editor' on Ego Pose Input, then 'Load scene', and make a path "
            "there"
        ),
        "make a path of this video": (
            "press 'Open pose editor' on Ego Pose Input, which begins with what belongs to this "
            "video"
        ),
        "estimate its motion (estimate_exo_motion)": "put Exo Camera Motion after Depth Align",
        "give the model's answer": "un-bypass Generate Text",
        (
            "switch the model's thinking off, or let it write more"
        ): "switch 'thinking' off in Generate Text, or raise its max_length",
        "sample the latent that came with this canvas": "connect the latent that EgoX Conditioning "
        "gave with this canvas",
        "the path of another program (given)": "the path of another program (poses_file)",
        "leave given out": "give no path (poses_file, camera_track, motion_scene)",
        "set video_kind to 'relative z' (an IMAGE depth map: invert it)": (
            "invert the depth picture (node Invert Image)"
        ),
        "use frame_count ": "set the length (frame_count) to ",
        "released_schedule": "EgoX Released Sampling",
        "choose a pixel inside the ego image": (
            "choose a pixel of the ego image (click into it on the node)"
        ),
        (
            "the exo clip and the decoded ego video of the same sampling"
        ): "Load Exo Video and Decode Ego Half (pinhole_fov 0) of the same graph",
        "convert it to names as diffusion_model": "convert it once with: python "
        "tools/convert_lora.py IN OUT, to names as diffusion_model",
        "convert it with safetensors.torch.save_file: ": "convert it once with: python "
        "tools/convert_to_safetensors.py ",
    }
)
