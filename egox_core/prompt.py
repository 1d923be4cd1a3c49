"""Prompts of the released form, an ``[Exo view]`` and an ``[Ego view]`` section, made ready for a text encoder."""

from __future__ import annotations

import html
import re

from .errors import EgoXInputError

EXO_MARK, EGO_MARK = "[Exo view]", "[Ego view]"
DEFAULT_NEGATIVE = (
    "blurry, low quality, overexposed, static, distorted hands, extra fingers, deformed, watermark, subtitles, "
    "third-person view"
)


def split_sections(prompt: str) -> tuple[str, str]:
    """(exo, ego) texts without their marks. A prompt without marks is all exo; the ego text is then empty.

    Raises:
        EgoXInputError: the marks come in the wrong order, or one comes twice.
    """
    marks = [match.group(0).lower() for match in re.finditer(r"\[(?:exo|ego) view\]", prompt, re.IGNORECASE)]
    if marks not in ([], [EXO_MARK.lower()], [EGO_MARK.lower()], [EXO_MARK.lower(), EGO_MARK.lower()]):
        raise EgoXInputError("prompt sections", got=" ".join(marks), expected=f"{EXO_MARK} once, then {EGO_MARK} once",
                             fix="write one section of each, exo first")
    exo, _, ego = re.sub(re.escape(EGO_MARK), "\0", prompt, flags=re.IGNORECASE).partition("\0")
    exo = re.sub(re.escape(EXO_MARK), "", exo, flags=re.IGNORECASE)
    return exo.strip(), ego.strip()


def join_sections(exo: str, ego: str) -> str:
    """The prompt that the released model was trained on: both sections, marked, exo first. An empty one is left out."""
    parts = [f"{mark} {text.strip()}" for mark, text in ((EXO_MARK, exo), (EGO_MARK, ego)) if text.strip()]
    return " ".join(parts)


def clean_prompt(prompt: str) -> str:
    """HTML entities resolved and white space made single blanks, as the released pipeline does before encoding."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()


def escape_emphasis(prompt: str) -> str:
    """Parentheses as plain characters: the host's text encoders read ``(word:1.2)`` as emphasis."""
    return re.sub(r"(?<!\\)([()])", r"\\\1", prompt)
