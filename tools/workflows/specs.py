"""The shipped workflows, described. What they have in common stands in ``parts``, what they say in
``notes``.

Each returns where its nodes stand. Those of ``CARDS`` are templates of the host's page, the others
are below."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from egox_core.file_names import EXO
from egox_core.video.reader import video_mark

from . import notes as notes
from .graph import Graph, Node, Subgraph
from .layout import Block
from .one_video import egox_one_video
from .parts import (
    BASELINE_NEGATIVE,
    CALM_VIDEO,
    DISTILLED,
    DISTILLED_LINK,
    FOUR_TAKES,
    SAMPLE_VIDEO,
    STUDY_COLOR,
    TEXT,
    VACE_COLOR,
    VAE,
    VISION,
    EgoX,
    Page,
    Source,
    Stages,
    close,
    decode_inside,
    depth_models,
    egox,
    finished,
    geometry,
    model_link,
    note,
    place_egox,
    promote,
    sampled_long,
    save,
    scene_and_prior,
)

DEMO = json.loads(
    (Path(__file__).parents[2] / "models/demo/stages/demo.json").read_text(encoding="utf-8")
)
"""Sizes and sampling of the small model that ships."""
# The sample's own path at its first, middle and last frame, for a graph whose poses are set by
# hand.
SAMPLE_MARK = json.dumps(video_mark(Path(__file__).resolve().parents[2] / SAMPLE_VIDEO))
SAMPLE_KEYFRAMES = """{"made_on": MARK, "up": [0, 0, 1], "interpolation": "spline", "keyframes": [
  {"frame": 0, "position": [0.191, -0.085, 1.200], "look_at": [0.808, -0.593, 0.599]},
  {"frame": 24, "position": [0.196, -0.093, 1.224], "look_at": [0.895, -0.593, 0.713]},
  {"frame": 48, "position": [0.182, -0.135, 1.220], "look_at": [0.649, -0.906, 0.786]}
]}""".replace("MARK", SAMPLE_MARK)
# In the form of the captions that the authors trained with.
SAMPLE_EXO = (
    "**Scene Overview:** A computer-drawn room with light blue walls and a grey floor. A person in a green shirt sits "
    "at a brown table. On the table: books, a ball, mugs and a plate. **Action Analysis:** The person holds blocks and "
    "moves both hands over the table, lifting and putting down what they hold, while the head follows the hands. The "
    "camera and everything else stay still."
)
SAMPLE_EGO = (
    "**Scene Overview:** From the person's eyes the view goes down over the brown table with books, a ball, mugs and a "
    "plate on it, towards light blue walls and a grey floor. Both forearms in green sleeves reach in from below. "
    "**Action Analysis:** The hands move blocks from place to place over the table; the view sways gently with the "
    "head."
)


def egox_demo(graph: Graph) -> Page:
    """Everything from this pack: the small model at its own size, conditioning from a stock node
    that needs no file."""
    read_me = note(graph, "Read me", notes.DEMO)
    stages = small_geometry(graph, CALM_VIDEO)
    stage = small_egox(graph)
    promote(stage)
    return finished(graph, read_me, stages, stage, "egox_demo")


def small_clip() -> dict[str, int]:
    """Values of *Load Exo Video* for the small model."""
    return {"width": DEMO["width"], "height": DEMO["height"], "frame_count": DEMO["frames"]}


def small_geometry(graph: Graph, video: str, **options: Any) -> Stages:
    """Stages 1 to 4 as the small model was trained on them."""
    depth = {"preset": DEMO["preset"]}
    return geometry(graph, video, depth=depth, **options, **small_clip())


def small_egox(graph: Graph) -> EgoX:
    """Stage 5 with the weights that come with the pack."""
    return egox(
        graph,
        small={
            "unet": "egox_demo_wan22_i2v.safetensors",
            "vae": "egox_demo_vae.safetensors",
            "lora": "egox_demo_lora.safetensors",
        },
        steps=DEMO["steps"],
        cfg=1.0,
        rays="auto",
        shift=DEMO["shift"],
    )


def with_weights(graph: Graph, page: Page, text: str) -> Page:
    """With a note on the files that have to be there."""
    return replace(page, weights=note(graph, "Weights", text))


def egox_basic(graph: Graph) -> Page:
    """The real weights through the stock loaders, and bypassed depth models and SAM3 for one's own
    video."""
    read_me = note(graph, "Read me", notes.BASIC)
    stages = geometry(graph)
    depth_models(stages, bypassed=True)
    own = note(stages.inside, "For your own video", notes.DEPTH, 420, 360)
    stages.inside.rows[0].insert(0, Block("", [[own]]))
    stage = egox(graph, steps=50, cfg=5.0)
    promote(stage)
    stage.inside.promote(
        stage.sampler, "recompute_exo", label="Recompute exo every … steps (above 1: 7.5 GB)"
    )
    return with_weights(
        graph, finished(graph, read_me, stages, stage, "egox_basic"), notes.BASIC_WEIGHTS
    )


def egox_from_any_video(graph: Graph) -> Page:
    """Nothing but a video: depth and motion from the host's models, the head placed by hand."""
    read_me = note(graph, "Any video of your own", notes.ANY_VIDEO)
    stages = geometry(
        graph,
        depth={"preset": "released_wild"},
        pose={"source": "keyframes", "keyframes": SAMPLE_KEYFRAMES},
        in_hand=True,
    )
    depth_models(stages)
    limits = note(stages.inside, "Good to know", notes.ANY_VIDEO_LIMITS, 420, 420)
    stages.inside.rows[0].insert(0, Block("", [[limits]]))
    stage = egox(graph, steps=50, cfg=5.0)
    words = stage.inside.add(
        "EgoXPrompt",
        360,
        360,
        exo_view=SAMPLE_EXO,
        ego_view=SAMPLE_EGO,
        prompt=stage.texts[0].sources["prompt"],
    )
    stage.texts[0].sources["prompt"] = (words, "positive")
    stage.beside.append(words)
    stage.inside.promote(words, "exo_view", label="What the exo camera sees")
    stage.inside.promote(words, "ego_view", label="What the person sees")
    promote(stage, weights=False)
    page = finished(graph, read_me, stages, stage, "egox_from_any_video")
    return with_weights(graph, page, notes.ANY_VIDEO_WEIGHTS)


