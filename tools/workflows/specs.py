"""The shipped workflows, described. What they have in common stands in ``parts``, what they say in ``notes``.

Each returns the rows of its layout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.small_model.settings import DemoTraining

from . import notes as notes
from .graph import Graph, Node
from .layout import Block
from .parts import (
    BASELINE_NEGATIVE,
    CALM_VIDEO,
    DISTILLED,
    DISTILLED_LINK,
    Loaders,
    Rows,
    add_conditioning,
    add_decode,
    add_lora,
    add_sampler,
    geometry,
    geometry_blocks,
    hub_link,
    model_link,
    note,
    real_loaders,
    released_start,
    sampled,
    save,
)

DEPTH_COLOR, STUDY_COLOR, VACE_COLOR = "#7a7ad0", "#4f9f5f", "#c06060"

# The sample's own path at its first, middle and last frame, for a graph whose poses are set by hand.
SAMPLE_KEYFRAMES = """{"up": [0, 0, 1], "interpolation": "spline", "keyframes": [
  {"frame": 0, "position": [0.191, -0.085, 1.200], "look_at": [0.808, -0.593, 0.599]},
  {"frame": 24, "position": [0.196, -0.093, 1.224], "look_at": [0.895, -0.593, 0.713]},
  {"frame": 48, "position": [0.182, -0.135, 1.220], "look_at": [0.649, -0.906, 0.786]}
]}"""
# In the form of the captions that the authors trained with.
SAMPLE_EXO = (
    "**Scene Overview:** A computer-drawn room with light blue walls and a grey floor. A person in a green shirt sits "
    "at a brown table. On the table: books, a ball, mugs and a plate. **Action Analysis:** The person holds blocks and "
    "moves both hands over the table, lifting and putting down what they hold, while the head follows the hands. The "
    "camera and everything else stay still.")
SAMPLE_EGO = (
    "**Scene Overview:** From the person's eyes the view goes down over the brown table with books, a ball, mugs and a "
    "plate on it, towards light blue walls and a grey floor. Both forearms in green sleeves reach in from below. "
    "**Action Analysis:** The hands move blocks from place to place over the table; the view sways gently with the "
    "head.")


def egox_demo(graph: Graph) -> Rows:
    """Everything from this pack: the small model at its own size, conditioning from a stock node that needs no file."""
    read_me = note(graph, "Read me", notes.DEMO, high=420)
    stages = geometry(graph, CALM_VIDEO, width=144, height=80, frame_count=9)
    stages["depth"].values.update(preset="faded")
    stages["prior"].values.update(size=80)
    unet = graph.add("UNETLoader", 380, unet_name="egox_demo_wan22_i2v.safetensors",
                     title="Load Diffusion Model (small model)")
    vae = graph.add("VAELoader", 380, vae_name="egox_demo_vae.safetensors", title="Load VAE (small model)")
    positive = graph.add("LotusConditioning", 360, title="Positive (no text encoder needed)")
    negative = graph.add("LotusConditioning", 360, title="Negative (no text encoder needed)")
    loaders = Loaders(unet, vae, [positive, negative], column=[unet, vae])
    lora = add_lora(graph, (unet, "MODEL"), "egox_demo_lora.safetensors")
    _, row = sampled(graph, stages, loaders, lora, prefix="egox_demo", steps=10, cfg=1.0, rays="auto",
                     shift=DemoTraining().transformer.sample_shift)
    return [[Block("", [[read_me]]), *geometry_blocks(stages)],
            [Block("Weights (small model), LoRA, prompt", [loaders.column, [lora, positive, negative]]), *row]]


def egox_basic(graph: Graph) -> Rows:
    """The real weights through the stock loaders, and bypassed groups of depth models and SAM3 for one's own video."""
    read_me = note(graph, "Read me", notes.BASIC, high=820)
    stages, loaders, lora = released_start(graph)
    _, row = sampled(graph, stages, loaders, lora, prefix="egox_basic", steps=50, cfg=5.0)
    own = note(graph, "For your own video", notes.DEPTH, high=360)
    depth = depth_models(graph, stages, bypassed=True)
    masks = moving_masks(graph, stages, bypassed=True)
    return [[Block("", [[own]]), Block("Depth of your own video (un-bypass: Ctrl+B)", depth, DEPTH_COLOR),
             Block("What moves in it: SAM3 (un-bypass, too)", masks, DEPTH_COLOR)],
            [Block("", [[read_me]]), *geometry_blocks(stages)],
            [Block("Weights, LoRA, prompt", [loaders.column, [lora, *loaders.texts]]), *row]]


