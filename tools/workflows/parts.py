"""Parts that several shipped workflows have in common: loaders, geometry, sampling, saving."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from egox_core.file_names import EXO
from egox_core.wan.lora_keys import RELEASED_FILE

from .graph import Graph, Node
from .layout import Block
from .notes import HUB, KIJAI, LORA_URL, WAN

SAMPLE_VIDEO = f"sample/synthetic_room/{EXO}"
CALM_VIDEO = f"sample/calm_room/{EXO}"
UNET, VAE = "wan2.1_i2v_480p_14B_fp8_scaled.safetensors", "wan_2.1_vae.safetensors"
TEXT, VISION = "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "clip_vision_h.safetensors"
LORA = RELEASED_FILE
BASELINE_NEGATIVE = (
    "blurry, low quality, overexposed, static, distorted hands, extra fingers, deformed, watermark, subtitles, "
    "third-person view"
)
DISTILLED = "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors"
DISTILLED_LINK = [{"name": DISTILLED, "url": f"{KIJAI}/Lightx2v/{DISTILLED}", "directory": "loras"}]

LORA_LINK = [{"name": LORA, "url": LORA_URL, "directory": "loras"}]

Rows = list[list[Block]]


@dataclass
class Loaders:
    """The nodes that read weights, and the text conditioning that comes of them."""

    unet: Node
    vae: Node
    texts: list[Node]  # one that gives both conditionings, or one of each
    clip: Node | None = None
    vision: Node | None = None
    column: list[Node] = field(default_factory=list)

    def text(self) -> dict[str, tuple[Node, str]]:
        if len(self.texts) == 1:
            return {name: (self.texts[0], name) for name in ("positive", "negative")}
        return {name: (node, node.info["output_name"][0])
                for name, node in zip(("positive", "negative"), self.texts, strict=True)}


def model_link(name: str, folder: str, place: str = WAN) -> list[dict[str, str]]:
    """What the editor needs to offer a missing model for download."""
    return [{"name": name, "url": f"{place}/{folder}/{name}", "directory": folder}]


def hub_link(name: str, folder: str, repository: str) -> list[dict[str, str]]:
    return model_link(name, folder, f"{HUB}/{repository}/resolve/main")


def note(graph: Graph, title: str, text: str, wide: int = 420, high: int = 420) -> Node:
    return graph.add("MarkdownNote", wide, high, title=title, text=text)


def geometry(graph: Graph, video: str = SAMPLE_VIDEO, **load: Any) -> dict[str, Node]:
    """Stages 1 to 4: exo video, depth, pose, scene, prior."""
    loaded = graph.add("EgoXLoadExoVideo", 360, 300, file=video, **load)
    # Depth and poses are not named: they are found beside the video, so that choosing another video is one step, and
    # a video without them is refused instead of being run with the sample's.
    depth = graph.add("EgoXDepthAlign", 380, frames=(loaded, "frames"))
    scene = graph.add("EgoXBuildScene", 340, exo_images=(loaded, "exo_images"), depth=(depth, "depth"))
    pose = graph.add("EgoXEgoPoseInput", 420, frames=(loaded, "frames"), scene=(scene, "scene"),
                     exo_images=(loaded, "exo_images"))
    prior = graph.add("EgoXRenderEgoPrior", 380, 420, trajectory=(pose, "trajectory"), scene=(scene, "scene"),
                      preset=(depth, "preset"))
    return {"load": loaded, "depth": depth, "scene": scene, "pose": pose, "prior": prior}


def geometry_blocks(stages: dict[str, Node]) -> list[Block]:
    return [Block("1  Exo video", [[stages["load"]]]), Block("2  Depth", [[stages["depth"]]]),
            Block("3, 4  Scene, pose, ego prior", [[stages["scene"]], [stages["pose"]], [stages["prior"]]])]


def real_loaders(graph: Graph, text: Node, *, output: str = "prompt") -> Loaders:
    """The stock loaders with the real weights; ``text`` gives the prompt at ``output``. The negative prompt is empty,
    as the authors leave it."""
    unet = graph.add("UNETLoader", 380, unet_name=UNET, models=model_link(UNET, "diffusion_models"))
    vae = graph.add("VAELoader", 380, vae_name=VAE, models=model_link(VAE, "vae"))
    clip = graph.add("CLIPLoader", 380, clip_name=TEXT, type="wan", models=model_link(TEXT, "text_encoders"))
    vision = graph.add("CLIPVisionLoader", 380, clip_name=VISION, models=model_link(VISION, "clip_vision"))
    encoded = graph.add("EgoXText", 380, 300, clip=(clip, "CLIP"), prompt=(text, output))
    return Loaders(unet, vae, [encoded], clip, vision, [unet, vae, clip, vision])


def add_lora(graph: Graph, model: tuple[Node, str], name: str = LORA, **values: Any) -> Node:
    return graph.add("EgoXLoadLora", 360, lora_name=name, model=model,
                     **{"models": LORA_LINK if name == LORA else None, **values})


def released_start(graph: Graph) -> tuple[dict[str, Node], Loaders, Node]:
    """Stages 1 to 4 on the sample, the real weights, and the authors' LoRA on them: how most graphs begin."""
    stages = geometry(graph)
    loaders = real_loaders(graph, stages["pose"])
    return stages, loaders, add_lora(graph, (loaders.unet, "MODEL"))


