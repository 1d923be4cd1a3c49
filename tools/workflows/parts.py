"""Parts that several shipped workflows have in common: the subgraphs of the stages, weights,
saving, their places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from egox_core.file_names import EXO
from egox_core.wan.lora_keys import RELEASED_FILE

from .graph import Graph, Node, Subgraph
from .layout import GROUP_TITLE, NODE_GAP, PAD, Block, Frame
from .notes import HUB, KIJAI, LORA_URL, WAN

SAMPLE_VIDEO = f"sample/synthetic_room/{EXO}"
CALM_VIDEO = f"sample/calm_room/{EXO}"
FOUR_TAKES = tuple(f"sample/four_cameras/exo{number}" for number in (1, 2, 3, 4))
UNET, VAE = "wan2.1_i2v_480p_14B_fp8_scaled.safetensors", "wan_2.1_vae.safetensors"
TEXT, VISION = "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "clip_vision_h.safetensors"
LANGUAGE = "qwen3vl_4b_fp8_scaled.safetensors"
LORA = RELEASED_FILE
BASELINE_NEGATIVE = (
    "blurry, low quality, overexposed, static, distorted hands, extra fingers, deformed, watermark, subtitles, "
    "third-person view"
)
DISTILLED = "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors"
DISTILLED_LINK = [{"name": DISTILLED, "url": f"{KIJAI}/Lightx2v/{DISTILLED}", "directory": "loras"}]
LORA_LINK = [{"name": LORA, "url": LORA_URL, "directory": "loras"}]
DEPTH_COLOR, STUDY_COLOR, VACE_COLOR = "#7a7ad0", "#4f9f5f", "#c06060"

WIDE = 360
AUDIO_SLOT = 6
"""Of Decode Ego Half."""
SLOT = 20
"""Height of a row of sockets."""
TITLE_AND_BADGE = 54
RISE = 3
"""Sockets by which a link of *Load Exo Video*'s first output may rise on its way to the last column
without running behind *Scene and prior*; those below it may rise by one more."""
VALUES = "_lambda%EgoX.lambda_g%_seed%EgoX.seed%"
"""λ_g and seed of the node *EgoX*, as the page writes them into a file's name."""
NOTE_HIGH = 130
"""Of notes under the last column."""
GAP = 88
"""From column to column: two frames' edges and room for the links."""

Source = tuple[Node, str]


def model_link(name: str, folder: str, place: str = WAN) -> list[dict[str, str]]:
    """Link with which the editor offers a missing model for download."""
    return [{"name": name, "url": f"{place}/{folder}/{name}", "directory": folder}]


def hub_link(name: str, folder: str, repository: str) -> list[dict[str, str]]:
    return model_link(name, folder, f"{HUB}/{repository}/resolve/main")


def note(graph: Graph, title: str, text: str, wide: int = WIDE, high: int = 360) -> Node:
    return graph.add("MarkdownNote", wide, high, title=title, text=text)


@dataclass
class Stages:
    """Stages 1 to 4 on the canvas, and what stands in *Scene and prior*."""

    load: Node
    scene_and_prior: Node
    pose: Node
    inside: Subgraph
    depth: Node
    scene: Node
    prior: Node


def scene_and_prior(
    graph: Graph, *, of_a_take: bool = False, in_hand: bool = False
) -> tuple[Subgraph, dict[str, Node]]:
    """Stages 2 and 4 as a subgraph, and its nodes; a take's files say lens and what moves.
    ``in_hand``: the exo camera may be carried."""
    inside = graph.subgraph(
        "Scene and prior",
        "Depth in metres, the scene's points, and what the ego camera sees of "
        "them: connect the trajectory of Ego Pose Input.",
    )
    frames, exo = inside.take("frames", "EGOX_FRAMES"), inside.take("exo_images", "IMAGE")
    trajectory = inside.take("trajectory", "EGOX_TRAJECTORY")
    depth = inside.add("EgoXDepthAlign", 380, frames=frames)
    posed = [depth]
    if in_hand:
        posed += [inside.add("EgoXExoMotion", 380, 420, exo_images=exo, depth=(depth, "depth"))]
    placed = (posed[-1], "depth")
    scene = inside.add("EgoXBuildScene", 340, exo_images=exo, depth=placed)
    prior = inside.add(
        "EgoXRenderEgoPrior",
        380,
        420,
        trajectory=trajectory,
        scene=(scene, "scene"),
        exo_images=exo,
        depth=placed,
        preset=(depth, "preset"),
    )
    inside.promote(depth, "preset", label="How the prior is drawn")
    if not of_a_take:
        inside.promote(depth, "exo_fov", label="Field of view (0: known)")
        inside.promote(scene, "moving", label="What moves")
    inside.give("scene", (scene, "scene"))
    inside.give("depth", placed)
    inside.give("prior", (prior, "prior"))
    inside.promote_player(prior, "Ego prior")
    inside.rows = [[Block("2  Depth", [posed]), Block("4  Scene, ego prior", [[scene], [prior]])]]
    return inside, {"depth": depth, "scene": scene, "prior": prior}


