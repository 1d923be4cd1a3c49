"""English is what the nodes show, and no translation is of an older English. One that is missing is
listed: the page shows English there."""

import re
import warnings

import pytest

from egox_core.safe_files import read_json, write_json
from tools.texts import locales
from tools.texts.locales import PAGE, SOURCE, TRANSLATIONS, leaves, node_defs, read_locale, review

FIX = "run `python3 run.py make texts`, then translate or delete what it lists"


@pytest.fixture(scope="module")
def english(pack):
    return node_defs([node.GET_SCHEMA() for node in pack.nodes.extension.NODES])


def test_the_layout_is_the_front_ends(english):
    """Inputs by id, outputs by their place: spelled out for one node, so that a slip of the writer
    shows."""
    patch = english["EgoXModelPatch"]
    assert patch["display_name"] == "EgoX Model Patch"
    assert patch["inputs"]["lambda_g"]["name"] == "λ_g"
    assert patch["inputs"]["canvas"] == {"name": "canvas", "tooltip": "From EgoX Conditioning."}
    assert [english["EgoXConditioning"]["outputs"][str(i)]["name"] for i in range(4)] == [
        "positive",
        "negative",
        "latent",
        "canvas",
    ]


def test_english_is_what_the_nodes_say(english):
    """An older English file would hide the nodes' own tooltips."""
    assert read_locale(SOURCE) == english, FIX


def test_no_translation_is_stale(english):
    missing, wrong, marks = review(english)
    assert not wrong, f"{FIX}: {wrong}"
    assert read_json(locales.MARKS) == marks, FIX
    if missing:
        warnings.warn("\n".join(missing), stacklevel=1)


@pytest.mark.parametrize(
    "english, korean, missing, wrong",
    [
        ("scene", "장면", [], []),
        ("scene", None, ["missing"], []),
        ("scene", "", ["missing"], []),
        ("room", "장면", [], ["English has changed"]),
        ("room", "방", [], []),
        ("room", None, ["missing"], []),
        (None, "장면", [], ["English no longer has it"]),
    ],
)
def test_what_is_told_of_a_translation(english, korean, missing, wrong, tmp_path, monkeypatch):
    """Of "scene", translated as 장면 so far."""
    state = {(SOURCE, PAGE): {}, ("ko", PAGE): {}, ("ko", locales.NODES): {"a": "장면"}}
    monkeypatch.setattr(locales, "TRANSLATIONS", ("ko",))
    monkeypatch.setattr(locales, "MARKS", tmp_path / "translated.json")
    monkeypatch.setattr(locales, "read_locale", lambda lang, name=locales.NODES: state[lang, name])
    locales.MARKS.write_text("{}", "utf-8")
    before = review({"a": "scene"})[2]
    write_json(locales.MARKS, before)
    state["ko", locales.NODES] = {} if korean is None else {"a": korean}
    review_result = review({} if english is None else {"a": english})
    assert [[line.split(": ")[1] for line in lines] for lines in review_result[:2]] == [
        missing,
        wrong,
    ]
    assert (review_result[2] == before) == (korean == "장면" and english is not None)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_page_has_the_same_gaps_to_fill_in_each_language(language):
    english, other = (dict(leaves(read_locale(name, PAGE))) for name in (SOURCE, language))
    for key, text in other.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(
            re.findall(r"\{\w+\}", english[key])
        ), key


@pytest.mark.parametrize("language", [SOURCE, *TRANSLATIONS])
def test_no_text_holds_the_front_ends_own_syntax(language):
    """Names and descriptions are compiled as messages there: these characters would be read as
    links or variables."""
    for key, text in leaves(read_locale(language)):
        if not key.endswith(".tooltip"):
            assert not set(text) & set("@{}|"), f"{language} {key}: {text!r}"


@pytest.mark.parametrize(
    ("language", "letters"), [("ko", "가-힣"), ("zh", "一-鿿"), ("ja", "ぁ-ヶ一-鿿")]
)
def test_sentences_are_in_their_language(language, letters):
    """A tooltip left in English would pass for complete."""
    for key, text in leaves(read_locale(language)):
        if key.endswith((".tooltip", ".description")):
            assert re.search(f"[{letters}]", text), f"{language} {key}: {text!r}"
