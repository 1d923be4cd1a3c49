"""Prompts with the two sections that the model was trained with: ``[Exo view]`` and ``[Ego view]``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import EgoXInputError
from ..safe_files import read_json

EXO_SECTION, EGO_SECTION = "[Exo view]", "[Ego view]"
PLAIN_PROMPT = (f"{EXO_SECTION}\nA fixed camera watches a person at work.\n\n"
                f"{EGO_SECTION}\nThe same moment through that person's own eyes.")
"""Used, and marked ``caption: none`` in the manifest, where nobody wrote a caption."""


def check_caption(prompt: str, what: str) -> str:
    """The prompt, if it has both sections, each with text, exo first.

    Raises:
        EgoXInputError: a section missing, empty or in the wrong order.
    """
    exo, ego = prompt.find(EXO_SECTION), prompt.find(EGO_SECTION)
    complete = 0 <= exo < ego and prompt[exo + len(EXO_SECTION):ego].strip() and prompt[ego + len(EGO_SECTION):].strip()
    if not complete:
        raise EgoXInputError(what, got=repr(prompt[:60]), expected=f"{EXO_SECTION} text {EGO_SECTION} text",
                             fix="write both sections; the model was trained with them")
    return prompt


def read_captions(file: Path) -> Mapping[str, str]:
    """Captions by clip or take name from a JSON object.

    Raises:
        EgoXInputError: not an object of strings.
    """
    content = read_json(file, "captions file", 512 * 2**20)
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise EgoXInputError("captions file", got=type(content).__name__, expected='{"<clip or take>": "prompt", ...}',
                             fix="write one prompt a clip or take")
    return content


def caption_for(clip: str, take: str, captions: Mapping[str, str], own: str) -> tuple[str, str]:
    """(prompt, where it is from): the clip's caption, the take's, the source's own, else the plain one."""
    for key in (clip, take):
        if key in captions:
            return check_caption(captions[key], f"caption of {key}"), "file"
    if own:
        return check_caption(own, f"prompt of {take}"), "source"
    return PLAIN_PROMPT, "none"
