"""Test captions of language models: the request, repaired answers and refused ones."""

import pytest
import torch

from egox_core.wan.caption import (
    ACTION,
    SCENE,
    repair_caption,
    request_pictures,
    request_text,
)
from tests.refusals import refuses

check_caption = pytest.importorskip(
    "egox_train.data.captions", reason="manifests need pydantic"
).check_caption
EXO_SCENE = "A kitchen with a white table. A kettle stands on the left."
EXO_ACTION = "A person lifts the kettle with the right hand. Later it stands on the table again."
EGO_SCENE = "The white table lies below, the kettle on the left."
EGO_ACTION = "The right hand takes the kettle. The view follows it to the cup."
CAPTION = (
    f"[Exo view] {SCENE} {EXO_SCENE} {ACTION} {EXO_ACTION} [Ego view] {SCENE} {EGO_SCENE} {ACTION} "
    f"{EGO_ACTION}"
)
ANSWERS = {
    "in the form": (CAPTION, ()),
    "on lines of their own": (
        CAPTION.replace(" **", "\n**").replace(":** ", ":**\n").replace(" [Ego", "\n\n[Ego"),
        (),
    ),
    "thinking left in": (
        f"<think>\nThe form is [Exo view] and [Ego view].\n</think>\n\n{CAPTION}",
        ("thinking",),
    ),
    "thinking begun by the template": (
        f"I should say [Exo view] first.</think>{CAPTION}<|im_end|>",
        ("thinking",),
    ),
    "channels": (
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
            f"<|channel|>final<|message|>{CAPTION}"
        ),
        ("thinking",),
    ),
    "a polite beginning": (
        f"Sure! Here is the description:\n\n{CAPTION}",
        ("words before [Exo view]",),
    ),
    "quotes": (f'"{CAPTION}"', ("quotes or fences",)),
    "a fence": (f"```markdown\n{CAPTION}\n```", ("quotes or fences",)),
    "bold marks": (
        CAPTION.replace("[Exo view]", "**[Exo View]**").replace("[Ego view]", "**[Ego View]**"),
        ("headings put right",),
    ),
    "markdown headings": (
        f"## Exo View\n### Scene Overview\n{EXO_SCENE}\n### Action Analysis\n{EXO_ACTION}\n\n"
        f"## Ego View\n### Scene Overview\n{EGO_SCENE}\n### Action Analysis\n{EGO_ACTION}",
        ("headings put right",),
    ),
    "words with a colon": (
        f"Third-person view:\nScene overview: {EXO_SCENE} Action analysis: {EXO_ACTION}\n"
        f"**First-person view:**\nScene overview: {EGO_SCENE} Action analysis: {EGO_ACTION}",
        ("headings put right",),
    ),
    "lists and bold words": (
        CAPTION.replace(
            EXO_SCENE, "\n- A **kitchen** with a white table.\n- A `kettle` stands on the left.\n"
        ),
        ("markdown",),
    ),
    "the other way round": (
        (
            f"[Ego view] {SCENE} {EGO_SCENE} {ACTION} {EGO_ACTION}\n[Exo view] {SCENE} {EXO_SCENE} "
            f"{ACTION} {EXO_ACTION}"
        ),
        ("in order",),
    ),
    "said again": (
        CAPTION.replace(EGO_ACTION, f"{EGO_ACTION} {EGO_ACTION} {EGO_ACTION}"),
        ("said again",),
    ),
    "all of it twice": (f"{CAPTION}\n\n{CAPTION}", ("comes twice",)),
    "cut in a sentence": (
        f"{CAPTION} Then the left hand reaches for the",
        ("cut off; its unfinished last sentence is left out. Raise max_length",),
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_repaired_to_the_caption_format(name):
    model_answer, expected_notes = ANSWERS[name]
    caption, caption_notes = repair_caption(model_answer)
    assert caption == CAPTION
    assert all(any(word in note for note in caption_notes) for word in expected_notes) and bool(
        caption_notes
    ) == bool(expected_notes), caption_notes
    assert check_caption(caption, "x") == caption
    assert repair_caption(caption) == (caption, ())


def test_missing_caption_parts_are_noted():
    caption, caption_notes = repair_caption(
        f"[Exo view] {EXO_SCENE}\n[Ego view] {SCENE} {EGO_SCENE} {ACTION} {EGO_ACTION}"
    )
    assert caption_notes == ("[Exo view] has no **Action Analysis:**",)
    assert caption.startswith(f"[Exo view] {SCENE} A kitchen")
    prose_caption = CAPTION.replace(
        EGO_SCENE, "From the first-person view the scene overview stays: a white table lies below."
    )
    assert repair_caption(prose_caption) == (prose_caption, ())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "no description under"),
        ("I cannot see any pictures.", r"no description under \[Exo view\]"),
        (CAPTION.partition("[Ego")[0], r"no description under \[Ego view\]"),
        (f"[Exo view] {SCENE} {EXO_SCENE} [Ego view] {SCENE}", r"\[Ego view\] in .*max_length"),
        (f"<think>{CAPTION}", "thinking that was cut"),
        (request_text(4, True), "the request itself"),
    ],
)
def test_answers_without_a_caption_are_refused(answer, message):
    with refuses(message):
        repair_caption(answer)


def test_request_pictures_show_evenly_spaced_moments():
    exo_video = torch.linspace(0, 1, 9)[:, None, None, None].expand(9, 32, 56, 3)
    prior_video = 1 - torch.linspace(0, 1, 9)[:, None, None, None].expand(9, 64, 64, 3)
    pictures = request_pictures(exo_video, prior_video)
    assert pictures.shape == (4, 32, 56 + 32, 3)
    for row, moment in enumerate((0, 3, 5, 8)):
        assert torch.allclose(pictures[row, :, :56], exo_video[moment])
        assert torch.allclose(pictures[row, :, 56:], prior_video[moment, :32, :32], atol=1e-6)
    assert torch.equal(request_pictures(exo_video), exo_video[[0, 3, 5, 8]])
    with refuses("prior: got 5 frames"):
        request_pictures(exo_video, prior_video[:5])