def geometry(
    graph: Graph,
    video: str = SAMPLE_VIDEO,
    *,
    depth: dict[str, Any] | None = None,
    pose: dict[str, Any] | None = None,
    of_a_take: bool = False,
    in_hand: bool = False,
    **load: Any,
) -> Stages:
    """Stages 1 to 4; ``depth`` and ``pose`` are values of those nodes."""
    loaded = graph.add("EgoXLoadExoVideo", WIDE, 300, file=video, **load)
    inside, nodes = scene_and_prior(graph, of_a_take=of_a_take, in_hand=in_hand)
    # Depth and poses are not named: they are found beside the video, so that choosing another video
    # is one step, and a video without them is refused instead of being run with the sample's.
    nodes["depth"].values.update(depth or {})
    exo, frames = (loaded, "exo_images"), (loaded, "frames")
    outer = graph.add_subgraph(inside, 400, frames=frames, exo_images=exo)
    posed = graph.add(
        "EgoXEgoPoseInput",
        400,
        frames=frames,
        scene=(outer, "scene"),
        exo_images=exo,
        **(pose or {}),
    )
    outer.sources["trajectory"] = (posed, "trajectory")
    return Stages(loaded, outer, posed, inside, **nodes)


def depth_models(stages: Stages, *, masks: bool = True, bypassed: bool = False) -> None:
    """The host's depth models on the exo frames, in *Scene and prior*: MoGe for the metres, Depth
    Anything 3 for steadiness; with ``masks`` SAM3 too, for what moves, which is left out of the
    depth's fit."""
    graph, images = stages.inside, (stages.inside.edge, "exo_images")
    moge_name, da3_name = "moge_2_vitl_normal_fp16.safetensors", "depth_anything_3_base.safetensors"
    moge = graph.add(
        "LoadMoGeModel",
        360,
        bypassed=bypassed,
        model_name=moge_name,
        models=hub_link(moge_name, "geometry_estimation", "MoGe"),
    )
    moge_run = graph.add(
        "MoGeInference", 340, bypassed=bypassed, moge_model=(moge, "MOGE_MODEL"), image=images
    )
    da3 = graph.add(
        "LoadDA3Model",
        360,
        bypassed=bypassed,
        model_name=da3_name,
        models=hub_link(da3_name, "geometry_estimation", "Depth-Anything-3"),
    )
    da3_run = graph.add(
        "DA3Inference",
        340,
        bypassed=bypassed,
        da3_model=(da3, "DA3_MODEL"),
        image=images,
        mode="multiview",
    )
    stages.depth.sources.update(
        moge_geometry=(moge_run, "moge_geometry"), da3_geometry=(da3_run, "da3_geometry")
    )
    hint = " (un-bypass: Ctrl+B)" if bypassed else ""
    blocks = [
        Block(f"Depth of your own video{hint}", [[moge, da3], [moge_run], [da3_run]], DEPTH_COLOR)
    ]
    if masks:
        sam, words, track = sam3_track(graph, images, bypassed=bypassed)
        mask = graph.add(
            "SAM3_TrackToMask", 340, bypassed=bypassed, track_data=(track, "track_data")
        )
        stages.depth.sources["dynamic_mask"] = (mask, "masks")
        blocks.append(
            Block(f"What moves in it: SAM3{hint}", [[sam, words], [track, mask]], DEPTH_COLOR)
        )
    graph.rows.insert(0, blocks)


def sam3_track(graph: Graph, images: Source, *, bypassed: bool = False) -> tuple[Node, Node, Node]:
    """SAM3 on the exo frames: its loader, the words to look for, and the track of each that was
    found."""
    name = "sam3.1_multiplex_fp16.safetensors"
    sam = graph.add(
        "CheckpointLoaderSimple",
        360,
        bypassed=bypassed,
        title="Load SAM3",
        ckpt_name=name,
        models=hub_link(name, "checkpoints", "sam3.1"),
    )
    words = graph.add(
        "CLIPTextEncode",
        360,
        90,
        bypassed=bypassed,
        title="What moves",
        clip=(sam, "CLIP"),
        text="person",
    )
    track = graph.add(
        "SAM3_VideoTrack",
        340,
        bypassed=bypassed,
        images=images,
        model=(sam, "MODEL"),
        conditioning=(words, "CONDITIONING"),
    )
    return sam, words, track


