"""The shipped workflows, described. What two of them have in common stands here once."""

from __future__ import annotations

from collections.abc import Callable

from egox_core.prompt import DEFAULT_NEGATIVE

from .workflow_graph import Graph, Node

SAMPLE_VIDEO = "sample/synthetic_room/exo.mp4"
HUB = "https://huggingface.co/Comfy-Org"
WAN = "Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"

DEMO_NOTE = """## EgoX demo: stand-in weights

One third-person video in, the first-person video of what that person saw out. Every stage here is the real one; only
the **weights are stand-ins** (a tiny untrained transformer and VAE that come with the pack), so the ego video is noise.
The prior is real: it is what the exo camera's points look like from the person's eyes.

Press **Run**. For real weights open `egox_basic`.
"""

BASIC_NOTE = """## EgoX

1. **Load the weights** (see the links in the loader nodes, and the README): Wan 2.1 I2V 14B, its VAE, UMT5, CLIP
   vision H, and the EgoX LoRA as `models/loras/egox_lora.safetensors`.
2. Press **Run**: the graph opens with the pack's synthetic take (video, `depth.npz`, `meta.json` in one folder).
3. **Tune** λ_g (3 = the authors' inference, 0 = no geometry) on *Wan EgoX Sampler* and the strength on *EgoX LoRA*.

The seed of *Wan EgoX Sampler* is what counts; `noise_seed` of *EgoX Conditioning* is for graphs of separate nodes.
"""

DEPTH_NOTE = """## For your own video

1. Choose the video in *Load Exo Video* (a fixed camera, 49 frames or more, the whole person in view).
2. Put a MoGe model and a Depth Anything 3 model (Small or Base) into `models/geometry_estimation`, choose them here,
   and **un-bypass this group** (select it, Ctrl+B).
3. *Ego Pose Input*: give the take's `meta.json`, or choose `keyframes` and type the head's path.
4. Write the prompt in two sections, `[Exo view]` and `[Ego view]`, into the text node.
"""


def model_link(name: str, folder: str, repository: str = "") -> list[dict[str, str]]:
    """What the editor needs to offer a missing model for download."""
    place = f"{repository}/resolve/main" if repository else WAN
    return [{"name": name, "url": f"{HUB}/{place}/{folder}/{name}", "directory": folder}]


def geometry(graph: Graph) -> dict[str, Node]:
    """Stages 1 to 4: exo video, depth, pose, scene, prior."""
    load = graph.add("EgoXLoadExoVideo", (0, 120), (360, 300), file=SAMPLE_VIDEO)
    # Depth and poses are not named: they are found beside the video, so that choosing another video is one step, and
    # a video without them is refused instead of being run with the sample's.
    depth = graph.add("EgoXDepthAlign", (420, 120), (360, 420), frames=(load, "frames"))
    scene = graph.add("EgoXBuildScene", (840, 120), (340, 180), exo_images=(load, "exo_images"), depth=(depth, "depth"))
    pose = graph.add("EgoXEgoPoseInput", (840, 360), (340, 300), frames=(load, "frames"), scene=(scene, "scene"),
                     exo_images=(load, "exo_images"))
    prior = graph.add("EgoXRenderEgoPrior", (1240, 120), (340, 300), trajectory=(pose, "trajectory"),
                      scene=(scene, "scene"))
    graph.group("1  Exo video", (-20, 40, 400, 520))
    graph.group("2  Depth", (400, 40, 400, 520))
    graph.group("3, 4  Pose, scene, ego prior", (820, 40, 780, 640))
    return {"load": load, "depth": depth, "scene": scene, "pose": pose, "prior": prior}


def sampling(graph: Graph, stages: dict[str, Node], *, unet: Node, vae: Node, lora_name: str, text: tuple[Node, Node],
             prefix: str, steps: int, cfg: float, clip_vision: Node | None = None) -> None:
    """Stages 5 and 6: conditioning, LoRA, sampling, decoding, saving."""
    positive, negative = text
    output = {"positive": positive.info["output_name"][0], "negative": negative.info["output_name"][0]}
    lora = graph.add("EgoXLoadLora", (420, 1080), (360, 160), model=(unet, "MODEL"), lora_name=lora_name)
    vision = {} if clip_vision is None else {"clip_vision": (clip_vision, "CLIP_VISION")}
    conditioning = graph.add(
        "EgoXConditioning", (840, 760), (360, 360), positive=(positive, output["positive"]),
        negative=(negative, output["negative"]), vae=(vae, "VAE"), exo_images=(stages["load"], "exo_images"),
        prior=(stages["prior"], "prior"), model=(lora, "model"), **vision)
    sampler = graph.add(
        "EgoXWanSampler", (1240, 760), (360, 560), model=(lora, "model"), positive=(conditioning, "positive"),
        negative=(conditioning, "negative"), latent=(conditioning, "latent"), canvas=(conditioning, "canvas"),
        depth=(stages["depth"], "depth"), trajectory=(stages["pose"], "trajectory"), seed=1234, steps=steps, cfg=cfg)
    decode = graph.add("EgoXDecodeEgoHalf", (1660, 760), (340, 260), latent=(sampler, "latent"), vae=(vae, "VAE"),
                       trajectory=(stages["pose"], "trajectory"))
    for name, source, audio, top in (("prior", (stages["prior"], "prior"), {}, 120),
                                     ("ego", (decode, "ego"), {"audio": (stages["load"], "audio")}, 760)):
        video = graph.add("CreateVideo", (2060, top), (280, 120), images=source, fps=(stages["load"], "fps"), **audio)
        graph.add("SaveVideo", (2380, top), (480, 420), title=f"Save {name}", video=(video, "VIDEO"),
                  filename_prefix=f"{prefix}/{name}", format="mp4", codec="h264")
    graph.group("5  Conditioning, LoRA, sampling", (400, 680, 1220, 680))
    graph.group("6  Ego video", (1640, 680, 1240, 540))