def egox_long(graph: Graph) -> Page:
    """Seconds instead of a blink: chunk after chunk."""
    read_me = note(graph, "Seconds, not 49 frames", notes.LONG)
    stages = geometry(graph, in_hand=True)
    stage = egox(graph, long=True, steps=50, cfg=5.0)
    promote(stage, tuned=False)  # LoRA strength would be a form's twelfth row
    for widget, label in (
        ("lambda_g", "λ_g (3 as trained)"),
        ("look_away_memory", "Remember places"),
    ):
        stage.inside.promote(stage.sampler, widget, label=label)
    return sampled_long(graph, read_me, stages, stage, "egox_long")


def egox_fast(graph: Graph) -> Page:
    """A step-distilled LoRA on top: few steps, CFG 1; and a switch for cards with little memory."""
    read_me = note(graph, "6 steps", notes.FAST)
    stages = geometry(graph)
    stage = egox(graph, steps=6, cfg=1.0, sampler="euler", scheduler="simple", shift=5.0)
    inside = stage.inside
    distilled = inside.add(
        "EgoXLoadLora",
        360,
        title="EgoX LoRA: step-distilled",
        model=(stage.lora, "model"),
        lora_name=DISTILLED,
        models=DISTILLED_LINK,
    )
    for node in (stage.conditioning, stage.sampler):
        node.sources["model"] = (distilled, "model")
    stage.beside.append(distilled)
    promote(stage)
    inside.promote(stage.conditioning, "low_memory", label="Little memory")
    low = note(inside, "Little memory", notes.LOW_VRAM, 420, 620)
    gguf = note(inside, "GGUF", notes.GGUF, 420, 300)
    page = finished(graph, read_me, stages, stage, "egox_fast")
    inside.rows[0].insert(0, Block("", [[low, gguf]]))
    return with_weights(graph, page, notes.FAST_WEIGHTS)