@dataclass
class EgoX:
    """The subgraph *EgoX* under construction: the nodes that a workflow may still change."""

    inside: Subgraph
    unet: Node
    vae: Node
    lora: Node
    conditioning: Node | None
    """None where the sampler is EgoX Sample Long Video."""
    sampler: Node
    texts: list[Node]
    models: list[Node] = field(default_factory=list)
    captions: list[Node] = field(default_factory=list)
    """Nodes that ask a language model for the prompt."""
    beside: list[Node] = field(default_factory=list)
    """Nodes that a workflow puts beside the sampler."""


def egox(
    graph: Graph,
    *,
    small: dict[str, Any] | None = None,
    lora: dict[str, Any] | None = None,
    captioned: bool = False,
    long: bool = False,
    **sampler: Any,
) -> EgoX:
    """Stage 5 as a subgraph: the real weights, the authors' LoRA, text, conditioning and sampler.

    Args:
        small: files of the demo's model (``unet``, ``vae``, ``lora``), which has neither text
            encoder nor CLIP vision.
        lora: values of the LoRA's node.
        captioned: a language model writes the prompt; else the subgraph takes one.
        long: chunk after chunk, by one node that conditions and decodes too; the subgraph then
            takes the sound.
    """
    inside = graph.subgraph(
        "EgoX",
        "The ego video from the exo video and the ego prior: weights, LoRA, text, "
        "conditioning, and the sampler with geometry-guided attention.",
    )
    exo = inside.take("exo_images", "IMAGE")
    sound = (
        {"audio": inside.take("audio", "AUDIO")} if long else {}
    )  # beside exo, so that no node is in its way
    prior = inside.take("prior", "IMAGE")
    depth, trajectory = (
        inside.take("depth", "EGOX_DEPTH"),
        inside.take("trajectory", "EGOX_TRAJECTORY"),
    )
    if small:
        unet = inside.add(
            "UNETLoader", 380, unet_name=small["unet"], title="Load Diffusion Model (small model)"
        )
        vae = inside.add("VAELoader", 380, vae_name=small["vae"], title="Load VAE (small model)")
        texts = [
            inside.add("LotusConditioning", 360, title=f"{name} (no text encoder needed)")
            for name in ("Positive", "Negative")
        ]
        text = {
            name: (node, node.info["output_name"][0])
            for name, node in zip(("positive", "negative"), texts, strict=True)
        }
        models, vision, captions = [unet, vae], {}, []
    else:
        captions = caption_nodes(inside, exo, prior) if captioned else []
        prompt = (captions[-1], "generated_text") if captioned else inside.take("prompt", "STRING")
        unet = inside.add(
            "UNETLoader", 380, unet_name=UNET, models=model_link(UNET, "diffusion_models")
        )
        vae = inside.add("VAELoader", 380, vae_name=VAE, models=model_link(VAE, "vae"))
        clip = inside.add(
            "CLIPLoader", 380, clip_name=TEXT, type="wan", models=model_link(TEXT, "text_encoders")
        )
        seen = inside.add(
            "CLIPVisionLoader", 380, clip_name=VISION, models=model_link(VISION, "clip_vision")
        )
        # The negative prompt is empty, as the authors leave it.
        texts = [
            inside.add(
                "EgoXText",
                380,
                300,
                clip=(clip, "CLIP"),
                prompt=prompt,
                caption="from a model" if captioned else "as written",
            )
        ]
        text = {name: (texts[0], name) for name in ("positive", "negative")}
        models, vision = [unet, vae, clip, seen], {"clip_vision": (seen, "CLIP_VISION")}
    name = small["lora"] if small else LORA
    loaded = inside.add(
        "EgoXLoadLora",
        360,
        lora_name=name,
        model=(unet, "MODEL"),
        models=None if small else LORA_LINK,
        **(lora or {}),
    )
    if long:
        run = inside.add(
            "EgoXSampleLong",
            420,
            420,
            model=(loaded, "model"),
            vae=(vae, "VAE"),
            exo_images=exo,
            prior=prior,
            depth=depth,
            trajectory=trajectory,
            **sound,
            **text,
            **vision,
            **{"seed": 1234, **sampler},
        )
        return EgoX(inside, unet, vae, loaded, None, run, texts, models, captions)
    conditioning = inside.add(
        "EgoXConditioning",
        380,
        vae=(vae, "VAE"),
        exo_images=exo,
        prior=prior,
        model=(loaded, "model"),
        **text,
        **vision,
    )
    sources = {name: (conditioning, name) for name in ("positive", "negative", "latent", "canvas")}
    run = inside.add(
        "EgoXWanSampler",
        380,
        model=(loaded, "model"),
        depth=depth,
        trajectory=trajectory,
        **sources,
        **{"seed": 1234, **sampler},
    )
    return EgoX(inside, unet, vae, loaded, conditioning, run, texts, models, captions)


