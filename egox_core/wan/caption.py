"""Caption a clip with a language model that sees pictures: make its request, and repair its answer.

The form is that of the captions which the released LoRA was trained with: two sections, each with a
scene and actions."""

import re

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import EgoXInputError
from ..frame_store import sample_frames
from .prompt import EGO_MARK, EXO_MARK, join_sections

SCENE, ACTION = "**Scene Overview:**", "**Action Analysis:**"
PICTURES = 4  # evenly over the clip, shown in order, as the authors' captioner picks them
MIN_WORDS = 4  # different ones, of a section
# four of them, and a model's usual excess, stay below the 512 tokens that are read
PARAGRAPH_WORDS = 70


def caption_section(scene: str, action: str) -> str:
    """Write one section of a caption, with a heading for each text that isn't empty."""
    return " ".join(f"{name} {body}" for name, body in ((SCENE, scene), (ACTION, action)) if body)


NO_CAPTION = join_sections(
    caption_section(
        "A camera watches a person and the place around them.",
        (
            "The person goes on with what they are doing, while the camera and the background stay "
            "as they are."
        ),
    ),
    caption_section(
        "The same place through the person's own eyes, with what lies before them.",
        "The view moves with the person's head while they go on with what they are doing.",
    ),
)
"""Generic caption, true of any take; used when none was written."""

