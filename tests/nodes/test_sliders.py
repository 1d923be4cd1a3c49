"""λ_g and the LoRA's strength: a slider over the usual range, and what lies outside it still passes
the host."""

import pytest


@pytest.fixture
def refusals(pack, monkeypatch, awaited):
    """Give ``refusals(node, input, value)``, which returns the host's own complaints about that
    input."""
    import execution

    import nodes as host_nodes

    for node in pack.nodes.extension.NODES:
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)

    def ask(node: str, name: str, value: float) -> list[str]:
        prompt = {"1": {"class_type": node, "inputs": {name: value}}}
        answer = awaited(execution.validate_inputs("prompt", prompt, "1", {}))
        errors = [error for error in answer[1] if error["extra_info"].get("input_name") == name]
        return [f"{error['message']}: {error['details']}" for error in errors]

    return ask


def test_no_number_passes_its_bounds(pack, refusals):
    """The host checks no bounds of an input that ``validate_inputs`` names: the node must then."""
    schemas = [node.GET_SCHEMA() for node in pack.nodes.extension.NODES]
    beyond = [
        (schema.node_id, entry.id, entry.max * 1000 + 1)
        for schema in schemas
        for entry in schema.inputs
        if isinstance(getattr(entry, "max", None), (int, float))
    ]
    assert ("EgoXLoadExoVideo", "width", 4096001) in beyond
    assert [(node, name) for node, name, value in beyond if not refusals(node, name, value)] == []


@pytest.mark.parametrize(
    ("node", "name", "value"),
    [
        ("EgoXWanSampler", "lambda_g", 25.0),
        ("EgoXModelPatch", "lambda_g", 100.0),
        ("EgoXLoadLora", "strength", -3.0),
        ("EgoXLoadLora", "strength", 100.0),
    ],
)
def test_a_value_beyond_the_slider_is_taken(refusals, node, name, value):
    assert refusals(node, name, value) == []


@pytest.mark.parametrize(
    ("node", "name", "value", "said"),
    [
        ("EgoXWanSampler", "lambda_g", 101.0, "λ_g"),
        ("EgoXModelPatch", "lambda_g", -1.0, "0 to 100"),
        ("EgoXLoadLora", "strength", -100.5, "from -100 to 100"),
        ("EgoXWanSampler", "lambda_g", float("nan"), "nan"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(refusals, node, name, value, said):
    (message,) = refusals(node, name, value)
    assert said in message
