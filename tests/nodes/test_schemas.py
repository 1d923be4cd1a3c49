"""Every node keeps the promises of its schema: ids, inputs, tooltips, category."""

from __future__ import annotations

import inspect
import re

import pytest


@pytest.fixture(scope="module")
def schemas(pack):
    """(class, finalised schema) of every node in the pack."""
    return [(node, node.GET_SCHEMA()) for node in pack.nodes.extension.NODES]


def inputs_of(schema):
    return [entry for declared in schema.inputs for entry in declared.get_all()]


def test_ids_and_categories(schemas) -> None:
    for _, schema in schemas:
        assert re.fullmatch(r"EgoX[A-Z][A-Za-z0-9]+", schema.node_id), schema.node_id
        assert re.fullmatch(r"EgoX/[^/]+", schema.category), f"{schema.node_id}: category {schema.category!r}"
        assert schema.display_name and schema.description, f"{schema.node_id} needs a display name and a description"


def test_execute_takes_exactly_the_declared_inputs(pack, schemas) -> None:
    for node, schema in schemas:
        declared = [entry.id for entry in schema.inputs]
        assert len(declared) == len(set(declared)), f"{schema.node_id}: an input is declared twice"
        parameters = dict(inspect.signature(node.execute).parameters)
        shared = set()  # the inputs of geometry-guided attention, which two nodes take and hand on as a whole
        if "gga" in parameters:
            assert parameters.pop("gga").kind is inspect.Parameter.VAR_KEYWORD
            shared = {entry.id for entry in pack.nodes.gga_inputs.gga_inputs()}
        assert all(p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL for p in parameters.values())
        assert not shared & set(parameters), f"{schema.node_id}: a shared input is named again"
        assert set(declared) == set(parameters) | shared, f"{schema.node_id}: {declared}, execute {list(parameters)}"
        for entry in schema.inputs:
            if entry.id in shared:
                assert not entry.optional, f"{schema.node_id}.{entry.id}: the host may leave it out of the call"
                continue
            has_default = parameters[entry.id].default is not inspect.Parameter.empty
            # The host leaves an unlinked optional input out of the call.
            assert has_default or not entry.optional, f"{schema.node_id}.{entry.id}: optional, without a default"


def test_helpers_take_declared_inputs_only(schemas) -> None:
    for node, schema in schemas:
        declared = {entry.id for entry in inputs_of(schema)} | {"input_types"}
        for name in ("validate_inputs", "fingerprint_inputs", "check_lazy_status"):
            function = node.__dict__.get(name)
            if function is None:
                continue
            parameters = inspect.signature(getattr(node, name)).parameters.values()
            named = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
            assert named <= declared, f"{schema.node_id}.{name} names {named - declared}"


def test_every_input_and_output_is_explained(schemas) -> None:
    for _, schema in schemas:
        for entry in inputs_of(schema):
            assert entry.tooltip and len(entry.tooltip.strip()) >= 10, f"{schema.node_id}.{entry.id} has no tooltip"
        for output in schema.outputs:
            assert output.display_name or output.id, f"{schema.node_id}: an output without a name"


def test_custom_sockets_are_ours(schemas) -> None:
    known = {"EGOX_DEPTH", "EGOX_TRAJECTORY", "EGOX_SCENE", "EGOX_CANVAS", "EGOX_FRAMES",
             "EGOX_ATTENTION"}
    for _, schema in schemas:
        for slot in [*schema.inputs, *schema.outputs]:
            kind = slot.get_io_type() if hasattr(slot, "get_io_type") else slot.io_type
            if str(kind).startswith("EGOX"):
                assert kind in known, f"{schema.node_id}: socket type {kind} is not in CONVENTIONS"


def test_a_seed_says_whether_it_changes_after_each_run(schemas) -> None:
    """Left open, the editor adds the control by the input's name; saying it keeps saved workflows in step."""
    for _, schema in schemas:
        for entry in inputs_of(schema):
            if entry.id in ("seed", "noise_seed"):
                assert entry.as_dict().get("control_after_generate") is not None, f"{schema.node_id}.{entry.id}"


def test_a_node_opens_with_at_most_eight_rows(schemas) -> None:
    """Rows that can be edited; a seed has one more, which says what becomes of it. What is rare is advanced."""
    from comfy_api.latest import io

    for _, schema in schemas:
        rows = [entry for entry in inputs_of(schema)
                if isinstance(entry, io.WidgetInput) and not entry.advanced and not entry.force_input]
        seeds = [entry for entry in rows if entry.as_dict().get("control_after_generate")]
        assert len(rows) + len(seeds) <= 8, f"{schema.node_id}: {[entry.id for entry in rows]}"


@pytest.mark.parametrize(("typed", "node"), [
    ("pov", "EgoXRenderEgoPrior"), ("first person", "EgoXEgoPoseInput"), ("third person", "EgoXLoadExoVideo"),
    ("exo to ego", "EgoXWanSampler"), ("一人称視点", "EgoXWanSampler"), ("1인칭 시점", "EgoXWanSampler"),
    ("第一人称视角", "EgoXWanSampler"), ("moge", "EgoXDepthAlign"), ("xy plot", "EgoXSweep")])
def test_the_host_s_search_finds_a_node_by_common_words(schemas, typed: str, node: str) -> None:
    assert typed in next(schema.search_aliases for _, schema in schemas if schema.node_id == node)


def test_every_node_can_be_searched_in_every_language(pack, schemas) -> None:
    from egox_pack.nodes.search_words import ESSENTIALS, SEARCH_WORDS

    assert set(SEARCH_WORDS) == {schema.node_id for _, schema in schemas} >= set(ESSENTIALS)
    for _, schema in schemas:
        words = schema.search_aliases
        assert len(words) == len(set(words)) and schema.essentials_category == ESSENTIALS.get(schema.node_id)
        for script in (r"[a-z]{3}", r"[\u3040-\u30ff\u4e00-\u9fff]", r"[\uac00-\ud7af]"):
            assert any(re.search(script, word) for word in words), f"{schema.node_id}: no word like {script}"