_PICTURES_TEXT = "You see {count} moments of one video, in order. "
_EXO_ALONE = (
    "They show a person, filmed by a camera that stands some way off. Nobody filmed what the "
    "person sees: work it out from where the head is and where it looks."
)
_BOTH_HALVES = (
    "Each picture has two halves. Left: a person, filmed by a camera that stands some way off. "
    "Right: a rough guess of what this person sees at that moment. Black or smeared places on the "
    "right are missing, not part of the scene: never mention them, and take what lies there from "
    "the left."
)
_TASK_TEXT = """Write a description in English from which another program will paint what the person sees.
Write four paragraphs of about {words} words each, in plain sentences, exactly in this form:

{exo} {scene} the place as the distant camera shows it: room or landscape, light, furniture and things with their \
colours and where they stand. {action} what the person does from moment to moment: posture, what each hand holds and \
does, what changes.

{ego} {scene} what lies before the person, as seen from the own eyes: surfaces and things with their colours, left, \
right, near and far. {action} what the own hands and the view do from moment to moment.

Name only what you see or can infer. No introduction, no list, no remark at the end."""
_THINKING = re.compile(
    r"<think(?:ing)?>.*?</think(?:ing)?>|\A.*</think(?:ing)?>|\A.*<\|channel\|>final<\|message\|>",
    re.IGNORECASE | re.DOTALL,
)
_TOKEN = re.compile(r"<\|[^<>]{1,40}\|?>|</?s>|<eos>|<(?:start|end)_of_turn>", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
_VIEWER = r"(?P<{}>exo|ego|exocentric|egocentric|third[\s-]person|first[\s-]person)[\s_-]*"
_SECTION_MARK = re.compile(
    rf"[#*_>\s]*\[\s*{_VIEWER.format('mark')}(?:view|perspective)?\s*\][*_]*:?[*_]*"
    rf"|^[#*_>\s\d.)]*{_VIEWER.format('words')}(?:view|perspective)\s*(?:[*_]*:[*_]*|[*_]*$)",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING = re.compile(
    r"(?:^[#*_>\-\s\d.)]*|[*_]{1,3}\s*|(?<=[.!?]\s))(?P<which>scene overview|action analysis)\s*"
    r"(?:[*_]*\s*:\s*[*_]*|[*_]+|$)",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(r"^\s*(?:#+|[-*•>]|\d{1,2}[.)])\s+", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*{1,3}|`)(?=\S)(.+?)(?<=\S)\1")
_SENTENCE_END = r"[.!?…。！？][\"'”’)\]]*"
_SENTENCE = re.compile(rf".+?{_SENTENCE_END}(?=\s|$)|.+$", re.DOTALL)
_QUOTES = ('""', "''", "“”", "‘’", "«»", "「」")


def request_pictures(
    exo: Tensor,  # [T, H, W, 3] float 0...1
    prior: Tensor | None = None,  # [T, h, w, 3] float 0...1, the same frames
) -> Tensor:  # [PICTURES, H, W + w * H / h, 3]
    """Choose evenly spaced exo frames, each beside its ego prior, for the captioning model.

    Raises:
        EgoXInputError: another number of frames in the prior.
    """
    if prior is None:
        return exo[sample_frames(len(exo), PICTURES)][..., :3]
    if len(prior) != len(exo):
        raise EgoXInputError(
            "prior",
            got=f"{len(prior)} frames",
            expected=f"{len(exo)}, as exo",
            fix="render the prior of the very frames in use",
        )
    moments = sample_frames(len(exo), PICTURES)
    exo_pictures = exo[moments][..., :3]
    prior_pictures = prior[moments][..., :3].to(exo)
    height = exo_pictures.shape[1]
    if prior_pictures.shape[1] != height:
        width = round(prior_pictures.shape[2] * height / prior_pictures.shape[1])
        prior_pictures = (
            interpolate(
                prior_pictures.movedim(-1, 1),
                size=(height, width),
                mode="bilinear",
                antialias=True,
            )
            .movedim(1, -1)
            .clamp(0, 1)
        )
    return torch.cat((exo_pictures, prior_pictures), dim=2)


def caption_request(
    exo: Tensor,  # [T, H, W, 3] float 0...1, or uint8 without a prior
    prior: Tensor | None = None,  # [T, h, w, 3] float 0...1, the same frames
) -> tuple[Tensor, str]:  # [PICTURES, H, W, 3] or, with the prior on the right, wider
    """Make the pictures and the text that ask a language model for a caption.

    Raises:
        EgoXInputError: another number of frames in the prior.
    """
    pictures = request_pictures(exo, prior)
    return pictures, request_text(len(pictures), prior is not None)


def request_text(count: int, with_prior: bool) -> str:
    """Write the instruction for a language model that captions ``count`` pictures."""
    return "\n".join(
        (
            _PICTURES_TEXT.format(count=count) + (_BOTH_HALVES if with_prior else _EXO_ALONE),
            _TASK_TEXT.format(
                words=PARAGRAPH_WORDS, exo=EXO_MARK, ego=EGO_MARK, scene=SCENE, action=ACTION
            ),
        )
    )


def repair_caption(answer: str) -> tuple[str, tuple[str, ...]]:
    """Repair a language model's answer so that it has the form of the training captions.

    Returns:
        the caption; what was repaired, or is still missing.

    Repaired are thinking left in, words before the caption, headings in another dress, quotes and
    markdown, sections in the wrong order, sentences said again, and an end that was cut off.

    Raises:
        EgoXInputError: nothing but thinking, the request itself, or a section without a
            description.
    """
    notes: list[str] = []
    text = _without_thinking(answer, notes)
    if _TASK_TEXT[:60] in text:
        raise EgoXInputError(
            "caption",
            got="the request itself",
            expected="a language model's answer to it",
            fix="give the model's answer, or choose 'no caption'",
        )
    text, original_text = _FENCE.sub("", text).strip(), text
    for opening, closing in _QUOTES:
        if len(text) > 1 and text[0] == opening and text[-1] == closing:
            text = text[1:-1].strip()
    if text != original_text.strip():
        notes.append("quotes or fences round it taken off")
    section_texts = _sections(text, notes)
    bodies = {}
    for mark, part in section_texts.items():
        scene, action = _paragraphs(part, notes)
        is_last = mark == list(section_texts)[-1]
        scene = _sentences(scene, notes, may_be_cut=is_last and not action)
        action = _sentences(action, notes, may_be_cut=is_last)
        if (
            len({word.lower() for word in re.findall(r"[^\W\d_]{2,}", f"{scene} {action}")})
            < MIN_WORDS
        ):
            raise _missing_section(mark, answer)
        notes.extend(
            f"{mark} has no {name}" for name, body in ((SCENE, scene), (ACTION, action)) if not body
        )
        bodies[mark] = caption_section(scene, action)
    return join_sections(bodies[EXO_MARK], bodies[EGO_MARK]), tuple(dict.fromkeys(notes))


def _missing_section(mark: str, answer: str) -> EgoXInputError:
    return EgoXInputError(
        "caption",
        got=f"no description under {mark} in {answer.strip()[:60]!r}...",
        expected=f"{EXO_MARK} and {EGO_MARK}, each with a description",
        fix="try a different seed, a larger model or more max_length, or choose 'no caption'",
    )


def _without_thinking(answer: str, notes: list[str]) -> str:
    text = _THINKING.sub("", answer)
    if re.search(r"<think(?:ing)?>", text, re.IGNORECASE):
        raise EgoXInputError(
            "caption",
            got="thinking that was cut before an answer came",
            expected="a caption",
            fix="switch the model's thinking off, or let it write more",
        )
    if text != answer:
        notes.append("thinking taken out")
    return _TOKEN.sub("", text)


def _sections(text: str, notes: list[str]) -> dict[str, str]:
    """Split a caption into its exo and ego sections, as a mapping from mark to text."""
    marks = [
        (
            EXO_MARK
            if (m["mark"] or m["words"]).lower().startswith(("exo", "third"))
            else EGO_MARK,
            m,
        )
        for m in _SECTION_MARK.finditer(text)
    ]
    parts: dict[str, str] = {}
    for (mark, match), next_start in zip(
        marks, [*(m.start() for _, m in marks), len(text)][1:], strict=True
    ):
        if mark in parts:
            notes.append(f"{mark} comes twice: the first is kept")
        else:
            parts[mark] = text[match.end() : next_start].strip()
    for mark in (EXO_MARK, EGO_MARK):
        if not parts.get(mark):
            raise _missing_section(mark, text)
    if marks[0][1].start() > 0:
        notes.append(f"words before {marks[0][0]} left out")
    if any(match.group(0).strip() != mark for mark, match in marks):
        notes.append("headings put right")
    if list(parts) != [EXO_MARK, EGO_MARK]:
        notes.append("sections put in order")
    return parts


def _paragraphs(part: str, notes: list[str]) -> tuple[str, str]:
    """Split a section into the texts of its scene and of its actions."""
    headings = list(_HEADING.finditer(part))
    if any(match.group(0).strip() not in (SCENE, ACTION) for match in headings):
        notes.append("headings put right")
    bodies = {
        "scene overview": part[: headings[0].start()] if headings else part,
        "action analysis": "",
    }
    for match, next_start in zip(
        headings, [*(heading.start() for heading in headings), len(part)][1:], strict=True
    ):
        bodies[match["which"].lower()] += " " + part[match.end() : next_start]
    return bodies["scene overview"], bodies["action analysis"]


def _sentences(body: str, notes: list[str], *, may_be_cut: bool) -> str:
    """Clean a text of markdown and repeated sentences.

    ``may_be_cut``: the answer's end, whose last sentence may be unfinished.
    """
    plain_text = _EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", _BULLET.sub("", body)))
    if plain_text != body:
        notes.append("markdown taken out")
    sentences = [
        match.group(0).strip() for match in _SENTENCE.finditer(" ".join(plain_text.split()))
    ]
    unique_sentences = list(dict.fromkeys(sentences))
    if len(unique_sentences) < len(sentences):
        notes.append("sentences said again left out")
    if unique_sentences and not re.search(_SENTENCE_END + "$", unique_sentences[-1]):
        if may_be_cut:
            notes.append(
                "warning: the answer was cut off"
                + (
                    "; its unfinished last sentence is left out"
                    if len(unique_sentences) > 1
                    else ""
                )
                + ". Raise max_length"
            )
            unique_sentences = unique_sentences[:-1] or unique_sentences
        else:
            unique_sentences[-1] += "."
    return " ".join(unique_sentences)