def add_conditioning(graph: Graph, stages: dict[str, Node], loaders: Loaders, model: tuple[Node, str],
                     **values: Any) -> Node:
    vision = {} if loaders.vision is None else {"clip_vision": (loaders.vision, "CLIP_VISION")}
    return graph.add("EgoXConditioning", 380, vae=(loaders.vae, "VAE"), exo_images=(stages["load"], "exo_images"),
                     prior=(stages["prior"], "prior"), model=model, **loaders.text(), **vision, **values)


def add_sampler(graph: Graph, stages: dict[str, Node], conditioning: Node, model: tuple[Node, str],
                **values: Any) -> Node:
    sources = {name: (conditioning, name) for name in ("positive", "negative", "latent", "canvas")}
    return graph.add("EgoXWanSampler", 380, model=model, depth=(stages["depth"], "depth"),
                     trajectory=(stages["pose"], "trajectory"), **sources, **{"seed": 1234, **values})


def add_decode(graph: Graph, stages: dict[str, Node], loaders: Loaders, sampler: Node, wide: int, high: int = 60,
               **beside: tuple[Node, str]) -> Node:
    """The decoder; ``beside`` is what it shows beside the ego video."""
    return graph.add("EgoXDecodeEgoHalf", wide, high, latent=(sampler, "latent"), vae=(loaders.vae, "VAE"),
                     trajectory=(stages["pose"], "trajectory"), **beside)


def save(graph: Graph, stages: dict[str, Node], images: tuple[Node, str], prefix: str, name: str, *,
         audio: bool = False, wide: int = 460, high: int = 440) -> list[Node]:
    """A video of pictures, saved."""
    sound = {"audio": (stages["load"], "audio")} if audio else {}
    video = graph.add("CreateVideo", wide, images=images, fps=(stages["load"], "fps"), **sound)
    saved = graph.add("SaveVideo", wide, high, title=f"Save {name}", video=(video, "VIDEO"),
                      filename_prefix=f"{prefix}/{name}", format="mp4", codec="h264")
    return [video, saved]


def sampled(graph: Graph, stages: dict[str, Node], loaders: Loaders, lora: Node, *, prefix: str,
            **sampler_values: Any) -> tuple[Node, list[Block]]:
    """Stages 5 and 6 as most graphs have them: the decoder, and the blocks of their row."""
    conditioning = add_conditioning(graph, stages, loaders, (lora, "model"))
    sampler = add_sampler(graph, stages, conditioning, (lora, "model"), **sampler_values)
    decode = add_decode(graph, stages, loaders, sampler, 380, 420, exo_images=(stages["load"], "exo_images"),
                        prior=(stages["prior"], "prior"))
    prior = save(graph, stages, (stages["prior"], "prior"), prefix, "prior")
    ego = save(graph, stages, (decode, "ego"), prefix, "ego", audio=True)
    return decode, [Block("5  Conditioning, sampling", [[conditioning], [sampler]]),
                    Block("6  Ego video", [[decode], ego]), Block("The prior, saved", [prior])]