def depth_models(graph: Graph, stages: dict[str, Node], *, bypassed: bool = False) -> list[list[Node]]:
    """The host's depth models on the exo frames: MoGe for the metres, Depth Anything 3 for steadiness."""
    images = (stages["load"], "exo_images")
    moge_name, da3_name = "moge_2_vitl_normal_fp16.safetensors", "depth_anything_3_base.safetensors"
    moge = graph.add("LoadMoGeModel", 360, bypassed=bypassed, model_name=moge_name,
                     models=hub_link(moge_name, "geometry_estimation", "MoGe"))
    moge_run = graph.add("MoGeInference", 340, bypassed=bypassed, moge_model=(moge, "MOGE_MODEL"), image=images)
    da3 = graph.add("LoadDA3Model", 360, bypassed=bypassed, model_name=da3_name,
                    models=hub_link(da3_name, "geometry_estimation", "Depth-Anything-3"))
    da3_run = graph.add("DA3Inference", 340, bypassed=bypassed, da3_model=(da3, "DA3_MODEL"), image=images,
                        mode="multiview")
    stages["depth"].sources.update(moge_geometry=(moge_run, "moge_geometry"), da3_geometry=(da3_run, "da3_geometry"))
    return [[moge, da3], [moge_run], [da3_run]]


def moving_masks(graph: Graph, stages: dict[str, Node], *, bypassed: bool = False) -> list[list[Node]]:
    """SAM3 on the exo frames: what moves is left out of the depth's fit, which hands it on to the scene."""
    name = "sam3.1_multiplex_fp16.safetensors"
    sam = graph.add("CheckpointLoaderSimple", 360, bypassed=bypassed, title="Load SAM3", ckpt_name=name,
                    models=hub_link(name, "checkpoints", "sam3.1"))
    words = graph.add("CLIPTextEncode", 360, 90, bypassed=bypassed, title="What moves", clip=(sam, "CLIP"),
                      text="person")
    track = graph.add("SAM3_VideoTrack", 340, bypassed=bypassed, images=(stages["load"], "exo_images"),
                      model=(sam, "MODEL"), conditioning=(words, "CONDITIONING"))
    mask = graph.add("SAM3_TrackToMask", 340, bypassed=bypassed, track_data=(track, "track_data"))
    stages["depth"].sources["dynamic_mask"] = (mask, "masks")
    return [[sam, words], [track, mask]]


def egox_from_any_video(graph: Graph) -> Rows:
    """Nothing but a video: depth and motion from the host's models, the head placed by hand."""
    read_me = note(graph, "Any video of your own", notes.ANY_VIDEO, high=640)
    limits = note(graph, "Good to know", notes.ANY_VIDEO_LIMITS, high=420)
    stages = geometry(graph)
    stages["pose"].values.update(source="keyframes", keyframes=SAMPLE_KEYFRAMES)
    stages["depth"].values.update(preset="released_wild")
    depth = depth_models(graph, stages)
    masks = moving_masks(graph, stages)
    prompt = graph.add("EgoXPrompt", 360, 360, exo_view=SAMPLE_EXO, ego_view=SAMPLE_EGO)
    loaders = real_loaders(graph, prompt, output="positive")
    lora = add_lora(graph, (loaders.unet, "MODEL"))
    _, row = sampled(graph, stages, loaders, lora, prefix="egox_from_any_video", steps=50, cfg=5.0)
    return [[Block("", [[limits]]), Block("Depth: MoGe and Depth Anything 3", depth, DEPTH_COLOR),
             Block("What moves: SAM3", masks, DEPTH_COLOR)],
            [Block("", [[read_me]]), *geometry_blocks(stages)],
            [Block("Weights, LoRA, prompt", [loaders.column, [prompt], [lora, *loaders.texts]]), *row]]


def egox_low_vram(graph: Graph) -> Rows:
    """egox_basic with what there is to say about memory, and where a GGUF file goes."""
    read_me = note(graph, "Little memory", notes.LOW_VRAM, high=820)
    gguf = note(graph, "GGUF", notes.GGUF, high=300)
    stages, loaders, lora = released_start(graph)
    _, row = sampled(graph, stages, loaders, lora, prefix="egox_low_vram", steps=50, cfg=5.0)
    return [[Block("", [[read_me]]), *geometry_blocks(stages)],
            [Block("", [[gguf]]),
             Block("Weights, LoRA, prompt", [loaders.column, [lora, *loaders.texts]]), *row]]


