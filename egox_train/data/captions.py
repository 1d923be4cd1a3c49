"""Read and generate prompts with an exo and an ego section, as the model was trained with.

    [Exo view] **Scene Overview:** <the place, and what stands where> **Action Analysis:** <what the
    person does, picture by picture> [Ego view] ... the same two, as the person sees it

They come from a file, from the source, or from a local vision-language model that is asked one
question a paragraph; the marks are written by us.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.file_names import VIDEO_SUFFIXES
from egox_core.safe_files import decode_text, parse_json, require_file
from egox_core.wan import (
    MIN_WORDS,
    NO_CAPTION,
    caption_request,
    caption_section,
    join_sections,
    split_sections,
)

from ..compute_type import compute_type
from ..wan.weights import model_device, model_on
from .manifest import CaptionSource

MAX_CAPTION_BYTES = 512 * 2**20
NAME_KEYS = ("name", "clip", "take", "video", "file_name")
"""Of a row: which clip or take it is for."""
CAPTION_KEYS = ("caption", "prompt", "text")
"""Of a row: its text. The other keys are those of other trainers' tables."""
# a long paragraph takes half of it; a model that doesn't understand finds no end
ANSWER_TOKENS = 512
_FIXED_CAMERA_TEXT = "These pictures are moments, in order, of a video from a fixed camera. "
_WORN_CAMERA_TEXT = (
    "These pictures are moments, in order, of a video from a camera on a person's head. "
)
_PARAGRAPH_TEXT = " Write one full paragraph of plain sentences, without a heading or a list."
QUESTIONS: Mapping[str, tuple[str, str]] = {
    "exo": (
        _FIXED_CAMERA_TEXT
        + (
            "Describe the place in detail: what kind of room or outdoor place it is, floor or "
            "ground, walls and light, and the furniture and objects with their colours and where "
            "in the picture they stand."
        )
        + _PARAGRAPH_TEXT,
        _FIXED_CAMERA_TEXT
        + (
            "Describe in detail what the person does, one picture after the other: the posture, "
            "what each hand holds and does, and what has changed since the picture before."
        )
        + _PARAGRAPH_TEXT,
    ),
    "ego": (
        _WORN_CAMERA_TEXT
        + (
            "Describe in detail what lies before the person: the surfaces and objects with their "
            "colours, where they are as the person sees them, and what surrounds them."
        )
        + _PARAGRAPH_TEXT,
        _WORN_CAMERA_TEXT
        + (
            "Describe in detail what the person's own hands do, one picture after the other: what "
            "the left and the right hand hold and do, and what happens to the things."
        )
        + _PARAGRAPH_TEXT,
    ),
    "ego, guessed from exo": (
        _FIXED_CAMERA_TEXT
        + (
            "Describe in detail what lies before the eyes of the person in it: the surfaces and "
            "objects with their colours, where they are as that person sees them, and what "
            "surrounds them."
        )
        + _PARAGRAPH_TEXT,
        _FIXED_CAMERA_TEXT
        + (
            "Describe in detail, as the person in it sees it, what the own hands do, one picture "
            "after the other: what the left and the right hand hold and do, and what happens to "
            "the things."
        )
        + _PARAGRAPH_TEXT,
    ),
}
"""For the scene and the actions, by what is shown and what is asked for."""
_HEADING_PATTERN = re.compile(r"^\W*(?:scene overview|action analysis)\W+", re.IGNORECASE)


def check_caption(prompt: str, subject: str) -> str:
    """Check that a prompt has both sections in order, or none, and return it.

    Raises:
        EgoXInputError: no text, or one section missing, empty or in the wrong order.
    """
    try:
        is_complete = all(split_sections(prompt)) or bool(prompt.strip()) and is_plain_text(prompt)
    except EgoXInputError:
        is_complete = False
    if not is_complete:
        raise EgoXInputError(
            subject,
            got=repr(prompt[:60]),
            expected="[Exo view] text [Ego view] text, or a text without these marks",
            fix="write both sections; the model was trained with them",
        )
    return prompt


def is_plain_text(prompt: str) -> bool:
    """Check that a prompt is plain text without exo and ego sections."""
    return split_sections(prompt) == (prompt.strip(), "")


def read_captions(file: Path) -> Mapping[str, str]:
    """Read captions of clips or takes by name: a JSON object or list, .jsonl or .csv.

    A name may be a video's file name.

    Raises:
        EgoXInputError: none of these, a row without name or caption, a name twice.
    """
    label = f"captions file {file.name!r}"
    text = decode_text(require_file(file, "captions file", MAX_CAPTION_BYTES).read_bytes(), label)
    suffix = file.suffix.lower()
    if suffix == ".csv":
        caption_rows: object = list(
            csv.DictReader(io.StringIO(text.lstrip("\ufeff")), skipinitialspace=True)
        )
    elif suffix == ".jsonl":
        caption_rows = [parse_json(line, label) for line in text.splitlines() if line.strip()]
    else:
        caption_rows = parse_json(text, label)
    if isinstance(caption_rows, dict):
        captions_by_name = caption_rows
    else:
        captions_by_name = _captions_of_rows(caption_rows, label)
    if not all(isinstance(caption, str) for caption in captions_by_name.values()):
        raise _captions_error(label, "a caption that is no text")
    return captions_by_name


