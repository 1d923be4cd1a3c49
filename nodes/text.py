"""Define the nodes EgoX Caption Request and EgoX Text, which request and encode prompts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from torch.nn import Module

from ..egox_core.errors import EgoXInputError
from ..egox_core.wan import (
    NO_CAPTION,
    TOKENS,
    caption_request,
    clean_prompt,
    cut_place,
    cut_tokens,
    has_ftfy,
    repair_caption,
)
from .host.graph import check_encoders, check_or_message
from .host.vae import report_calls
from .search_words import node_schema
from .show import result_views

if TYPE_CHECKING:
    from comfy.sd import CLIP

AS_WRITTEN, GENERATED, NONE = "as written", "from a model", "no caption"
ENCODER = "umt5xxl"
PAD = 0
BLOCK = re.compile(r"encoder\.block\.\d+$")


class EgoXText(io.ComfyNode):
    """Clean, tokenise and encode the prompts as in the released inference."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXText",
            display_name="EgoX Text",
            category="EgoX/model",
            description=(
                "Encodes the prompt and the negative prompt as the authors' inference code does: "
                "cleaned, at most 512 tokens, and with parentheses as plain characters."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The umT5 text encoder, from Load CLIP (type wan)."),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    lazy=True,
                    tooltip=(
                        "The prompt, typed here or from Ego Pose Input, EgoX Prompt or Generate "
                        "Text. Write [Exo view] and what the exo camera sees, then [Ego view] and "
                        "what the wearer sees and does."
                    ),
                ),
                io.String.Input(
                    "negative",
                    default="",
                    multiline=True,
                    tooltip=(
                        "Things that should not appear. The authors leave it empty. Ignored at cfg "
                        "1."
                    ),
                ),
                io.Combo.Input(
                    "caption",
                    options=[AS_WRITTEN, GENERATED, NONE],
                    default=AS_WRITTEN,
                    tooltip=(
                        "as written: uses the prompt unchanged. from a model: the prompt is a "
                        "language model's answer to EgoX Caption Request; it is checked and "
                        "corrected, and the note lists the corrections. no caption: uses a neutral "
                        "text of the same form instead of the prompt."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For EgoX Conditioning."),
                io.Conditioning.Output(display_name="negative", tooltip="For EgoX Conditioning."),
                io.String.Output(
                    display_name="prompt",
                    tooltip="The cleaned prompt, before it is cut to 512 tokens.",
                ),
                io.String.Output(
                    display_name="negative_prompt",
                    tooltip="The cleaned negative prompt, before it is cut to 512 tokens.",
                ),
                io.String.Output(
                    display_name="note",
                    tooltip=(
                        "Text with the number of tokens, what was cut off, and what was corrected "
                        "in a caption."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],  # for check_or_message
        )

    @classmethod
    def validate_inputs(cls, clip=None) -> bool | str:
        return check_or_message(cls, check_encoders)

    @classmethod
    def check_lazy_status(cls, caption, prompt=None, **others) -> list[str]:
        return (
            ["prompt"] if prompt is None and caption != NONE else []
        )  # no language model runs for nothing

    @classmethod
    def execute(cls, clip, prompt, negative, caption) -> io.NodeOutput:
        if clip is None:
            raise EgoXInputError(
                "text encoder",
                got="none",
                expected="umT5",
                fix="connect Load CLIP; a checkpoint may have none",
            )
        prompt, caption_repairs = choose_prompt(prompt, caption)
        texts = [clean_prompt(text) for text in (prompt, plain_emphasis(negative))]
        blocks = text_blocks(clip)
        with report_calls(blocks, max(1, len(texts) * len(blocks)), "text"):
            encoded_texts = [encode_text(clip, text) for text in texts]
        note = "\n".join(
            f"{name}: {length_note}"
            for name, (_, length_note) in zip(("prompt", "negative"), encoded_texts, strict=True)
        )
        note = "\n".join((note, *(f"caption: {repair}" for repair in caption_repairs)))
        if not has_ftfy() and not "".join(texts).isascii():  # it leaves plain ASCII alone
            note += (
                "\ncurly quotes and the like stay as they are (the authors' ftfy is not installed)"
            )
        return io.NodeOutput(
            *(conditioning for conditioning, _ in encoded_texts),
            *texts,
            note,
            ui=result_views and result_views.note(note),
        )


class EgoXCaptionRequest(io.ComfyNode):
    """Build pictures and an instruction from which ComfyUI's language model writes a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXCaptionRequest",
            display_name="EgoX Caption Request",
            category="EgoX/model",
            description=(
                "Builds the request for a vision-language model that writes the prompt: some "
                "frames of the exo video, each next to the ego prior, and the instruction. Connect "
                "it to ComfyUI's Generate Text."
            ),
            inputs=[
                io.Image.Input(
                    "exo_images", tooltip="The frames of the exo video, from Load Exo Video."
                ),
                io.Image.Input(
                    "prior",
                    optional=True,
                    tooltip=(
                        "From Render Ego Prior. Shows the model what the wearer sees. Without it, "
                        "the model infers this from the exo frames."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip=(
                        "For 'image' of Generate Text: exo frames on the left, the prior on the "
                        "right."
                    ),
                ),
                io.String.Output(
                    display_name="instruction", tooltip="For 'prompt' of Generate Text."
                ),
            ],
        )

    @classmethod
    def execute(cls, exo_images, prior=None) -> io.NodeOutput:
        images, text = caption_request(exo_images, prior)
        return io.NodeOutput(
            images,
            text,
            ui=result_views and result_views.pictures(cls, images),
        )


def escape_emphasis(prompt: str) -> str:
    """Escape parentheses, which ComfyUI would read as emphasis."""
    return re.sub(r"(?<!\\)([()])", r"\\\1", prompt)


def plain_emphasis(prompt: str) -> str:
    """Remove the escapes before parentheses."""
    return re.sub(r"\\([()])", r"\1", prompt)


def choose_prompt(prompt: str | None, caption: str) -> tuple[str, tuple[str, ...]]:
    """Choose the prompt to encode, and list corrections made to it.

    A prompt is None if ComfyUI ran no node for it, because it isn't needed.

    Raises:
        EgoXInputError: a language model's answer that is no caption.
    """
    if caption == NONE or prompt is None:
        return NO_CAPTION, ("none; a neutral text takes its place",)
    if caption == GENERATED:
        return repair_caption(plain_emphasis(prompt))
    return plain_emphasis(prompt), ()


def text_blocks(clip: CLIP) -> list[Module]:
    """List the text encoder's blocks."""
    encoder_model = getattr(clip, "cond_stage_model", None)
    modules = encoder_model.named_modules() if isinstance(encoder_model, Module) else ()
    return [module for name, module in modules if BLOCK.search(name)]


def encode_text(
    clip: CLIP,
    text: str,  # cleaned
) -> tuple[list, str]:  # CONDITIONING, and a note on the length
    """Encode one text with the connected encoder, padded to 512 tokens by ComfyUI.

    Raises:
        EgoXInputError: the encoder is not umT5.
    """
    token_row = tokenize(clip, text)
    token_count = count_unpadded(token_row)
    length_note = f"{token_count} of {TOKENS} tokens"
    if token_count > TOKENS:
        cut_position = cut_place(
            text, lambda text_part: count_unpadded(tokenize(clip, text_part)) - 1, TOKENS
        )
        length_note = f"the last {token_count - TOKENS} of {token_count} tokens are cut off" + (
            f", {cut_position}" if cut_position else ""
        )
        token_row = cut_tokens(token_row[:token_count], TOKENS)
    return clip.encode_from_tokens_scheduled({ENCODER: [token_row]}), length_note


def tokenize(clip: CLIP, text: str) -> list[tuple[Any, ...]]:
    """Tokenise a text with ComfyUI, with every parenthesis escaped."""
    tokens = clip.tokenize(text.replace("(", "\\(").replace(")", "\\)"))
    if list(tokens) != [ENCODER] or len(tokens[ENCODER]) != 1:
        raise EgoXInputError(
            "text encoder",
            got=", ".join(tokens),
            expected=f"{ENCODER} (umT5), as Wan reads it",
            fix="Load CLIP: umt5_xxl, type wan",
        )
    return tokens[ENCODER][0]


def count_unpadded(row: list[tuple[Any, ...]]) -> int:
    """Count the tokens of a row before its padding."""
    count = len(row)
    while count and isinstance(row[count - 1][0], int) and row[count - 1][0] == PAD:
        count -= 1
    return count