def egox_fast(graph: Graph) -> Rows:
    """A step-distilled LoRA on top: few steps, CFG 1."""
    read_me = note(graph, "6 steps", notes.FAST, high=800)
    stages, loaders, lora = released_start(graph)
    distilled = add_lora(graph, (lora, "model"), DISTILLED, title="EgoX LoRA: step-distilled", models=DISTILLED_LINK)
    _, row = sampled(graph, stages, loaders, distilled, prefix="egox_fast", steps=6, cfg=1.0, sampler="euler",
                     scheduler="simple", shift=5.0)
    return [[Block("", [[read_me]]), *geometry_blocks(stages)],
            [Block("Weights, two LoRAs, prompt",
                   [loaders.column, [lora, distilled, *loaders.texts]]), *row]]


def egox_compare_lambda(graph: Graph) -> Rows:
    """λ_g and LoRA strength against each other, by the host's own list execution."""
    read_me = note(graph, "λ_g and LoRA strength", notes.LAMBDA, high=420)
    stages = geometry(graph)
    loaders = real_loaders(graph, stages["pose"])
    sweep = graph.add("EgoXSweep", 360, 260, lambda_g="0, 1, 3", strength="0.5, 1")
    lora = add_lora(graph, (loaders.unet, "MODEL"), strength=(sweep, "strength"))
    # Before the LoRA: behind it the host would encode the videos once for every strength.
    conditioning = add_conditioning(graph, stages, loaders, (loaders.unet, "MODEL"))
    sampler = add_sampler(graph, stages, conditioning, (lora, "model"), steps=20, cfg=5.0,
                          lambda_g=(sweep, "λ_g"))
    decode = add_decode(graph, stages, loaders, sampler, 360)
    grid = graph.add("EgoXLabelledGrid", 360, videos=(decode, "ego"), labels=(sweep, "label"),
                     columns=(sweep, "columns"), cell_height=256)
    saved = save(graph, stages, (grid, "grid"), "egox_compare_lambda", "grid", wide=760, high=620)
    return [[Block("", [[read_me]]), *geometry_blocks(stages)],
            [Block("Weights, prompt", [loaders.column, [*loaders.texts]]),
             Block("The sweep", [[sweep, lora]], STUDY_COLOR),
             Block("5  Conditioning, sampling", [[conditioning], [sampler]]),
             Block("6  Every pair beside the others", [[decode, grid], saved], STUDY_COLOR)]]


def egox_compare_baselines(graph: Graph) -> Rows:
    """EgoX, the host's VACE and Fun Control on one prior, and the prior itself."""
    read_me = note(graph, "The same prior, four ways", notes.BASELINES, high=560)
    stages, loaders, lora = released_start(graph)
    conditioning = add_conditioning(graph, stages, loaders, (lora, "model"))
    sampler = add_sampler(graph, stages, conditioning, (lora, "model"), steps=50, cfg=5.0)
    decode = add_decode(graph, stages, loaders, sampler, 360)
    prior, exo = (stages["prior"], "prior"), (stages["load"], "exo_images")
    size = graph.add("GetImageSize", 300, image=prior, title="Size of the prior")
    sized = {"width": (size, "width"), "height": (size, "height"), "length": (size, "batch_size")}
    texts = baseline_texts(graph, loaders, stages["pose"])
    vace, vace_column = baseline_loader(graph, "wan2.1_vace_14B_fp16.safetensors")
    holes = graph.add("InvertMask", 300, mask=(stages["prior"], "coverage"), title="The prior's holes")
    to_vace = graph.add("WanVaceToVideo", 340, vae=(loaders.vae, "VAE"), control_video=prior, reference_image=exo,
                        control_masks=(holes, "MASK"), **texts, **sized)
    vace_run = baseline_sampler(graph, vace, to_vace)
    trim = graph.add("TrimVideoLatent", 300, samples=(vace_run, "LATENT"), trim_amount=(to_vace, "trim_latent"))
    vace_video = graph.add("VAEDecode", 300, samples=(trim, "LATENT"), vae=(loaders.vae, "VAE"))
    fun, fun_column = baseline_loader(graph, "wan2.1_fun_control_1.3B_bf16.safetensors")
    seen = graph.add("ImageFromBatch", 300, image=exo, title="First exo frame")
    vision = graph.add("CLIPVisionEncode", 300, clip_vision=(loaders.vision, "CLIP_VISION"), image=(seen, "IMAGE"),
                       crop="center")
    to_fun = graph.add("WanFunControlToVideo", 340, vae=(loaders.vae, "VAE"), control_video=prior,
                       clip_vision_output=(vision, "CLIP_VISION_OUTPUT"), **texts, **sized)
    fun_run = baseline_sampler(graph, fun, to_fun)
    fun_video = graph.add("VAEDecode", 300, samples=(fun_run, "LATENT"), vae=(loaders.vae, "VAE"))
    gathered = graph.add("CreateList", 300, title="The four videos", **{
        "inputs.input0": prior, "inputs.input1": (decode, "ego"), "inputs.input2": (vace_video, "IMAGE"),
        "inputs.input3": (fun_video, "IMAGE")})
    grid = graph.add("EgoXLabelledGrid", 360, videos=(gathered, "list"), columns=2,
                     labels="Prior only\nEgoX\nWan VACE\nWan Fun Control")
    saved = save(graph, stages, (grid, "grid"), "egox_compare_baselines", "grid", wide=560, high=640)
    return [[Block("", [[read_me]]), *geometry_blocks(stages)],
            [Block("Weights, LoRA, prompt", [loaders.column, [lora, *loaders.texts]]),
             Block("EgoX", [[conditioning], [sampler], [decode]])],
            [Block("Wan VACE, Fun Control: prompt", [[node for node, _ in texts.values()]], VACE_COLOR),
             Block("Wan VACE", [[*vace_column, size, holes], [to_vace], [vace_run], [trim, vace_video]], VACE_COLOR),
             Block("Wan Fun Control", [[*fun_column, seen, vision], [to_fun], [fun_run], [fun_video]], STUDY_COLOR),
             Block("Beside each other", [[gathered, grid], saved])]]