def caption_nodes(inside: Subgraph, exo: Source, prior: Source) -> list[Node]:
    """Pictures and instruction, the language model, and what runs it, whose text is the prompt."""
    request = inside.add("EgoXCaptionRequest", 360, exo_images=exo, prior=prior)
    model = inside.add(
        "CLIPLoader",
        360,
        title="Load language model",
        clip_name=LANGUAGE,
        type="qwen_image",
        models=hub_link(LANGUAGE, "text_encoders", "Qwen3-VL"),
    )
    return [
        request,
        model,
        inside.add(
            "TextGenerate",
            360,
            200,
            title="Write the caption",
            clip=(model, "CLIP"),
            prompt=(request, "instruction"),
            image=(request, "images"),
            max_length=1024,
            sampling_mode="off",
        ),
    ]


def promote(stage: EgoX, *, tuned: bool = True, weights: bool = True) -> None:
    """Promote widgets of *EgoX* to the node itself; ``tuned`` off: λ_g and strength come from
    elsewhere."""
    if tuned:
        stage.inside.promote(stage.sampler, "lambda_g", label="λ_g (3 as trained)")
        stage.inside.promote(stage.lora, "strength", label="LoRA (1 as trained)")
    stage.inside.promote(stage.sampler, "steps", label="Steps")
    stage.inside.promote(stage.sampler, "seed", label="Seed")
    if weights:
        stage.inside.promote(stage.unet, "unet_name", label="Transformer")


def close(stage: EgoX) -> None:
    """The player below all that was promoted (it has no value, so it has to come last), and the
    inner places."""
    stage.inside.promote_player(stage.sampler, "Ego video while it is sampled")
    words = [Block("The prompt, by a language model", [stage.captions])] if stage.captions else []
    weights = [stage.models, [stage.lora, *stage.texts, *stage.beside]]
    sampling = [[node] for node in (stage.conditioning, stage.sampler) if node]
    stage.inside.rows = [
        [
            *words,
            Block("Weights, LoRA, prompt", weights),
            Block("5  Conditioning, sampling", sampling),
        ]
    ]


def place_egox(graph: Graph, stages: Stages, stage: EgoX) -> Node:
    """*EgoX* on the canvas, connected to the stages before it."""
    inside = stage.inside
    close(stage)
    sources: dict[str, Source] = {
        "exo_images": (stages.load, "exo_images"),
        "prior": (stages.scene_and_prior, "prior"),
        "depth": (stages.scene_and_prior, "depth"),
        "trajectory": (stages.pose, "trajectory"),
    }
    if "prompt" in inside.edge.info["output_name"]:
        sources["prompt"] = (stages.pose, "prompt")
    if "audio" in inside.edge.info["output_name"]:
        sources["audio"] = (stages.load, "audio")
    return graph.add_subgraph(inside, 380, **sources)


def decode_inside(stage: EgoX) -> Node:
    """The decoder in *EgoX*, for a graph that shows something else; the subgraph gives its pictures
    and their fps."""
    decode = stage.inside.add(
        "EgoXDecodeEgoHalf", 360, latent=(stage.sampler, "latent"), vae=(stage.vae, "VAE")
    )
    parts = stage.inside.add("GetVideoComponents", 300, video=(decode, "video"))
    stage.inside.give("ego", (decode, "ego"))
    stage.inside.give("fps", (parts, "fps"))
    stage.beside += [decode, parts]
    return decode


def save(graph: Graph, video: Source, prefix: str, name: str, values: str = "") -> Node:
    """Narrow, since after a run it shows the video as wide as itself, and must not cover what
    stands below. The page writes ``values`` into the file's name."""
    return graph.add(
        "SaveVideo",
        240,
        title=f"Save {name}",
        video=video,
        filename_prefix=f"{prefix}/{name}{values}",
        format="mp4",
        codec="h264",
    )