def egox_compare(graph: Graph) -> Page:
    """λ_g and LoRA strength against each other, by the host's own list execution."""
    read_me = note(graph, "λ_g and LoRA strength", notes.LAMBDA)
    stages = geometry(graph)
    stage = egox(graph, steps=20, cfg=5.0)
    inside = stage.inside
    sweep = inside.add("EgoXSweep", 360, 260, lambda_g="0, 1, 3", strength="0.5, 1")
    stage.lora.sources["strength"] = (sweep, "strength")
    stage.sampler.sources["lambda_g"] = (sweep, "λ_g")
    # Before the LoRA: behind it the host would encode the videos once for every strength.
    stage.conditioning.sources["model"] = (stage.unet, "MODEL")
    stage.beside.append(sweep)
    inside.promote(sweep, "lambda_g", label="Values of λ_g")
    inside.promote(sweep, "strength", label="LoRA strengths")
    promote(stage, tuned=False)
    for name, source in {
        "latent": (stage.sampler, "latent"),
        "vae": (stage.vae, "VAE"),
        "label": (sweep, "label"),
        "columns": (sweep, "columns"),
    }.items():
        inside.give(name, source)
    run = place_egox(graph, stages, stage)
    pairs = every_pair(graph)
    outer = graph.add_subgraph(
        pairs,
        400,
        fps=(stages.load, "fps"),
        **{name: (run, name) for name in ("latent", "vae", "label", "columns")},
    )
    saved = save(graph, (outer, "video"), "egox_compare", "grid")
    return Page(read_me, stages, run, [outer], [saved], "6  Every pair", color=STUDY_COLOR)


def every_pair(graph: Graph) -> Subgraph:
    """The runs of a sweep, decoded and put beside each other."""
    inside = graph.subgraph(
        "Every pair", "The runs of EgoX Sweep, decoded and put beside each other as one video."
    )
    fps = inside.take("fps", "FLOAT")
    decode = inside.add(
        "EgoXDecodeEgoHalf",
        360,
        latent=inside.take("latent", "LATENT"),
        vae=inside.take("vae", "VAE"),
    )
    grid = inside.add(
        "EgoXLabelledGrid",
        360,
        videos=(decode, "ego"),
        labels=inside.take("label", "STRING"),
        columns=inside.take("columns", "INT"),
        fps=fps,
        cell_height=256,
    )
    inside.promote(grid, "cell_height", label="Height of a picture, px")
    inside.give("video", (grid, "video"))
    inside.rows = [
        [Block("6  Ego videos", [[decode]]), Block("Beside each other", [[grid]], STUDY_COLOR)]
    ]
    return inside


def egox_compare_baselines(graph: Graph) -> Page:
    """EgoX, the host's VACE and Fun Control on one prior, and the prior itself."""
    read_me = note(graph, "The same prior, four ways", notes.BASELINES)
    stages = geometry(graph)
    stages.inside.give("coverage", (stages.prior, "coverage"))
    stages.scene_and_prior.info = stages.inside.info()
    stage = egox(graph, steps=50, cfg=5.0)
    promote(stage)
    decode_inside(stage)
    stage.inside.give("prompt", (stage.texts[0], "prompt"))
    run = place_egox(graph, stages, stage)
    others = baselines(graph)
    outer = graph.add_subgraph(
        others,
        400,
        exo_images=(stages.load, "exo_images"),
        prior=(stages.scene_and_prior, "prior"),
        coverage=(stages.scene_and_prior, "coverage"),
        **{name: (run, name) for name in ("ego", "prompt", "fps")},
    )
    saved = save(graph, (outer, "video"), "egox_compare_baselines", "grid")
    page = Page(read_me, stages, run, [outer, saved], [], "6  Beside each other", color=STUDY_COLOR)
    return with_weights(graph, page, notes.BASELINES_WEIGHTS)


