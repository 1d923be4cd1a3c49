"""Every language has a text for all that the nodes show, and for nothing that they no longer
show."""

import re

import pytest

from tools.texts.locales import (
    PAGE,
    SOURCE,
    TRANSLATIONS,
    differences,
    leaves,
    locale_file,
    node_defs,
    read_locale,
)
from tools.texts.node_schemas import node_schemas

FIX = "run `python3 run.py make texts`, then translate what it lists"


@pytest.fixture(scope="module")
def schemas(pack):
    return node_schemas(pack)


@pytest.fixture(scope="module")
def english(schemas):
    return node_defs(schemas)


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


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translation_is_complete_and_not_stale(english, language):
    assert locale_file(language).is_file()
    missing, stale = differences(english, read_locale(language))
    assert not missing, f"{FIX}: {missing}"
    assert not stale, f"{FIX}: {stale}"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_page_says_everything_in_each_language(language):
    """With the same gaps to fill."""
    english, other = (dict(leaves(read_locale(name, PAGE))) for name in (SOURCE, language))
    assert list(other) == list(english) and all(other.values())
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
