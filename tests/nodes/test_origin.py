"""The origin of a graph's result: long chains, many texts, off the event loop."""

import importlib
import threading
from pathlib import Path
from types import ModuleType

import pytest


def chain(length: int, seed: int = 0) -> dict[str, dict]:
    """Build a graph in which node 0 makes a value and each further one passes it on."""
    graph = {"0": {"class_type": "Start", "inputs": {"seed": seed}}}
    return graph | {
        str(n): {"class_type": "Pass", "inputs": {"value": [str(n - 1), 0]}}
        for n in range(1, length)
    }


@pytest.fixture
def graphs(pack) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.nodes.host.graph")


def test_a_chain_of_any_length_is_followed(graphs):
    one, other = (graphs.input_digest(chain(3000, seed), "2999", ["value"]) for seed in (1, 2))
    assert one != other and one == graphs.input_digest(chain(3000, 1), "2999", ["value"])
    circle = chain(3)
    circle["0"]["inputs"]["seed"] = ["1", 0]
    with pytest.raises(ValueError, match="a circle"):
        graphs.input_digest(circle, "2", ["value"])


def test_few_texts_are_looked_for_on_the_disk(graphs, monkeypatch):
    names_asked: list[str] = []

    def resolve(name: str, what: str, **_: bool) -> Path:
        names_asked.append(name)
        return Path(__file__)

    monkeypatch.setattr(graphs, "resolve", resolve)
    texts = {f"text_{n}": f"file {n % 5000}" for n in range(9000)}
    graph = {
        "1": {"class_type": "Many", "inputs": texts},
        "2": {"class_type": "Last", "inputs": {"value": ["1", 0]}},
    }
    before = graphs.input_digest(graph, "2", ["value"])
    assert 0 < len(names_asked) == len(set(names_asked)) <= graphs.MAX_LOOKUPS
    graph["1"]["inputs"]["text_8999"] = "another file"
    assert graphs.input_digest(graph, "2", ["value"]) != before


def test_the_route_leaves_the_event_loop_alone(pack, monkeypatch, awaited):
    routes = importlib.import_module(f"{pack.__name__}.nodes.page.routes")
    threads: list[int] = []

    def editor_origin(graph: dict, node: str) -> dict[str, str]:
        threads.append(threading.get_ident())
        return {"scene": "a", "path": "b"}

    monkeypatch.setattr(routes, "editor_origin", editor_origin)

    async def ask():
        threads.append(threading.get_ident())
        return await routes.graph_origin.__wrapped__({"node": "0", "graph": chain(1)})

    answer = awaited(ask())
    assert (
        answer.text
        == '{"origin": {"scene": "a", "path": "b"}, "file_missing": false, "video": null}'
    )
    of_loop, of_work = threads
    assert of_loop != of_work
