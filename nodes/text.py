"""EgoX Text: prompt and negative prompt to conditioning as the released pipeline makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from ..egox_core.errors import EgoXInputError
from ..egox_core.wan.prompt import (
    RELEASED_NEGATIVE,
    TOKENS,
    clean_prompt,
    cut_place,
    cut_tokens,
    plain_emphasis,
    wants_ftfy,
)
from .search_words import searched

if TYPE_CHECKING:
    from comfy.sd import CLIP

RELEASED, WHOLE = "released", "whole text"
ENCODER = "umt5xxl"
PAD = 0


class EgoXText(io.ComfyNode):
    """Both texts cleaned, tokenised and cut as in the released inference."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXText",
            display_name="EgoX Text",
            category="EgoX/model",
            **searched("EgoXText"),
            description="Encodes prompt and negative prompt as the authors' inference does: cleaned, 512 tokens at "
                        "most, parentheses as plain characters.",
            inputs=[
                io.Clip.Input("clip", tooltip="umT5, from Load CLIP (type wan)."),
                io.String.Input("prompt", default="", multiline=True,
                                tooltip="From Ego Pose Input or EgoX Prompt, or written here: [Exo view] and what that "
                                        "camera sees, [Ego view] and what the wearer sees and does."),
                io.String.Input("negative", default=RELEASED_NEGATIVE, multiline=True,
                                tooltip="What should not be seen. Empty as the authors leave it; without effect at "
                                        "cfg 1."),
                io.Combo.Input("length", options=[RELEASED, WHOLE], default=RELEASED,
                               tooltip="released: only the first 512 tokens, the length that Wan and EgoX were trained "
                                       "with. whole text: all of it, however long."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For EgoX Conditioning."),
                io.Conditioning.Output(display_name="negative", tooltip="For EgoX Conditioning."),
                io.String.Output(display_name="prompt", tooltip="The cleaned prompt, before it is cut."),
                io.String.Output(display_name="negative_prompt", tooltip="The cleaned negative prompt, before it is "
                                                                         "cut."),
                io.String.Output(display_name="note", tooltip="How many tokens there were, and what was cut off."),
            ],
        )

    @classmethod
    def execute(cls, clip, prompt, negative, length) -> io.NodeOutput:
        if clip is None:
            raise EgoXInputError("text encoder", got="none", expected="umT5",
                                 fix="connect Load CLIP; a checkpoint may have none")
        limit = TOKENS if length == RELEASED else None
        texts = [clean_prompt(plain_emphasis(text)) for text in (prompt, negative)]
        encoded = [encode(clip, text, limit) for text in texts]
        note = "\n".join(f"{name}: {said}" for name, (_, said) in zip(("prompt", "negative"), encoded, strict=True))
        if any(map(wants_ftfy, texts)):
            note += "\ncurly quotes and the like stay as they are (the authors' ftfy is not installed)"
        return io.NodeOutput(*(conditioning for conditioning, _ in encoded), *texts, note, ui=ui.PreviewText(note))


def encode(
    clip: CLIP,
    text: str,  # cleaned
    limit: int | None,  # tokens, the end mark among them; None: all
) -> tuple[list, str]:  # CONDITIONING, what there is to say about the length
    """One text through the connected encoder, padded to 512 tokens by the host.

    Raises:
        EgoXInputError: the encoder is not umT5.
    """
    row = tokens_of(clip, text)
    count = unpadded(row)
    if limit is None or count <= limit:
        said = f"{count} of {TOKENS} tokens" + (", longer than the model has seen" if count > TOKENS else "")
    else:
        place = cut_place(text, lambda part: unpadded(tokens_of(clip, part)) - 1, limit)
        said = f"the last {count - limit} of {count} tokens are cut off" + (f", {place}" if place else "")
        row = cut_tokens(row[:count], limit)
    return clip.encode_from_tokens_scheduled({ENCODER: [row]}), said


def tokens_of(clip: CLIP, text: str) -> list[tuple[Any, ...]]:
    """The host's row of (token, weight), padded. Every parenthesis is escaped: none is read as emphasis."""
    tokens = clip.tokenize(text.replace("(", "\\(").replace(")", "\\)"))
    if list(tokens) != [ENCODER] or len(tokens[ENCODER]) != 1:
        raise EgoXInputError("text encoder", got=", ".join(tokens), expected=f"{ENCODER} (umT5), as Wan reads it",
                             fix="Load CLIP: umt5_xxl, type wan")
    return tokens[ENCODER][0]


def unpadded(row: list[tuple[Any, ...]]) -> int:
    """How many entries of a row are the text's own and the end mark."""
    count = len(row)
    while count and isinstance(row[count - 1][0], int) and row[count - 1][0] == PAD:
        count -= 1
    return count