def _captions_of_rows(rows: object, label: str) -> dict[str, Any]:
    if not isinstance(rows, list):
        raise _captions_error(label, f"a {type(rows).__name__}")
    captions_by_name: dict[str, Any] = {}
    for row_number, row in enumerate(rows, 1):
        row_values = row if isinstance(row, dict) else {}
        name, caption = (
            next((row_values[key] for key in keys if row_values.get(key)), None)
            for keys in (NAME_KEYS, CAPTION_KEYS)
        )
        if name is None or caption is None:
            raise _captions_error(
                label, f"row {row_number} without a name or a caption: {row!r:.200}"
            )
        if captions_by_name.setdefault(str(name), caption) != caption:
            raise _captions_error(label, f"two captions of {name}")
    return captions_by_name


def _captions_error(label: str, problem: str) -> EgoXInputError:
    return EgoXInputError(
        label,
        got=problem,
        expected='{"<clip or take>": "caption", ...}, or a .csv with the header name,caption, or '
        'a .jsonl with {"name": ..., "caption": ...} in each line',
        fix="write one caption per clip or take; a name may have its video's suffix",
    )


def find_caption(name: str, captions: Mapping[str, str]) -> str | None:
    """Find the name that a clip's or take's caption has in a file: its own, else with the suffix
    of a video."""
    suffixes = (*VIDEO_SUFFIXES, *map(str.upper, VIDEO_SUFFIXES))
    names = (name, *(f"{name}{suffix}" for suffix in suffixes))
    return next((caption_name for caption_name in names if caption_name in captions), None)


def unused_captions(captions: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """List the names in a captions file that aren't those of the given clips and takes."""
    return sorted(captions.keys() - {find_caption(name, captions) for name in names})


def caption_for(
    clip: str, take: str, captions: Mapping[str, str], source_prompt: str
) -> tuple[str, CaptionSource]:
    """Choose a clip's prompt from the captions of the clip, take or data set, and name the
    source."""
    for name in (clip, take):
        caption_name = find_caption(name, captions)
        if caption_name is not None:
            return check_caption(captions[caption_name], f"caption of {name}"), "file"
    if source_prompt:
        return check_caption(source_prompt, f"prompt of {take}"), "source"
    return NO_CAPTION, "none"


def model_caption(
    folder: Path,
    exo: Tensor,  # [T, H, W, 3] uint8
    ego: Tensor | None,  # [T, S, S, 3] uint8, the same moments
    device: str | None = None,  # None: a GPU where there is one
) -> str:
    """Generate a prompt for a clip's videos by a caption model.

    The ego section describes the ``ego`` video, or is guessed from ``exo`` without one.

    Raises:
        EgoXInputError: no transformers, no such model, or an answer that is no description.
    """
    ego_kind = "ego" if ego is not None else "ego, guessed from exo"
    sections = [
        caption_section(
            *(
                _checked_answer(
                    _generate_answer(folder, pictures, question, device),
                    f"{section_title} by {folder.name}",
                )
                for question in QUESTIONS[section_kind]
            )
        )
        for section_title, pictures, section_kind in (
            ("[Exo view]", exo, "exo"),
            ("[Ego view]", exo if ego is None else ego, ego_kind),
        )
    ]
    return check_caption(join_sections(*sections), f"caption by {folder.name}")


@torch.no_grad()
def _generate_answer(folder: Path, frames: Tensor, question: str, device: str | None) -> str:
    from PIL import Image

    processor, model = load_caption_model(folder, device)
    message_content = [
        {"type": "image", "image": Image.fromarray(picture.numpy())}
        for picture in caption_request(frames)[0]
    ]
    model_inputs = processor.apply_chat_template(
        [{"role": "user", "content": [*message_content, {"type": "text", "text": question}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    tokens = model.generate(**model_inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)
    answer_tokens = tokens[0, model_inputs["input_ids"].shape[1] :]
    text = processor.batch_decode(answer_tokens[None], skip_special_tokens=True)[0]
    end_tokens = model.generation_config.eos_token_id
    if int(answer_tokens[-1]) not in (end_tokens if isinstance(end_tokens, list) else [end_tokens]):
        raise EgoXInputError(
            f"caption by {folder.name}",
            got=f"{text[:80]!r}... without an end",
            expected=f"a description of less than {ANSWER_TOKENS} tokens",
            fix="use a larger vision-language model, or --captions FILE",
        )
    return text


def _checked_answer(answer: str, subject: str) -> str:
    text = _HEADING_PATTERN.sub("", " ".join(answer.split()))  # many models write one all the same
    answer_words = {w.lower() for w in re.findall(r"[^\W\d_]{2,}", text)}
    if len(answer_words) < MIN_WORDS or "view]" in text.lower():
        raise EgoXInputError(
            subject,
            got=repr(text[:80]),
            expected=f"a description of {MIN_WORDS} words or more, without section marks",
            fix="use a larger vision-language model, or --captions FILE",
        )
    return text


def load_caption_model(folder: Path, device: str | None = None) -> tuple[Any, Any]:
    """Load a caption model and its processor, once per process and device.

    Raises:
        EgoXInputError: no transformers, no folder of an image-and-text model, one without a chat
            template.
    """
    # On a GPU in the file's type: what it is to compute in.
    dtype = compute_type("auto", "cpu") if model_device(device).type == "cpu" else "auto"
    caption_processor, model = model_on(
        device,
        folder,
        "AutoProcessor",
        "AutoModelForImageTextToText",
        subject="caption model",
        expected="the folder of an image-text-to-text model",
        download_hint="download one, such as Qwen2.5-VL",
        alternative=", or give --captions FILE",
        dtype=dtype,
    )
    if not getattr(caption_processor, "chat_template", None):
        raise EgoXInputError(
            f"caption model {folder.name}",
            got="no chat template",
            expected="an instruction model",
            fix="use the instruct or chat variant",
        )
    return caption_processor, model
