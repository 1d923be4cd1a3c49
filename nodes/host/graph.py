"""Read ComfyUI's graph: which node an input is linked to, and which values a result was made from.

``validate_inputs`` gets only a node's own values. Many errors show only in two nodes together
(poses are expected beside a video that has none), so the graph of a request is noted before
ComfyUI checks it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, TypeGuard

import folder_paths

from ...egox_core.errors import EgoXInputError
from ...egox_core.facts import Declared
from ...egox_core.frames import Frames
from ...egox_core.types import FrameSelection
from ...egox_core.video import open_clip
from ...egox_core.wan import check_weights
from .paths import TAKE_FILES, resolve

Graph = Mapping[str, Mapping]
"""Graph in ComfyUI's form: ``{node id: {"class_type": …, "inputs": {name: value, or [node id,
slot]}}}``."""
LOADER = "EgoXLoadExoVideo"
SELECTION = ("start_frame", "frame_count", "target_fps", "resize", "width", "height")
"""Inputs of Load Exo Video that select frames."""
FROM_NODES = ("video", "images")
"""Inputs of Load Exo Video that replace its file."""
TEXT_NODES = ("PrimitiveString", "PrimitiveStringMultiline")
"""Nodes of ComfyUI that hand on the text which they hold."""
LONGEST_NAME = 1000
MAX_LOOKUPS = 500
"""Largest number of texts of a graph that are looked for on the disk, in some twenty folders each.
A graph has tens."""
LONGEST_SHOWN = 60
"""Longest text, in characters, that is shown as it is."""
SAFETENSORS = (".safetensors", ".sft")
LOADERS = {
    "model": ("unet_name", "diffusion_models", "model"),
    "low_noise_model": ("unet_name", "diffusion_models", "model"),
    "clip": ("clip_name", "text_encoders", "text encoder"),
    "vae": ("vae_name", "vae", "VAE"),
    "clip_vision": ("clip_name", "clip_vision", "CLIP vision"),
}
"""For an input of a node: the loader's input with the file name, ComfyUI's folder, and the kind of
file."""
_CHECKED_GRAPH: ContextVar[Graph | None] = ContextVar("egox_checked_graph", default=None)
_REQUESTED_NODES: ContextVar[list | None] = ContextVar("egox_asked_nodes", default=None)


def note_graphs() -> None:
    """Register :func:`note_graph` for every graph that ComfyUI is about to check."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.add_on_prompt_handler(note_graph)


def note_graph(request: dict) -> dict:
    """Store a request's graph for :func:`checked_inputs`, and return the request unchanged."""
    request_body = request if isinstance(request, dict) else {}
    graph = request_body.get("prompt")
    _CHECKED_GRAPH.set(graph if isinstance(graph, Mapping) else None)
    _REQUESTED_NODES.set(request_body.get("partial_execution_targets"))
    return request


def is_only_target(node_id: str) -> bool:
    """Check whether a request asks ComfyUI to run this node alone."""
    return _REQUESTED_NODES.get() == [node_id]


def checked_inputs(node: type) -> tuple[Graph, str]:
    """Look up the graph and node id that ComfyUI is validating, or ({}, "")."""
    graph = _CHECKED_GRAPH.get()
    (_, node_id) = this_node(node)
    return (graph, node_id) if graph is not None and node_id in graph else ({}, "")


def this_node(node: type) -> tuple[Graph, str]:
    """Look up the running graph and the node's id in it, or ({}, "") outside ComfyUI.

    The node class has to declare both as hidden inputs.
    """
    hidden_inputs = getattr(node, "hidden", None)
    return (
        ({}, "")
        if hidden_inputs is None
        else (hidden_inputs.prompt or {}, str(hidden_inputs.unique_id))
    )


def workflow_id(node: type) -> str:
    """Look up the id of the workflow that the page runs, or "" without a page.

    The node class has to declare ``extra_pnginfo`` as a hidden input.
    """
    extra_info = getattr(getattr(node, "hidden", None), "extra_pnginfo", None) or {}
    return str(extra_info.get("workflow", {}).get("id", ""))


def check_or_message(
    node: type, check: Callable[[Graph, str], None], known: bool | str = True
) -> bool | str:
    """Run a check inside ``validate_inputs``, and return True or the error's message.

    ``known`` is the result of an earlier check, whose message is returned unchanged. The node
    must declare its id (``hidden=[io.Hidden.unique_id]``) and name an input that always has a
    value or a link: ComfyUI shows the message once for each input that is named.
    """
    graph, node_id = checked_inputs(node)
    try:
        if graph and known is True:
            check(graph, node_id)
    except EgoXInputError as error:
        return str(error)
    return known


