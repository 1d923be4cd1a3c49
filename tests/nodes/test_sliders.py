"""Test the sliders of λ_g and LoRA strength."""

import pytest


@pytest.fixture
def list_refusals(pack, monkeypatch, run_coroutine):
    """Provide a function that returns ComfyUI's error messages for a node's input."""
    import execution

    import nodes as host_nodes

    for node in pack.nodes.extension.NODES:
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)

    def validate_input(node: str, name: str, value: float) -> list[str]:
        prompt = {"1": {"class_type": node, "inputs": {name: value}}}
        verdict = run_coroutine(execution.validate_inputs("prompt", prompt, "1", {}))
        errors = [error for error in verdict[1] if error["extra_info"].get("input_name") == name]
        return [f"{error['message']}: {error['details']}" for error in errors]

    return validate_input


def test_numbers_beyond_their_bounds_are_refused(pack, list_refusals):
    """Check that the node refuses numbers out of bounds."""
    schemas = [node.GET_SCHEMA() for node in pack.nodes.extension.NODES]
    values_beyond = [
        (schema.node_id, entry.id, entry.max * 1000 + 1)
        for schema in schemas
        for entry in schema.inputs
        if isinstance(getattr(entry, "max", None), (int, float))
    ]
    assert ("EgoXLoadExoVideo", "width", 4096001) in values_beyond
    assert [
        (node, name) for node, name, value in values_beyond if not list_refusals(node, name, value)
    ] == []


@pytest.mark.parametrize(
    ("node", "name", "value", "words"),
    [
        ("EgoXWanSampler", "lambda_g", 25.0, None),  # beyond the slider alone
        ("EgoXModelPatch", "lambda_g", 100.0, None),
        ("EgoXLoadLora", "strength", -100.0, None),
        ("EgoXWanSampler", "lambda_g", 101.0, "λ_g"),
        ("EgoXModelPatch", "lambda_g", -1.0, "0 to 100"),
        ("EgoXLoadLora", "strength", -100.5, "from -100 to 100"),
        ("EgoXWanSampler", "lambda_g", float("nan"), "nan"),
    ],
)
def test_values_beyond_the_bounds_are_refused_with_a_message(
    list_refusals, node, name, value, words
):
    refusals = list_refusals(node, name, value)
    assert len(refusals) == bool(words) and all(words in message for message in refusals)
