"""Test the digest of all values that led to a result."""

import importlib
import threading
from pathlib import Path
from types import ModuleType

import pytest


def make_chain(length: int, seed: int = 0) -> dict[str, dict]:
    """Build a graph in which node 0 makes a value and each further node passes it on."""
    graph = {"0": {"class_type": "Start", "inputs": {"seed": seed}}}
    return graph | {
        str(number): {"class_type": "Pass", "inputs": {"value": [str(number - 1), 0]}}
        for number in range(1, length)
    }


@pytest.fixture
def graph_module(pack) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.nodes.host.graph")


def test_the_digest_follows_a_chain_of_any_length(graph_module):
    first_digest, second_digest = (
        graph_module.input_digest(make_chain(3000, seed), "2999", ["value"]) for seed in (1, 2)
    )
    assert first_digest != second_digest and first_digest == graph_module.input_digest(
        make_chain(3000, 1), "2999", ["value"]
    )
    circular_graph = make_chain(3)
    circular_graph["0"]["inputs"]["seed"] = ["1", 0]
    with pytest.raises(ValueError, match="a circle"):
        graph_module.input_digest(circular_graph, "2", ["value"])


def test_the_digest_looks_for_few_texts_on_the_disk(graph_module, monkeypatch):
    resolved_names: list[str] = []
    monkeypatch.setattr(
        graph_module,
        "resolve",
        lambda name, *_, **__: resolved_names.append(name) or Path(__file__),
    )
    texts = {f"text_{number}": f"file {number % 5000}" for number in range(9000)}
    graph = make_chain(2)
    graph["0"]["inputs"] = texts
    digest_before = graph_module.input_digest(graph, "1", ["value"])
    assert 0 < len(resolved_names) == len(set(resolved_names)) <= graph_module.MAX_LOOKUPS
    texts["text_8999"] = "another file"
    assert graph_module.input_digest(graph, "1", ["value"]) != digest_before


def test_the_route_computes_outside_the_event_loop(pack, monkeypatch, run_coroutine):
    routes = importlib.import_module(f"{pack.__name__}.nodes.page.routes")
    threads: list[int] = []

    def digest_editor_inputs(graph: dict, node: str) -> dict[str, str]:
        threads.append(threading.get_ident())
        return {"scene": "a", "path": "b"}

    monkeypatch.setattr(routes, "digest_editor_inputs", digest_editor_inputs)

    async def request_origin():
        threads.append(threading.get_ident())
        return await routes.graph_origin.__wrapped__({"node": "0", "graph": make_chain(1)})

    answer = run_coroutine(request_origin())
    assert (
        answer.text
        == '{"origin": {"scene": "a", "path": "b"}, "file_missing": false, "video": null}'
    )
    loop_thread, work_thread = threads
    assert loop_thread != work_thread