def finished(graph: Graph, read_me: Node, stages: Stages, stage: EgoX, prefix: str) -> Page:
    """*EgoX* and stage 6 as most graphs have them."""
    stage.inside.give("latent", (stage.sampler, "latent"))
    stage.inside.give("vae", (stage.vae, "VAE"))
    run = place_egox(graph, stages, stage)
    decode = graph.add(
        "EgoXDecodeEgoHalf",
        400,
        380,
        latent=(run, "latent"),
        vae=(run, "vae"),
        audio=(stages.load, "audio"),
    )
    saved = save(graph, (decode, "video"), prefix, "ego", VALUES)
    return Page(read_me, stages, run, [decode], [saved], "6  Ego video", AUDIO_SLOT)


def sampled_long(graph: Graph, read_me: Node, stages: Stages, stage: EgoX, prefix: str) -> Page:
    """*EgoX* that samples chunk after chunk and decodes them itself, and its video."""
    stage.inside.give("video", (stage.sampler, "video"))
    run = place_egox(graph, stages, stage)
    saved = save(graph, (run, "video"), prefix, "ego", VALUES)
    return Page(read_me, stages, run, [saved], [], "6  Ego video")


@dataclass
class Page:
    """Places of all nodes: four columns, so that no link runs behind a node that is not its own.

    What *Load Exo Video* sends to *EgoX* and to the last column runs level with its sockets,
    between *Scene and prior* above and *Ego Pose Input* below, and over *EgoX*."""

    read_me: Node
    stages: Stages
    run: Node
    last: list[Node]
    """The last column, from the top."""
    saved: list[Node]
    """Node that writes the file, if it is placed over *EgoX*, where there is room for the video
    that it shows."""
    title: str
    slot: int = 0
    """Place among the sockets of the last column's first node that takes something from *Load Exo
    Video*."""
    color: str = "#3f789e"
    above: tuple[Node, ...] = ()
    """Nodes over *Load Exo Video*; the note is then under the last column."""
    above_title: str = "2  Wearer's head"
    weights: Node | None = None
    """A second, long note under the last column, where it may grow: the newer nodes show a note at
    its whole height."""

    def frames(self, heights: dict[int, float]) -> list[Frame]:
        """The frames, for nodes of these heights."""
        columns = [0, WIDE + GAP, WIDE + 400 + 2 * GAP, WIDE + 780 + 3 * GAP]
        stages = self.stages
        level = (
            max(heights.get(stages.scene_and_prior.number, 0.0), stages.scene_and_prior.wanted[1])
            + SLOT
        )
        if self.above:
            high = sum(max(heights.get(node.number, 0.0), node.wanted[1]) for node in self.above)
            high += (len(self.above) - 1) * (NODE_GAP + TITLE_AND_BADGE)
            level = max(level, high + PAD + GROUP_TITLE + TITLE_AND_BADGE)
        saved = [Frame("6  Saved", columns[2], 0, self.saved)] if self.saved else []
        over_egox = level + SLOT + TITLE_AND_BADGE
        self.read_me.wanted = (WIDE, round(level - 2 * TITLE_AND_BADGE - 2 * SLOT))
        rise = RISE + ((stages.load, "exo_images") not in self.last[0].sources.values())
        first, last_top = (
            Frame("", columns[0], 0, [self.read_me]),
            level - (self.slot + rise) * SLOT,
        )
        long_note, beside = self.weights, []
        if self.above:
            first = Frame(self.above_title, columns[0], 0, list(self.above))
            long_note = self.read_me
        if long_note:
            under = (
                last_top
                + 3 * SLOT
                + sum(max(heights.get(node.number, 0.0), node.wanted[1]) for node in self.last)
            )
            under += (len(self.last) - 1) * GAP
            long_note.wanted = (400, NOTE_HIGH)
            beside = [Frame("", columns[3], under, [long_note])]
        return [
            first,
            *beside,
            Frame("1  Exo video", columns[0], level, [stages.load]),
            Frame("2, 4  Scene and prior", columns[1], 0, [stages.scene_and_prior]),
            Frame("3  Ego pose", columns[1], over_egox + SLOT + TITLE_AND_BADGE, [stages.pose]),
            *saved,
            Frame("5  EgoX", columns[2], over_egox, [self.run]),
            Frame(self.title, columns[3], last_top, self.last, self.color),
        ]
