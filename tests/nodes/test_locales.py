"""Test that the nodes' translations are current."""

import re
import warnings

import pytest

from egox_core.safe_files import read_json, write_json
from tests.flat_graph import all_nodes
from tools.rigs.comfy_page import read_workflow, shipped_workflows
from tools.texts import locales
from tools.texts.locales import (
    NODES,
    PAGE,
    SOURCE,
    TRANSLATIONS,
    leaves,
    node_defs,
    read_locale,
    review,
)

FIX_ADVICE = "run `python3 run.py make texts`, then translate or delete what it lists"


@pytest.fixture(scope="module")
def english(pack):
    return node_defs([node.GET_SCHEMA() for node in pack.nodes.extension.NODES])


def test_the_english_file_equals_the_nodes_texts(english):
    """Check that the English locale is current, since an old one would hide the nodes' new
    tooltips."""
    assert read_locale(SOURCE) == english, FIX_ADVICE


def test_no_translation_is_stale(english):
    missing_keys, stale_lines, marks = review(english)
    assert not stale_lines, f"{FIX_ADVICE}: {stale_lines}"
    assert read_json(locales.MARKS) == marks, FIX_ADVICE
    if missing_keys:
        warnings.warn("\n".join(missing_keys), stacklevel=1)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_one_word_stands_for_one_thing(repo_root, language):
    """Check that the texts of a language keep to its table of terms."""
    terms = read_json(repo_root / "tools" / "texts" / "terms.json")[language]
    for name in ("nodeDefs.json", "main.json"):
        text = (repo_root / "locales" / language / name).read_text("utf-8")
        for term, other_words in terms.items():
            found_words = [word for word in other_words if word in text]
            assert not found_words, f"{language}/{name}: say {term} for {found_words}"


@pytest.mark.parametrize(
    "english, korean, missing_notes, outdated_notes",
    [
        ("scene", "", ["missing"], []),
        ("room", "장면", [], ["English has changed"]),
        ("room", "방", [], []),
        (None, "장면", [], ["English no longer has it"]),
    ],
)
def test_missing_and_outdated_translations_are_reported(
    english, korean, missing_notes, outdated_notes, tmp_path, monkeypatch
):
    """Check the report after an English or Korean text has changed."""
    locale_texts = {(SOURCE, PAGE): {}, ("ko", PAGE): {}, ("ko", locales.NODES): {"a": "장면"}}
    monkeypatch.setattr(locales, "TRANSLATIONS", ("ko",))
    monkeypatch.setattr(locales, "MARKS", tmp_path / "translated.json")
    monkeypatch.setattr(
        locales, "read_locale", lambda lang, name=locales.NODES: locale_texts[lang, name]
    )
    write_json(locales.MARKS, {})
    write_json(locales.MARKS, review({"a": "scene"})[2])
    locale_texts["ko", locales.NODES] = {"a": korean}
    notes = review({"a": english} if english else {})[:2]
    assert [[line.split(": ")[1] for line in lines] for lines in notes] == [
        missing_notes,
        outdated_notes,
    ]


@pytest.mark.parametrize(
    ("language", "letters"), [("ko", "가-힣"), ("zh", "一-鿿"), ("ja", "ぁ-ヶ一-鿿")]
)
def test_texts_of_a_language_have_its_letters_and_the_page_s_syntax(language, letters):
    """Check placeholders, the script of sentences, and characters of the page's own syntax."""
    english_texts = dict(leaves(read_locale(SOURCE, PAGE)))
    for key, text in leaves(read_locale(language, PAGE)):
        placeholders = (sorted(re.findall(r"\{\w+\}", t)) for t in (text, english_texts[key]))
        assert len({*map(tuple, placeholders)}) == 1, key
    for key, text in leaves(read_locale(language)):
        assert key.endswith(".tooltip") or not set(text) & set("@{}|"), f"{key}: {text!r}"
        is_sentence = key.endswith((".tooltip", ".description"))
        assert not is_sentence or re.search(f"[{letters}]", text), f"{key}: {text!r}"


def test_what_stays_english_is_on_the_list(pack, repo_root):
    """Check names that no locale translates, choices of menus, and titles of the graphs' notes."""
    from comfy.samplers import KSampler

    english_texts = {file: dict(leaves(read_locale(SOURCE, file))) for file in (NODES, PAGE)}
    names = {
        text
        for file, texts in english_texts.items()
        for language in TRANSLATIONS
        for key, text in leaves(read_locale(language, file))
        if text == texts[key] and re.search("[a-z]{2}", text)
    }
    choices = {
        choice
        for node in pack.nodes.extension.NODES
        for declared in node.GET_SCHEMA().inputs
        for slot in declared.get_all()
        for choice in slot.as_dict().get("options") or ()
        if isinstance(choice, str) and not re.search(r"\.\w+$", choice)  # a file
    }
    note_titles = {
        node["title"]
        for path in shipped_workflows(repo_root).values()
        for node in all_nodes(read_workflow(path))
        if node["type"] == "MarkdownNote"
    }
    assert read_json(repo_root / "tools" / "texts" / "english.json") == {
        "names": sorted(names),
        "choices": sorted(choices - {*KSampler.SAMPLERS, *KSampler.SCHEDULERS}),
        "notes": sorted(note_titles),
    }