def inputs_of(graph: Graph, node_id: str) -> Mapping:
    """Look up a node's inputs, which are empty if the graph has no such node."""
    node_entry = graph.get(node_id)
    inputs = node_entry.get("inputs") if isinstance(node_entry, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def linked_node_id(graph: Graph, node_id: str, name: str) -> str | None:
    """Look up the id of the node that an input is linked to, or None."""
    input_value = inputs_of(graph, node_id).get(name)
    is_link = (
        isinstance(input_value, list)
        and len(input_value) == 2
        and isinstance(input_value[0], str)
        and input_value[0] in graph
    )
    return input_value[0] if is_link else None


def output_is_used(graph: Graph, node_id: str, output: int) -> bool:
    """Check whether any node has an input that is linked to this output."""
    return any([node_id, output] in inputs_of(graph, other_id).values() for other_id in graph)


def upstream_ids(graph: Graph, node_id: str) -> list[str]:
    """List the node and all nodes that its inputs come from, over any number of links."""
    node_ids = dict[str, None]()
    pending = [node_id]
    while pending:
        current_id = pending.pop()
        if current_id not in node_ids:
            node_ids[current_id] = None
            pending += _source_ids(graph, current_id)
    return list(node_ids)


def _source_ids(graph: Graph, node_id: str) -> list[str]:
    """List the nodes that a node's inputs are linked to."""
    return [
        source
        for name in inputs_of(graph, node_id)
        if (source := linked_node_id(graph, node_id, name))
    ]


def upstream_files(graph: Graph, node_id: str, names: Iterable[str]) -> set[str]:
    """List the files that all nodes upstream of some inputs name."""
    node_ids_behind = {
        node_id_behind
        for name in names
        if (source := linked_node_id(graph, node_id, name))
        for node_id_behind in upstream_ids(graph, source)
    }
    input_values = [
        value
        for node_id_behind in node_ids_behind
        for value in inputs_of(graph, node_id_behind).values()
    ]
    return {value for value in input_values if _find_file(value) is not None}


def upstream_values(graph: Graph, node_id: str) -> dict[str, dict]:
    """Collect the input values of all nodes that led to a result.

    A long text, or a value of another type, is replaced by a digest (``{"digest": …}``).
    """
    return {
        upstream_id: {
            "kind": graph[upstream_id].get("class_type"),
            "values": {
                name: _shorten_value(value)
                for name, value in inputs_of(graph, upstream_id).items()
                if linked_node_id(graph, upstream_id, name) is None
            },
        }
        for upstream_id in upstream_ids(graph, node_id)
        if upstream_id in graph
    }


def _shorten_value(value: object) -> object:
    value = _normalize_value(value)
    if (
        value is None
        or isinstance(value, (bool, float))
        or (isinstance(value, str) and len(value) <= LONGEST_SHOWN)
    ):
        return value
    return {
        "digest": hashlib.sha256(
            json.dumps(value, sort_keys=True, default=str).encode()
        ).hexdigest()[:16]
    }


def weights_file(graph: Graph, node_id: str, name: str) -> Path | None:
    """Find the weight file of the loader node that an input is linked to, or None.

    Nodes that pass the model on under the same name are skipped.
    """
    widget_name, folder, _ = LOADERS[name]
    current_id = linked_node_id(graph, node_id, name)
    passed_nodes = set[str]()
    while current_id is not None and current_id not in passed_nodes:
        file_name = inputs_of(graph, current_id).get(widget_name)
        if isinstance(file_name, str):
            path = folder_paths.get_full_path(folder, file_name)
            return Path(path) if path and path.lower().endswith(SAFETENSORS) else None
        passed_nodes.add(current_id)
        current_id = linked_node_id(graph, current_id, name.removeprefix("low_noise_"))
    return None


def check_weights_of(graph: Graph, node_id: str, names: Iterable[str] = LOADERS) -> None:
    """Check by file headers that the weight files behind a node's inputs are of the right kind.

    Raises:
        EgoXInputError: names the file, what it is and what to take.
    """
    for name in names:
        if file := weights_file(graph, node_id, name):
            # The host takes small VAEs of other names, too.
            check_weights(file, LOADERS[name][2], unknown=name in ("vae", "clip_vision"))


def check_encoders(graph: Graph, node_id: str) -> None:
    """Check the weight files of text encoder, VAE and CLIP vision."""
    check_weights_of(graph, node_id, ("clip", "vae", "clip_vision"))


def exo_video(graph: Graph, node_id: str) -> Path | None:
    """Find the video file that an input's frames come from, or None before it is known."""
    loader_id = linked_node_id(graph, node_id, "frames")
    if (
        loader_id is None
        or graph[loader_id].get("class_type") != LOADER
        or any(linked_node_id(graph, loader_id, file_name) for file_name in FROM_NODES)
    ):
        return None
    file_name = inputs_of(graph, loader_id).get("file")
    return _find_file(file_name)


def frames_in_use(graph: Graph, node_id: str) -> Frames | None:
    """Predict which video frames an input will get, before a run.

    Raises:
        EgoXInputError: as :func:`selection_of`.
    """
    loader_id = linked_node_id(graph, node_id, "frames")
    is_loader = loader_id is not None and graph[loader_id].get("class_type") == LOADER
    return selection_of(graph, loader_id) if is_loader else None


def selection_of(graph: Graph, loader: str) -> FrameSelection | None:
    """Build the frame selection of a Load Exo Video node from its input values, or return None.

    Raises:
        EgoXInputError: a file that is not there or no video, frames that it doesn't have.
    """
    input_values = inputs_of(graph, loader)
    selection_options: dict[str, Any] = {name: input_values.get(name) for name in SELECTION}
    is_linked = any(linked_node_id(graph, loader, name) for name in FROM_NODES)
    if is_linked or not isinstance(input_values.get("file"), str):
        return None
    video_path = resolve(input_values["file"], "exo video")
    if not all(isinstance(value, (int, float, str)) for value in selection_options.values()):
        return None
    declared = _text_of(graph, loader, "declared")
    if declared is None:
        return None
    declared_facts = Declared.of(declared, own=("exo.part",))
    exo_part = declared_facts.over(Declared.of_folder(video_path.parent)).exo_part
    clip = open_clip(video_path, exo_part=exo_part, **selection_options)
    return clip.selection


def _text_of(graph: Graph, node_id: str, name: str) -> str | None:
    """Look up a text, also of the host's text node, or return None if only a run tells."""
    source_id = linked_node_id(graph, node_id, name)
    value = inputs_of(graph, node_id).get(name) or ""
    if source_id is not None and graph[source_id].get("class_type") in TEXT_NODES:
        value = inputs_of(graph, source_id).get("value")
    return value if isinstance(value, str) else None


def sidecar_missing(graph: Graph, node_id: str, name: str) -> bool:
    """Check whether a file is certainly missing beside the exo video."""
    if graph and "frames" not in inputs_of(graph, node_id):
        return True
    loader_id = linked_node_id(graph, node_id, "frames")
    if loader_id is not None and linked_node_id(graph, loader_id, "images") is not None:
        return True  # pictures have no folder
    video_path = exo_video(graph, node_id)
    return video_path is not None and not (video_path.parent / name).is_file()


def input_digest(graph: Graph, node_id: str, names: Iterable[str]) -> str:
    """Compute a digest of some inputs of a node, with all upstream values and files.

    Node ids don't count, and files count by their sizes, so that a graph that was saved and
    opened on another machine keeps its digest. Files beyond the first MAX_LOOKUPS count by their
    names alone.

    Raises:
        EgoXInputError: a circle, values too deep to be a graph that runs.
    """
    try:
        content = json.dumps(_NodeDigests(graph).digest_inputs(node_id, sorted(names)))
    except (CycleError, RecursionError) as error:
        raise EgoXInputError(
            "graph",
            got="a circle, or values too deep to follow",
            expected="a graph that runs",
            fix="remove the circle",
        ) from error
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class _NodeDigests:
    """Compute the digests of a graph's nodes, each once."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._digests = graph, dict[str, str]()
        self._files = dict[str, list[int]]()

    def digest_inputs(self, node_id: str, names: Iterable[str]) -> list:
        inputs = inputs_of(self._graph, node_id)
        return [
            [name, self._digest_value(node_id, name, inputs[name])]
            for name in names
            if name in inputs
        ]

    def _digest_value(self, node_id: str, name: str, value: Any) -> object:
        source_id = linked_node_id(self._graph, node_id, name)
        if source_id is None:
            return [_normalize_value(value), self._digest_file(value)]
        return [self._digest_node(source_id), value[1]]

    def _digest_node(self, node_id: str) -> str:
        if node_id not in self._digests:
            sources = {
                upstream_id: _source_ids(self._graph, upstream_id)
                for upstream_id in upstream_ids(self._graph, node_id)
            }
            for upstream_id in TopologicalSorter(sources).static_order():
                if upstream_id not in self._digests:
                    content = [
                        self._graph[upstream_id].get("class_type"),
                        self.digest_inputs(
                            upstream_id, sorted(inputs_of(self._graph, upstream_id))
                        ),
                    ]
                    self._digests[upstream_id] = hashlib.sha256(
                        json.dumps(content).encode()
                    ).hexdigest()
        return self._digests[node_id]

    def _digest_file(self, value: object) -> list[int]:
        if not _may_be_file(value):
            return []
        if value not in self._files and len(self._files) < MAX_LOOKUPS:
            self._files[value] = _file_state(value)
        return self._files.get(value, [])


def _normalize_value(value: object) -> object:
    """Convert an input value to one form, whether the page or ComfyUI passed it.

    Numbers become floats, and wrapped lists are unpacked.
    """
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _file_state(value: object) -> list[int]:
    """Describe the state of a named file or folder by sizes and counts."""
    file_path = _find_file(value)
    if file_path is None:
        return []
    if file_path.is_dir():
        return [sum(1 for _ in file_path.iterdir())]
    return [
        p.stat().st_size if p.is_file() else 0
        for p in (file_path, *(file_path.parent / name for name in TAKE_FILES))
    ]


def _may_be_file(value: object) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and bool(value.strip())
        and len(value) <= LONGEST_NAME
        and "\n" not in value
    )


def _find_file(value: object) -> Path | None:
    if not _may_be_file(value):
        return None
    try:
        return resolve(value, "file", folder_too=True)
    except (EgoXInputError, OSError):
        return None
