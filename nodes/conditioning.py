"""Define the nodes for the model's conditioning.

EgoX Prompt joins and cleans the two sections of the text. EgoX Conditioning makes the canvas,
the conditioning and the latent to sample from exo video and ego prior.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import comfy.model_management
import node_helpers
import torch
from comfy_api.latest import io

from ..egox_core.errors import EgoXInputError
from ..egox_core.stages import condition
from ..egox_core.types import Canvas, ImageEmbeddingMode, MaskMode
from ..egox_core.wan import (
    Conditioned,
    build_mask,
    clean_prompt,
    join_sections,
    resolve_auto,
    split_sections,
)
from .host.graph import check_encoders, check_or_message
from .host.noise import HOST, first_noise
from .host.progress import host_progress
from .host.remember import PRIOR_SOURCES, remembered
from .host.vae import LOW_MEMORY_TILE, HostEncoders
from .io_types import LATENT_SOURCES, CanvasWithEncoders, EgoXCanvas
from .patch.checks import has_image_embedding
from .patch.lora_metadata import lora_metadata
from .search_words import node_schema
from .show import result_views
from .text import escape_emphasis

if TYPE_CHECKING:
    from comfy.clip_vision import ClipVisionModel
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

SEED_UNKNOWN = -1


class EgoXPrompt(io.ComfyNode):
    """Join the exo and ego sections of a prompt, each of which a user may rewrite."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXPrompt",
            display_name="EgoX Prompt",
            category="EgoX/model",
            description=(
                "Joins a description of the exo view and one of the ego view into the form of "
                "prompt that the model was trained on. Parentheses stay plain characters."
            ),
            inputs=[
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="The take's prompt with both sections, from Ego Pose Input.",
                ),
                io.String.Input(
                    "exo_view",
                    default="",
                    multiline=True,
                    tooltip=(
                        "Description of what the exo camera sees. Replaces the prompt's [Exo view] "
                        "section unless empty."
                    ),
                ),
                io.String.Input(
                    "ego_view",
                    default="",
                    multiline=True,
                    tooltip=(
                        "Description of what the wearer sees and does. Replaces the prompt's [Ego "
                        "view] section unless empty."
                    ),
                ),
            ],
            outputs=[io.String.Output(display_name="positive", tooltip="For EgoX Text.")],
        )

    @classmethod
    def execute(cls, exo_view, ego_view, prompt="") -> io.NodeOutput:
        exo_text, ego_text = split_sections(prompt)
        positive = join_sections(exo_view.strip() or exo_text, ego_view.strip() or ego_text)
        return io.NodeOutput(escape_emphasis(clean_prompt(positive)))


def conditioning_inputs() -> tuple[io.Input, ...]:
    """Make the node inputs for prompts, pictures and encoders."""
    return (
        io.Conditioning.Input(
            "positive", tooltip="The encoded prompt, with its sections for exo view and ego view."
        ),
        io.Conditioning.Input("negative", tooltip="The encoded negative prompt."),
        io.Vae.Input("vae", tooltip="The Wan 2.1 VAE. Wan 2.2 14B uses the same one."),
        io.Image.Input(
            "exo_images",
            tooltip=(
                "The frames of the exo video: 4n+1 frames, with width and height multiples of 16."
            ),
        ),
        io.Image.Input(
            "prior",
            tooltip=(
                "The ego prior, with the height of the exo video and the same number of frames."
            ),
        ),
        io.ClipVision.Input(
            "clip_vision",
            optional=True,
            tooltip=(
                "CLIP vision H, for models with an image embedding (Wan 2.1 I2V). Leave it "
                "unconnected for Wan 2.2 I2V, which has none."
            ),
        ),
    )


