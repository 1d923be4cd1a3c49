"""Test the schema of every node: ids, inputs, tooltips and category."""

import inspect
import re
from pathlib import Path

import pytest

from egox_core.safe_files import read_json

VERSIONS = ("version_1_0", "version_1_1", "version_1_2", "version_1_3")
"""Files that record each version's inputs, choices, defaults, limits and outputs, and never
change."""


@pytest.fixture(scope="module")
def schemas(pack):
    """List the class and schema of every node."""
    return [(node, node.GET_SCHEMA()) for node in pack.nodes.extension.NODES]


def list_inputs(schema):
    return [entry for input_group in schema.inputs for entry in input_group.get_all()]


def test_ids_and_categories_have_the_required_form(schemas):
    for _, schema in schemas:
        assert re.fullmatch(r"EgoX[A-Z][A-Za-z0-9]+", schema.node_id), schema.node_id
        assert re.fullmatch(r"EgoX/[^/]+", schema.category), (
            f"{schema.node_id}: category {schema.category!r}"
        )
        assert schema.display_name and schema.description, (
            f"{schema.node_id} needs a display name and a description"
        )


def test_execute_takes_the_declared_inputs(schemas):
    for node, schema in schemas:
        declared_names = [entry.id for entry in schema.inputs]
        assert len(declared_names) == len(set(declared_names)), schema.node_id
        signature = inspect.signature(node.execute)
        signature.bind(**dict.fromkeys(declared_names))
        # The host leaves an unlinked optional input out of the call.
        signature.bind(**{entry.id: None for entry in schema.inputs if not entry.optional})


@pytest.mark.parametrize("version", VERSIONS)
def test_saved_workflows_of_a_version_keep_loading(schemas, version):
    current_schemas = {schema.node_id: schema for _, schema in schemas}
    for node_id, recorded_form in read_json(Path(__file__).with_name(f"{version}.json")).items():
        input_entries = list_inputs(current_schemas[node_id])
        inputs = [f"{entry.id} {entry.get_io_type()}" for entry in input_entries]
        outputs = [output.get_io_type() for output in current_schemas[node_id].outputs]
        assert inputs[: len(recorded_form["inputs"])] == recorded_form["inputs"], node_id
        assert outputs[: len(recorded_form["outputs"])] == recorded_form["outputs"], node_id
        choices = {entry.id: getattr(entry, "options", None) for entry in input_entries}
        for name, old_values in recorded_form.get("choices", {}).items():
            assert set(old_values) <= set(choices[name]), f"{node_id}.{name}"
        values = {entry.id: entry.as_dict() for entry in input_entries}
        for name, old_values in recorded_form.get("values", {}).items():
            limits = [values[name][limit] for limit in ("default", "min", "max")[: len(old_values)]]
            assert limits[0] == old_values[0], f"{node_id}.{name}"
            if old_values[1:]:  # what was allowed still is
                assert limits[1] <= old_values[1] and limits[2] >= old_values[2], (
                    f"{node_id}.{name}"
                )


def test_helpers_take_declared_inputs_only(schemas):
    for node, schema in schemas:
        declared_names = {entry.id for entry in list_inputs(schema)} | {"input_types"}
        for name in ("validate_inputs", "fingerprint_inputs", "check_lazy_status"):
            function = node.__dict__.get(name)
            if function is None:
                continue
            parameters = inspect.signature(getattr(node, name)).parameters.values()
            parameter_names = {
                parameter.name
                for parameter in parameters
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            }
            assert parameter_names <= declared_names, (
                f"{schema.node_id}.{name} names {parameter_names - declared_names}"
            )


def test_every_input_and_output_is_explained(schemas):
    for _, schema in schemas:
        assert schema.search_aliases, schema.node_id
        for entry in list_inputs(schema):
            name = f"{schema.node_id}.{entry.id}"
            assert entry.tooltip and len(entry.tooltip.strip()) >= 10, name
            is_seed = entry.id in ("seed", "noise_seed")
            assert not is_seed or entry.as_dict()["control_after_generate"] is not None, name
        assert all(output.display_name or output.id for output in schema.outputs), schema.node_id