def egox_attention(graph: Graph) -> Rows:
    """What an ego pixel looks at in the exo video, with geometry and without."""
    read_me = note(graph, "What does it look at?", notes.ATTENTION, high=520)
    stages, loaders, lora = released_start(graph)
    capture = graph.add("EgoXAttentionCapture", 360, model=(lora, "model"))
    conditioning = add_conditioning(graph, stages, loaders, (lora, "model"))
    sampler = add_sampler(graph, stages, conditioning, (capture, "model"), steps=20, cfg=5.0)
    decode = add_decode(graph, stages, loaders, sampler, 380, 420)
    view = graph.add("EgoXAttentionView", 560, 760, attention=(capture, "attention"),
                     exo_images=(stages["load"], "exo_images"), ego_images=(decode, "ego"))
    saved = save(graph, stages, (view, "view"), "egox_attention", "view")
    return [[Block("", [[read_me]]), *geometry_blocks(stages)],
            [Block("Weights, LoRA, prompt", [loaders.column, [lora, *loaders.texts]]),
             Block("5  Conditioning, sampling", [[conditioning, capture], [sampler]]),
             Block("6  Ego video", [[decode]]),
             Block("Where an ego pixel looks", [[view], saved], STUDY_COLOR)]]


def baseline_loader(graph: Graph, name: str) -> tuple[tuple[Node, str], list[Node]]:
    """A transformer of the host's own kinds, with the flow shift of its template."""
    unet = graph.add("UNETLoader", 360, unet_name=name, models=model_link(name, "diffusion_models"))
    shifted = graph.add("ModelSamplingSD3", 360, model=(unet, "MODEL"), shift=8.0)
    return (shifted, "MODEL"), [unet, shifted]


def baseline_texts(graph: Graph, loaders: Loaders, pose: Node) -> dict[str, tuple[Node, str]]:
    """The take's prompt and the usual negative one through the host's encoder, as its templates have them."""
    positive = graph.add("CLIPTextEncode", 360, 120, title="Prompt", clip=(loaders.clip, "CLIP"), text=(pose, "prompt"))
    negative = graph.add("CLIPTextEncode", 360, 160, title="Negative prompt", clip=(loaders.clip, "CLIP"),
                         text=BASELINE_NEGATIVE)
    return {"positive": (positive, "CONDITIONING"), "negative": (negative, "CONDITIONING")}


def baseline_sampler(graph: Graph, model: tuple[Node, str], prepared: Node, **values: Any) -> Node:
    sources = {"positive": (prepared, "positive"), "negative": (prepared, "negative"),
             "latent_image": (prepared, "latent")}
    return graph.add("KSampler", 340, model=model, seed=1234, steps=20, cfg=6.0, sampler_name="uni_pc",
                     scheduler="simple", **sources, **values)


SPECS: dict[str, Callable[[Graph], Rows]] = {
    "egox_demo": egox_demo,
    "egox_basic": egox_basic,
    "egox_from_any_video": egox_from_any_video,
    "egox_low_vram": egox_low_vram,
    "egox_fast": egox_fast,
    "egox_compare_lambda": egox_compare_lambda,
    "egox_compare_baselines": egox_compare_baselines,
    "egox_attention": egox_attention,
}