def low_memory_input(advanced: bool = False) -> io.Input:
    """Make the node input that turns on tiled encoding by the VAE."""
    return io.Boolean.Input(
        "low_memory",
        default=False,
        optional=True,
        # The host's own default is None, which its annotation lacks.
        advanced=advanced or None,  # ty: ignore[invalid-argument-type]
        tooltip=(
            f"For GPUs with little memory: the VAE works in tiles of {LOW_MEMORY_TILE} px, in "
            "Decode Ego Half as well. Slower, and the latents differ slightly. If off, ComfyUI "
            "still falls back to tiles when memory runs out."
        ),
    )


class EgoXConditioning(io.ComfyNode):
    """Encode exo video and ego prior, and mark which latents the model gets as known."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXConditioning",
            display_name="EgoX Conditioning",
            category="EgoX/model",
            description=(
                "Encodes the exo video and the ego prior side by side. Outputs the conditioning, "
                "the empty ego latent to sample, and the canvas for EgoX Model Patch or Wan EgoX "
                "Sampler."
            ),
            inputs=[
                *conditioning_inputs(),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip=(
                        "The model from EgoX LoRA. It isn't changed: mask and image embedding "
                        "follow the LoRA's metadata, and a model without image embedding gets "
                        "none."
                    ),
                ),
                io.Int.Input(
                    "noise_seed",
                    default=SEED_UNKNOWN,
                    min=SEED_UNKNOWN,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    advanced=True,
                    tooltip=(
                        "Set it to the sampler's seed if one of ComfyUI's own samplers is used, so "
                        "that the image embedding is made from the noise that sampling starts "
                        "from. -1 means unset and uses seed 0. Wan EgoX Sampler ignores it and "
                        "uses its own seed."
                    ),
                ),
                low_memory_input(),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The empty ego half of the latent, for the sampler.",
                ),
                EgoXCanvas.Output(
                    display_name="canvas",
                    tooltip=(
                        "Both halves of the latent and their masks, for EgoX Model Patch or Wan "
                        "EgoX Sampler."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],  # for check_or_message
        )

    @classmethod
    def validate_inputs(cls, vae=None) -> bool | str:
        return check_or_message(cls, check_encoders)

    @classmethod
    def execute(
        cls,
        positive,
        negative,
        vae,
        exo_images,
        prior,
        noise_seed,
        low_memory=False,
        clip_vision=None,
        model=None,
    ) -> io.NodeOutput:
        *conditioned, note = condition_clip(
            positive,
            negative,
            vae,
            exo_images,
            prior,
            noise_seed,
            "auto",
            low_memory,
            clip_vision,
            model,
        )
        return io.NodeOutput(*conditioned, ui=result_views and result_views.note(note))


def condition_clip(
    positive: list,
    negative: list,
    vae: VAE,
    exo_images: torch.Tensor,  # [T, H, W, 3 or 4] 0...1
    prior: torch.Tensor,  # [T or more, H, W_ego, 3 or 4] 0...1
    noise_seed: int,
    image_embedding: str,
    low_memory: bool = False,
    clip_vision: ClipVisionModel | None = None,
    model: ModelPatcher | None = None,
) -> tuple[list, list, dict, CanvasWithEncoders, str]:
    """Encode one clip to conditioning, an empty ego latent and a canvas, with a summary text.

    Raises:
        EgoXInputError: pictures that don't fit each other, a model that lacks CLIP vision.
    """
    tile_size = LOW_MEMORY_TILE if low_memory else 0
    metadata = {} if model is None else lora_metadata(model)
    image_embedding = resolve_auto("image_embedding", image_embedding, metadata)
    if model is not None and image_embedding != "none":
        if not has_image_embedding(model):
            logging.info(
                "[EgoX] this model takes no picture embedding (Wan 2.2 I2V form): none is made"
            )
            image_embedding, clip_vision = "none", None
        elif clip_vision is None:
            raise EgoXInputError(
                "CLIP vision",
                got="none",
                expected="a CLIP vision model, because this Wan 2.1 I2V has an image embedding",
                fix="connect Load CLIP Vision (clip_vision_h)",
            )
    note = embedding_note(
        image_embedding, connected=clip_vision is not None, seeded=noise_seed != SEED_UNKNOWN
    )
    if clip_vision is None:
        image_embedding = "none"
    mask_mode = resolve_auto("mask_mode", "auto", metadata)
    seed = max(noise_seed, 0) if image_embedding == "released" else 0
    conditioned_clip, text = encode_clip(
        vae, clip_vision, exo_images, prior, mask_mode, image_embedding, seed, tile_size
    )
    known_seed = None if noise_seed == SEED_UNKNOWN else noise_seed
    canvas = CanvasWithEncoders(
        vae=vae,
        clip_vision=clip_vision,
        **canvas_fields(conditioned_clip.canvas, noise_seed=known_seed),
    )
    latent_frames, h, w_exo, w_ego = canvas.latent_grid
    mask_ego = build_mask(canvas.mask_mode, latent_frames, h, w_exo, w_ego)[..., w_exo:]
    conditioning_values = {
        "concat_latent_image": canvas.prior_latent,
        "concat_mask": 1.0 - mask_ego,
    }  # the host inverts it
    if conditioned_clip.embedding is not None:
        conditioning_values["clip_vision_output"] = conditioned_clip.embedding
    latent = torch.zeros_like(
        canvas.prior_latent, device=comfy.model_management.intermediate_device()
    )
    sources = {
        **PRIOR_SOURCES.get(prior, {}),
        "exo_images": exo_images[..., :3],
        "prior": prior[: canvas.frames, ..., :3],
        "tile_size": tile_size,
    }
    return (
        node_helpers.conditioning_set_values(positive, conditioning_values),
        node_helpers.conditioning_set_values(negative, conditioning_values),
        {"samples": latent, LATENT_SOURCES: sources},
        canvas,
        f"{text}; {note}",
    )


def canvas_fields(canvas: Canvas, **changes: Any) -> dict[str, Any]:
    """Copy a canvas' fields into a dictionary, with some values replaced."""
    return {field.name: getattr(canvas, field.name) for field in fields(canvas)} | changes


