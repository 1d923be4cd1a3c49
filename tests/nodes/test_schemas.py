"""Every node keeps the promises of its schema: ids, inputs, tooltips, category."""

import inspect
import re
from pathlib import Path

import pytest

from egox_core.safe_files import read_json

VERSIONS = ("version_1_0", "version_1_1", "version_1_2", "version_1_3")
"""Files with the inputs, their choices, defaults and limits, and the outputs of each version. They
never change; what is added later isn't in them."""


@pytest.fixture(scope="module")
def schemas(pack):
    """List class and finalised schema of every node in the pack."""
    return [(node, node.GET_SCHEMA()) for node in pack.nodes.extension.NODES]


def inputs_of(schema):
    return [entry for declared in schema.inputs for entry in declared.get_all()]


def test_ids_and_categories(schemas):
    for _, schema in schemas:
        assert re.fullmatch(r"EgoX[A-Z][A-Za-z0-9]+", schema.node_id), schema.node_id
        assert re.fullmatch(r"EgoX/[^/]+", schema.category), (
            f"{schema.node_id}: category {schema.category!r}"
        )
        assert schema.display_name and schema.description, (
            f"{schema.node_id} needs a display name and a description"
        )


def test_execute_takes_exactly_the_declared_inputs(pack, schemas):
    # What a node may hand on as a whole -> whether it has a default there.
    gga = {entry.id: False for entry in pack.nodes.gga_inputs.gga_inputs()}
    clip = inspect.signature(pack.nodes.sampling.sample_clip).parameters.values()
    inputs_by_socket = {
        "gga": gga,
        "sampling": gga | {p.name: p.default is not p.empty for p in clip},
    }
    for node, schema in schemas:
        declared = [entry.id for entry in schema.inputs]
        assert len(declared) == len(set(declared)), f"{schema.node_id}: an input is declared twice"
        parameters = dict(inspect.signature(node.execute).parameters)
        assert all(p.kind is not p.VAR_POSITIONAL for p in parameters.values())
        rest = [name for name, p in parameters.items() if p.kind is p.VAR_KEYWORD]
        named = {k: p.default is not p.empty for k, p in parameters.items() if k not in rest}
        shared = {
            k: v for name in rest for k, v in inputs_by_socket[name].items() if k not in named
        }
        assert not rest or gga.keys() <= shared.keys(), f"{schema.node_id}: named again"
        assert named.keys() <= set(declared) <= named.keys() | shared.keys(), (
            f"{schema.node_id}: {declared}, execute {list(named)}"
        )
        for entry in schema.inputs:
            # The host leaves an unlinked optional input out of the call.
            assert (named | shared)[entry.id] or not entry.optional, (
                f"{schema.node_id}.{entry.id}: optional, without a default"
            )


@pytest.mark.parametrize("version", VERSIONS)
def test_saved_workflows_of_a_version_keep_loading(schemas, version):
    """Nothing is renamed, moved or removed, and nothing means something else."""
    now = {schema.node_id: schema for _, schema in schemas}
    for node_id, form in read_json(Path(__file__).with_name(f"{version}.json")).items():
        entries = inputs_of(now[node_id])
        inputs = [f"{entry.id} {entry.get_io_type()}" for entry in entries]
        outputs = [output.get_io_type() for output in now[node_id].outputs]
        assert inputs[: len(form["inputs"])] == form["inputs"], node_id
        assert outputs[: len(form["outputs"])] == form["outputs"], node_id
        choices = {entry.id: getattr(entry, "options", None) for entry in entries}
        for name, old_values in form.get("choices", {}).items():
            assert set(old_values) <= set(choices[name]), f"{node_id}.{name}"
        values = {entry.id: entry.as_dict() for entry in entries}
        for name, old_values in form.get("values", {}).items():
            limits = [values[name][limit] for limit in ("default", "min", "max")[: len(old_values)]]
            assert limits[0] == old_values[0], f"{node_id}.{name}"
            if old_values[1:]:  # what was allowed still is
                assert limits[1] <= old_values[1] and limits[2] >= old_values[2], (
                    f"{node_id}.{name}"
                )


def test_helpers_take_declared_inputs_only(schemas):
    for node, schema in schemas:
        declared = {entry.id for entry in inputs_of(schema)} | {"input_types"}
        for name in ("validate_inputs", "fingerprint_inputs", "check_lazy_status"):
            function = node.__dict__.get(name)
            if function is None:
                continue
            parameters = inspect.signature(getattr(node, name)).parameters.values()
            named = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
            assert named <= declared, f"{schema.node_id}.{name} names {named - declared}"


def test_every_input_and_output_is_explained(schemas):
    for _, schema in schemas:
        for entry in inputs_of(schema):
            assert entry.tooltip and len(entry.tooltip.strip()) >= 10, (
                f"{schema.node_id}.{entry.id} has no tooltip"
            )
        for output in schema.outputs:
            assert output.display_name or output.id, f"{schema.node_id}: an output without a name"


def test_a_seed_says_whether_it_changes_after_each_run(schemas):
    """If that is left open, the editor adds the control by the input's name. Stating it keeps saved
    workflows in step."""
    for _, schema in schemas:
        for entry in inputs_of(schema):
            if entry.id in ("seed", "noise_seed"):
                assert entry.as_dict().get("control_after_generate") is not None, (
                    f"{schema.node_id}.{entry.id}"
                )


def test_every_node_has_its_search_words(pack, schemas):
    from egox_pack.nodes.search_words import ESSENTIALS, SEARCH_WORDS

    assert set(SEARCH_WORDS) == {schema.node_id for _, schema in schemas} >= set(ESSENTIALS)
    for _, schema in schemas:
        assert schema.search_aliases and schema.essentials_category == ESSENTIALS.get(
            schema.node_id
        )
