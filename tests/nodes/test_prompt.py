"""Test the node EgoX Prompt."""

import importlib

import pytest


def run_prompt_node(pack, **inputs):
    node = importlib.import_module(f"{pack.__name__}.nodes.conditioning").EgoXPrompt
    return node.execute(**{"exo_view": "", "ego_view": "", **inputs}).result


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (
            {"prompt": "[Exo view]\na room\n\n[Ego view]\nhands"},
            "[Exo view] a room [Ego view] hands",
        ),
        (
            {"prompt": "[Exo view] a room [Ego view] hands", "ego_view": "one (left) hand"},
            "[Exo view] a room [Ego view] one \\(left\\) hand",
        ),
        ({"exo_view": "a hall", "ego_view": "feet"}, "[Exo view] a hall [Ego view] feet"),
        ({"ego_view": "a \\(red\\) (cup:1.5)"}, "[Ego view] a \\(red\\) \\(cup:1.5\\)"),
    ],
)
def test_sections_are_joined_without_emphasis(pack, inputs, expected):
    from comfy.sd1_clip import escape_important, token_weights, unescape_important

    (positive,) = run_prompt_node(pack, **inputs)
    assert positive == expected
    ((text, weight),) = token_weights(escape_important(positive), 1.0)
    text_module = importlib.import_module(f"{pack.__name__}.nodes.text")
    assert (unescape_important(text), weight) == (text_module.plain_emphasis(expected), 1.0)