def baselines(graph: Graph) -> Subgraph:
    """VACE and Fun Control on the prior, and all four beside each other; the text encoder is loaded
    once more."""
    inside = graph.subgraph(
        "Wan VACE and Fun Control",
        "The host's own ways to condition a video on the same prior, "
        "beside EgoX and the prior itself.",
    )
    exo, prior = inside.take("exo_images", "IMAGE"), inside.take("prior", "IMAGE")
    coverage, ego = inside.take("coverage", "MASK"), inside.take("ego", "IMAGE")
    prompt, fps = inside.take("prompt", "STRING"), inside.take("fps", "FLOAT")
    clip, vae, vision = (
        inside.add(kind, 360, **values, models=model_link(next(iter(values.values())), folder))
        for kind, folder, values in (
            ("CLIPLoader", "text_encoders", {"clip_name": TEXT, "type": "wan"}),
            ("VAELoader", "vae", {"vae_name": VAE}),
            ("CLIPVisionLoader", "clip_vision", {"clip_name": VISION}),
        )
    )
    size = inside.add("GetImageSize", 300, image=prior, title="Size of the prior")
    sized = {"width": (size, "width"), "height": (size, "height"), "length": (size, "batch_size")}
    positive = inside.add(
        "CLIPTextEncode", 360, 120, title="Prompt", clip=(clip, "CLIP"), text=prompt
    )
    negative = inside.add(
        "CLIPTextEncode",
        360,
        160,
        title="Negative prompt",
        clip=(clip, "CLIP"),
        text=BASELINE_NEGATIVE,
    )
    texts = {"positive": (positive, "CONDITIONING"), "negative": (negative, "CONDITIONING")}
    vace, vace_column = baseline_loader(inside, "wan2.1_vace_14B_fp16.safetensors")
    holes = inside.add("InvertMask", 300, mask=coverage, title="The prior's holes")
    to_vace = inside.add(
        "WanVaceToVideo",
        340,
        vae=(vae, "VAE"),
        control_video=prior,
        reference_image=exo,
        control_masks=(holes, "MASK"),
        **texts,
        **sized,
    )
    vace_run = baseline_sampler(inside, vace, to_vace)
    trim = inside.add(
        "TrimVideoLatent", 300, samples=(vace_run, "LATENT"), trim_amount=(to_vace, "trim_latent")
    )
    vace_video = inside.add("VAEDecode", 300, samples=(trim, "LATENT"), vae=(vae, "VAE"))
    fun, fun_column = baseline_loader(inside, "wan2.1_fun_control_1.3B_bf16.safetensors")
    seen = inside.add("ImageFromBatch", 300, image=exo, title="First exo frame")
    embedded = inside.add(
        "CLIPVisionEncode",
        300,
        clip_vision=(vision, "CLIP_VISION"),
        image=(seen, "IMAGE"),
        crop="center",
    )
    to_fun = inside.add(
        "WanFunControlToVideo",
        340,
        vae=(vae, "VAE"),
        control_video=prior,
        clip_vision_output=(embedded, "CLIP_VISION_OUTPUT"),
        **texts,
        **sized,
    )
    fun_run = baseline_sampler(inside, fun, to_fun)
    fun_video = inside.add("VAEDecode", 300, samples=(fun_run, "LATENT"), vae=(vae, "VAE"))
    gathered = inside.add(
        "CreateList",
        300,
        title="The four videos",
        **{
            "inputs.input0": prior,
            "inputs.input1": ego,
            "inputs.input2": (vace_video, "IMAGE"),
            "inputs.input3": (fun_video, "IMAGE"),
        },
    )
    grid = inside.add(
        "EgoXLabelledGrid",
        360,
        videos=(gathered, "list"),
        columns=2,
        fps=fps,
        labels="Prior only\nEgoX\nWan VACE\nWan Fun Control",
    )
    inside.give("video", (grid, "video"))
    inside.rows = [
        [
            Block("Weights, prompt", [[clip, vae, vision, size], [positive, negative]], VACE_COLOR),
            Block(
                "Wan VACE",
                [[*vace_column, holes], [to_vace], [vace_run], [trim, vace_video]],
                VACE_COLOR,
            ),
        ],
        [
            Block(
                "Wan Fun Control",
                [[*fun_column, seen, embedded], [to_fun], [fun_run], [fun_video]],
                STUDY_COLOR,
            ),
            Block("Beside each other", [[gathered, grid]], STUDY_COLOR),
        ],
    ]
    return inside


def baseline_loader(graph: Graph, name: str) -> tuple[Source, list[Node]]:
    """A transformer of the host's own kinds, with the flow shift of its template."""
    unet = graph.add("UNETLoader", 360, unet_name=name, models=model_link(name, "diffusion_models"))
    shifted = graph.add("ModelSamplingSD3", 360, model=(unet, "MODEL"), shift=8.0)
    return (shifted, "MODEL"), [unet, shifted]


