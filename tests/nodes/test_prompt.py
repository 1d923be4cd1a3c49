"""EgoX Prompt, and that the host's encoder reads its parentheses as characters."""

import importlib


def run(pack, **inputs):
    node = importlib.import_module(f"{pack.__name__}.nodes.conditioning").EgoXPrompt
    return node.execute(**{"exo_view": "", "ego_view": "", **inputs}).result


def test_takes_prompt_passes_through_with_single_blanks(pack):
    out = run(pack, prompt="[Exo view]\na room\n\n[Ego view]\nhands")
    assert out == ("[Exo view] a room [Ego view] hands",)


def test_a_written_section_replaces_the_takes(pack):
    assert run(pack, prompt="[Exo view] a room [Ego view] hands", ego_view="one (left) hand")[
        0
    ] == ("[Exo view] a room [Ego view] one \\(left\\) hand")
    assert run(pack, exo_view="a hall", ego_view="feet")[0] == "[Exo view] a hall [Ego view] feet"


def test_the_host_reads_no_emphasis_into_it(pack):
    from comfy.sd1_clip import escape_important, token_weights, unescape_important

    (positive,) = run(pack, ego_view="one (left:1.5) hand")
    words = [
        (unescape_important(text), weight)
        for text, weight in token_weights(escape_important(positive), 1.0)
    ]
    assert words == [("[Ego view] one (left:1.5) hand", 1.0)]


def test_emphasis_is_escaped_once_and_taken_back(pack):
    text = importlib.import_module(f"{pack.__name__}.nodes.text")
    assert text.escape_emphasis("a (red) cup \\(plain\\)") == "a \\(red\\) cup \\(plain\\)"
    assert text.plain_emphasis("a \\(red\\) cup") == "a (red) cup"