@remembered(slots=2)
def encode_clip(
    vae: VAE,
    clip_vision: ClipVisionModel | None,
    exo_images: torch.Tensor,  # [T, H, W, 3 or 4] 0...1
    prior: torch.Tensor,  # [T or more, H, W_ego, 3 or 4] 0...1
    mask_mode: MaskMode,
    image_embedding: ImageEmbeddingMode,
    seed: int,  # of the noise in a released embedding
    tile_size: int,  # px; 0: whole
) -> tuple[Conditioned, str]:
    """Encode a clip's pictures to latents and an image embedding, with a summary text.

    The result is remembered, because EgoX Conditioning runs again when the LoRA's strength
    changes.
    """
    conditioned_clip, report = condition(
        exo_images,
        prior,
        HostEncoders(vae=vae, clip_vision=clip_vision, tile_size=tile_size),
        mask_mode=mask_mode,
        image_embedding=image_embedding,
        draw_noise=lambda latent: first_noise(latent, seed, HOST),
        colours=True,
        progress=host_progress(),
    )
    return conditioned_clip, report.text()


def embedding_note(
    mode: str,  # of IMAGE_EMBEDDING_MODES
    *,
    connected: bool,  # CLIP vision is there
    seeded: bool,  # the sampler's seed is known
) -> str:
    """Describe for the user which image embedding is made."""
    if mode == "none":
        return "no picture embedding (the model takes none, or it is switched off)"
    if not connected:
        return (
            "no picture embedding (no CLIP vision given; Wan 2.2 I2V needs none, Wan 2.1 I2V does)"
        )
    if mode == "released" and not seeded:
        return "picture embedding released, with seed 0 because noise_seed is not set"
    return f"picture embedding {mode}"