def baseline_sampler(graph: Graph, model: Source, prepared: Node, **values: Any) -> Node:
    sources = {
        "positive": (prepared, "positive"),
        "negative": (prepared, "negative"),
        "latent_image": (prepared, "latent"),
    }
    return graph.add(
        "KSampler",
        340,
        model=model,
        seed=1234,
        steps=20,
        cfg=6.0,
        sampler_name="uni_pc",
        scheduler="simple",
        **sources,
        **values,
    )


def egox_attention(graph: Graph) -> Page:
    """Attention of an ego pixel to the exo video, with geometry and without."""
    read_me = note(graph, "What does it look at?", notes.ATTENTION)
    stages = geometry(graph)
    stage = egox(graph, steps=20, cfg=5.0)
    inside = stage.inside
    capture = inside.add("EgoXAttentionCapture", 360, model=(stage.lora, "model"))
    stage.sampler.sources["model"] = (capture, "model")
    stage.beside.append(capture)
    promote(stage)
    decode_inside(stage)
    inside.give("attention", (capture, "attention"))
    run = place_egox(graph, stages, stage)
    view = graph.add(
        "EgoXAttentionView",
        400,
        520,
        attention=(run, "attention"),
        exo_images=(stages.load, "exo_images"),
        ego_images=(run, "ego"),
    )
    keep = graph.subgraph("Save view", "The pictures of EgoX Attention View as a video file.")
    video = keep.add(
        "CreateVideo", 320, images=keep.take("images", "IMAGE"), fps=keep.take("fps", "FLOAT")
    )
    saved = keep.add(
        "SaveVideo",
        320,
        title="Save view",
        video=(video, "VIDEO"),
        format="mp4",
        codec="h264",
        filename_prefix="egox_attention/view",
    )
    keep.promote(saved, "filename_prefix", label="File")
    keep.rows = [[Block("Save view", [[video, saved]])]]
    outer = graph.add_subgraph(keep, 400, images=(view, "view"), fps=(run, "fps"))
    return Page(
        read_me, stages, run, [view], [outer], "6  Where an ego pixel looks", 1, STUDY_COLOR
    )


def egox_several_cameras(graph: Graph) -> Page:
    """Two exo cameras and four of one moment, by the small model."""
    read_me = note(graph, "Several cameras", notes.SEVERAL)
    stages = small_geometry(graph, f"{FOUR_TAKES[0]}/{EXO}", of_a_take=True)
    further = graph.add_subgraph(further_cameras(graph), 360)
    inside = stages.inside
    inside.title = stages.scene_and_prior.title = "Scenes and priors"
    scenes: dict[str, Source] = {"scene_1": (stages.scene, "scene")}
    for name in ("scene_2", "scene_3", "scene_4"):
        stages.scene_and_prior.sources[name] = (further, name)
        scenes[name] = inside.take(name, "EGOX_SCENE")
    two = {name: scenes[name] for name in ("scene_1", "scene_2")}
    of_two, of_four = (
        inside.add("EgoXFuseScenes", 340, title=f"Fuse Scenes: {word}", **joined)
        for word, joined in (("two", two), ("four", scenes))
    )
    seen = stages.prior.sources | stages.prior.values
    priors = {"one": scenes["scene_1"], "two": (of_two, "scene")}
    nodes = {
        word: inside.add(
            "EgoXRenderEgoPrior", 380, title=f"Ego prior: {word}", **seen | {"scene": scene}
        )
        for word, scene in priors.items()
    }
    stages.prior.sources["scene"] = inside.given["scene"] = (of_four, "scene")
    for word, node in nodes.items():
        inside.give(f"prior_of_{word}", (node, "prior"))
    inside.rows.append(
        [Block("Two cameras, four", [[of_two, of_four], *([n] for n in nodes.values())])]
    )
    stages.scene_and_prior.info = inside.info()
    stage = small_egox(graph)
    promote(stage)
    decode_inside(stage)
    run = place_egox(graph, stages, stage)
    outer = graph.add_subgraph(
        beside_each_other(graph),
        400,
        prior=(stages.scene_and_prior, "prior"),
        **{f"prior_of_{word}": (stages.scene_and_prior, f"prior_of_{word}") for word in nodes},
        **{name: (run, name) for name in ("ego", "fps")},
    )
    saved = save(graph, (outer, "video"), "egox_several_cameras", "grid")
    return Page(
        read_me,
        stages,
        run,
        [outer, saved],
        [],
        "6  Beside each other",
        color=STUDY_COLOR,
        above=(further,),
        above_title="1, 2  Further cameras",
    )


