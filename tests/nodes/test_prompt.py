"""Test the node EgoX Prompt."""

import importlib


def run_prompt_node(pack, **inputs):
    node = importlib.import_module(f"{pack.__name__}.nodes.conditioning").EgoXPrompt
    return node.execute(**{"exo_view": "", "ego_view": "", **inputs}).result


def test_the_takes_prompt_keeps_its_words_with_single_blanks(pack):
    node_output = run_prompt_node(pack, prompt="[Exo view]\na room\n\n[Ego view]\nhands")
    assert node_output == ("[Exo view] a room [Ego view] hands",)


def test_a_written_section_replaces_that_of_the_take(pack):
    assert run_prompt_node(
        pack, prompt="[Exo view] a room [Ego view] hands", ego_view="one (left) hand"
    )[0] == ("[Exo view] a room [Ego view] one \\(left\\) hand")
    assert (
        run_prompt_node(pack, exo_view="a hall", ego_view="feet")[0]
        == "[Exo view] a hall [Ego view] feet"
    )


def test_comfyui_reads_parentheses_as_no_emphasis(pack):
    from comfy.sd1_clip import escape_important, token_weights, unescape_important

    (positive,) = run_prompt_node(pack, ego_view="one (left:1.5) hand")
    weighted_words = [
        (unescape_important(text), weight)
        for text, weight in token_weights(escape_important(positive), 1.0)
    ]
    assert weighted_words == [("[Ego view] one (left:1.5) hand", 1.0)]


def test_emphasis_is_escaped_once_and_unescaped(pack):
    text_module = importlib.import_module(f"{pack.__name__}.nodes.text")
    assert text_module.escape_emphasis("a (red) cup \\(plain\\)") == "a \\(red\\) cup \\(plain\\)"
    assert text_module.plain_emphasis("a \\(red\\) cup") == "a (red) cup"