def egox_demo(graph: Graph) -> None:
    """Everything from this pack: stand-in weights, conditioning from a stock node that needs no file."""
    graph.add("MarkdownNote", (-440, 120), (380, 300), title="Read me", text=DEMO_NOTE)
    stages = geometry(graph)
    stages["load"].values.update(width=448, height=256)
    stages["prior"].values.update(size=256)
    unet = graph.add("UNETLoader", (0, 760), (360, 110), unet_name="egox_standin_wan22_i2v.safetensors",
                     title="Load Diffusion Model (stand-in)")
    vae = graph.add("VAELoader", (0, 920), (360, 80), vae_name="egox_standin_wan_vae.safetensors",
                    title="Load VAE (stand-in)")
    positive = graph.add("LotusConditioning", (420, 760), (360, 60), title="Positive (no text encoder needed)")
    negative = graph.add("LotusConditioning", (420, 880), (360, 60), title="Negative (no text encoder needed)")
    sampling(graph, stages, unet=unet, vae=vae, lora_name="egox_standin_lora_wan22.safetensors",
             text=(positive, negative), prefix="egox_demo", steps=10, cfg=1.0)


def egox_basic(graph: Graph) -> None:
    """The real weights through the stock loaders, and a bypassed group of depth models for one's own video."""
    graph.add("MarkdownNote", (-440, 120), (380, 420), title="Read me", text=BASIC_NOTE)
    stages = geometry(graph)
    unet_name, vae_name = "wan2.1_i2v_480p_14B_fp8_e4m3fn.safetensors", "wan_2.1_vae.safetensors"
    text_name, vision_name = "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "clip_vision_h.safetensors"
    unet = graph.add("UNETLoader", (0, 760), (360, 110), unet_name=unet_name,
                     models=model_link(unet_name, "diffusion_models"))
    vae = graph.add("VAELoader", (0, 920), (360, 80), vae_name=vae_name, models=model_link(vae_name, "vae"))
    clip = graph.add("CLIPLoader", (0, 1060), (360, 130), clip_name=text_name, type="wan",
                     models=model_link(text_name, "text_encoders"))
    vision = graph.add("CLIPVisionLoader", (0, 1250), (360, 80), clip_name=vision_name,
                       models=model_link(vision_name, "clip_vision"))
    positive = graph.add("CLIPTextEncode", (420, 760), (360, 120), title="Prompt (from the take)", clip=(clip, "CLIP"),
                         text=(stages["pose"], "prompt"))
    negative = graph.add("CLIPTextEncode", (420, 920), (360, 120), title="Negative prompt", clip=(clip, "CLIP"),
                         text=DEFAULT_NEGATIVE)
    sampling(graph, stages, unet=unet, vae=vae, lora_name="egox_lora.safetensors", text=(positive, negative),
             prefix="egox_basic", steps=50, cfg=5.0, clip_vision=vision)
    depth_group(graph, stages)


def depth_group(graph: Graph, stages: dict[str, Node]) -> None:
    """The host's depth models, bypassed until somebody has a video of their own."""
    images = (stages["load"], "exo_images")
    graph.add("MarkdownNote", (-440, -620), (380, 400), title="For your own video", text=DEPTH_NOTE)
    moge_name, da3_name = "moge_2_vitl_normal_fp16.safetensors", "depth_anything_3_base.safetensors"
    moge = graph.add("LoadMoGeModel", (0, -600), (340, 80), bypassed=True, model_name=moge_name,
                     models=model_link(moge_name, "geometry_estimation", "MoGe"))
    moge_run = graph.add("MoGeInference", (0, -460), (340, 220), bypassed=True, moge_model=(moge, "MOGE_MODEL"),
                         image=images)
    da3 = graph.add("LoadDA3Model", (420, -600), (340, 110), bypassed=True,
                    model_name=da3_name, models=model_link(da3_name, "geometry_estimation", "Depth-Anything-3"))
    da3_run = graph.add("DA3Inference", (420, -430), (340, 240), bypassed=True, da3_model=(da3, "DA3_MODEL"),
                        image=images, mode="multiview")
    stages["depth"].sources.update(moge_geometry=(moge_run, "moge_geometry"), da3_geometry=(da3_run, "da3_geometry"))
    graph.group("Depth of your own video (un-bypass: Ctrl+B)", (-20, -680, 800, 520), color="#88A")


SPECS: dict[str, Callable[[Graph], None]] = {"egox_demo": egox_demo, "egox_basic": egox_basic}
