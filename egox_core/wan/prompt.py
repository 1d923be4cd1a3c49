"""Clean prompts, split them into exo and ego sections, and cut them to the text encoder's length.

A prompt of the released form has an ``[Exo view]`` and an ``[Ego view]`` section.
"""

import html
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import EgoXInputError

EXO_MARK, EGO_MARK = "[Exo view]", "[Ego view]"
TOKENS = 512  # length that Wan's text input is cut and padded to, the end mark among them
Token = TypeVar("Token")


def split_sections(prompt: str) -> tuple[str, str]:
    """Split a prompt into its exo and ego texts, without their marks.

    A prompt without marks is all exo; the ego text is then empty.

    Raises:
        EgoXInputError: the marks come in the wrong order, or one comes twice.
    """
    marks = [
        match.group(0).lower()
        for match in re.finditer(r"\[(?:exo|ego) view\]", prompt, re.IGNORECASE)
    ]
    if marks not in (
        [],
        [EXO_MARK.lower()],
        [EGO_MARK.lower()],
        [EXO_MARK.lower(), EGO_MARK.lower()],
    ):
        raise EgoXInputError(
            "prompt sections",
            got=" ".join(marks),
            expected=f"{EXO_MARK} once, then {EGO_MARK} once",
            fix="write one section of each, exo first",
        )
    exo, _, ego = re.sub(re.escape(EGO_MARK), "\0", prompt, flags=re.IGNORECASE).partition("\0")
    exo = re.sub(re.escape(EXO_MARK), "", exo, flags=re.IGNORECASE)
    return exo.strip(), ego.strip()


def join_sections(exo: str, ego: str) -> str:
    """Join both sections to the prompt that the released model was trained on.

    They are marked, exo first; an empty one is left out.
    """
    parts = [
        f"{mark} {text.strip()}"
        for mark, text in ((EXO_MARK, exo), (EGO_MARK, ego))
        if text.strip()
    ]
    return " ".join(parts)


def clean_prompt(prompt: str) -> str:
    """Clean a prompt as the released pipeline does before encoding.

    ftfy, HTML entities resolved twice, white space single.

    ftfy (curly quotes made straight, broken characters mended) works where it is installed; without
    it such characters stay as they are: see :func:`has_ftfy`.
    """
    fix_text = _ftfy()
    prompt = prompt if fix_text is None else fix_text(prompt)
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()


def has_ftfy() -> bool:
    """Check whether the package ftfy, which the authors clean prompts with, is installed."""
    return _ftfy() is not None


def _ftfy() -> Callable[[str], str] | None:
    try:
        from ftfy import fix_text
    except ImportError:
        return None
    return fix_text


def cut_tokens(
    tokens: Sequence[Token],  # the text's own and the end mark, without padding
    limit: int = TOKENS,
) -> list[Token]:  # at most ``limit``
    """Truncate tokens to a limit, keeping the end mark as tokenizers do (quirks 42)."""
    return list(tokens) if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]]


def cut_place(
    prompt: str,  # cleaned
    count: Callable[[str], int],  # how many tokens a text has, without an end mark
    limit: int = TOKENS,
) -> str:
    """Name the section in which a prompt is cut off at ``limit`` tokens.

    For example "inside [Ego view]"; "" without sections.

    A section that is lost as a whole is named too.
    """
    marks = sorted(
        (mark_position, mark)
        for mark in (EXO_MARK, EGO_MARK)
        if (mark_position := prompt.lower().find(mark.lower())) >= 0
    )
    marks_and_starts = [
        (count(prompt[:mark_position].rstrip()) < limit - 1, mark) for mark_position, mark in marks
    ]
    marks_in_time = [mark for is_in_time, mark in marks_and_starts if is_in_time]
    lost_marks = [mark for is_in_time, mark in marks_and_starts if not is_in_time]
    return " and ".join(
        [
            *(f"inside {mark}" for mark in marks_in_time[-1:]),
            *(f"all of {mark}" for mark in lost_marks),
        ]
    )