def further_cameras(graph: Graph) -> Subgraph:
    """The scenes of three more exo cameras of the same moment."""
    inside = graph.subgraph(
        "Further cameras",
        "Video, depth and points of three more exo cameras, whose clips show the same moment and "
        "whose poses share the first one's world.",
    )
    rank = inside.add("EgoXRankExoCameras", 380, 166, takes="\n".join(FOUR_TAKES))
    inside.rows.append([Block("Which one first?", [[rank]], STUDY_COLOR)])
    for number, take in enumerate(FOUR_TAKES[1:], start=2):
        load = inside.add("EgoXLoadExoVideo", 360, 300, file=f"{take}/{EXO}", **small_clip())
        depth = inside.add("EgoXDepthAlign", 380, frames=(load, "frames"))
        scene = inside.add(
            "EgoXBuildScene", 340, exo_images=(load, "exo_images"), depth=(depth, "depth")
        )
        inside.give(f"scene_{number}", (scene, "scene"))
        inside.rows.append([Block(f"Camera {number}", [[load], [depth], [scene]])])
    return inside


def beside_each_other(graph: Graph) -> Subgraph:
    """The priors of one camera, two and four, and the ego video, as one video."""
    inside = graph.subgraph(
        "Beside each other", "What one exo camera shows, two and four, and the ego video of four."
    )
    names = ("prior_of_one", "prior_of_two", "prior", "ego")
    videos = [inside.take(name, "IMAGE") for name in names]
    gathered = inside.add(
        "CreateList",
        300,
        title="The four videos",
        **{f"inputs.input{place}": video for place, video in enumerate(videos)},
    )
    grid = inside.add(
        "EgoXLabelledGrid",
        360,
        videos=(gathered, "list"),
        columns=2,
        fps=inside.take("fps", "FLOAT"),
        labels="Prior of one camera\nPrior of two\nPrior of four\nEgo video",
    )
    inside.give("video", (grid, "video"))
    inside.rows = [[Block("Beside each other", [[gathered], [grid]], STUDY_COLOR)]]
    return inside


CARDS: dict[str, Callable[[Graph], Page]] = {
    "egox_demo": egox_demo,
    "egox_one_video": egox_one_video,
    "egox_basic": egox_basic,
    "egox_fast": egox_fast,
    "egox_compare": egox_compare,
}
"""At most five: ``workflows/NAME.json``, a card under the host's templates each."""
MORE: dict[str, Callable[[Graph], Page]] = {
    "egox_long": egox_long,
    "egox_from_any_video": egox_from_any_video,
    "egox_compare_baselines": egox_compare_baselines,
    "egox_attention": egox_attention,
    "egox_several_cameras": egox_several_cameras,
}
"""``workflows/more/NAME.json``, for the file menu."""
SPECS = CARDS | MORE


def blueprint_scene_and_prior(graph: Graph) -> Subgraph:
    """As in the workflows, with sockets for what another graph has."""
    inside, nodes = scene_and_prior(graph)
    for name, kind in (
        ("dynamic_mask", "MASK"),
        ("depth_image", "IMAGE"),
        ("moge_geometry", "MOGE_GEOMETRY"),
        ("da3_geometry", "DA3_GEOMETRY"),
    ):
        nodes["depth"].sources[name] = inside.take(name, kind)
    return inside


def blueprint_egox(graph: Graph) -> Subgraph:
    """As in egox_basic."""
    stage = egox(graph, steps=50, cfg=5.0)
    promote(stage)
    stage.inside.give("latent", (stage.sampler, "latent"))
    stage.inside.give("vae", (stage.vae, "VAE"))
    close(stage)
    return stage.inside


BLUEPRINTS: dict[str, Callable[[Graph], Subgraph]] = {
    "EgoX Scene and prior": blueprint_scene_and_prior,
    "EgoX": blueprint_egox,
}
"""``subgraphs/NAME.json``, in the host's node library."""
