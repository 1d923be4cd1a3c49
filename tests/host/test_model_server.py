"""Test sampling on a real server in graphs other than the shipped ones."""

from tests.prompts import (
    end_at,
    inputs_of_type,
    node_id_of_type,
    record_texts,
    run_successfully,
    shrink_graph,
    use_standin_loaders,
)


def test_the_sampler_shows_the_time_that_is_left(client, load_workflow):
    prompt = end_at(shrink_graph(load_workflow("egox_demo"), steps=3), "EgoXWanSampler")
    inputs_of_type(prompt, "EgoXWanSampler")["seed"] = 77  # so that it really runs
    texts = []
    run_successfully(client, prompt, record_texts(texts))
    sampler_texts = [text.split(node_id_of_type(prompt, "EgoXWanSampler"), 1)[-1] for text in texts]
    first_index = next(
        i for i, text in enumerate(sampler_texts) if text.startswith("loading the model (")
    )
    assert sampler_texts[first_index].endswith("GB), then step 1 of 3")
    step_texts = [
        text
        for text in sampler_texts[first_index + 1 :]
        if text.startswith("step ") and ";" not in text
    ]
    assert step_texts[:2] == ["step 1 of 3", "step 2 of 3"], texts
    assert step_texts[2].startswith("step 3 of 3, 0:0")
    assert step_texts[2].endswith(" left")


def test_a_changed_input_runs_only_the_nodes_that_depend_on_it(client, load_workflow):
    prompt = use_standin_loaders(shrink_graph(load_workflow("egox_basic"), steps=1))
    prompt = end_at(prompt, sampler := "EgoXWanSampler")
    run_successfully(client, prompt)
    for class_type, name, value, expected in (
        (sampler, "lambda_g", 1.5, {sampler}),
        # Conditioning by what it remembers.
        ("EgoXLoadLora", "strength", 0.9, {sampler, "EgoXLoadLora", "EgoXConditioning"}),
        ("EgoXText", "negative", "blurred", {sampler, "EgoXText", "EgoXConditioning"}),
    ):
        inputs_of_type(prompt, class_type)[name] = value
        executed_types = {
            prompt[node]["class_type"] for node in run_successfully(client, prompt).executed_nodes
        }
        executed_egox_types = {each for each in executed_types if each.startswith("EgoX")}
        assert executed_egox_types == expected and not any(
            "Loader" in class_type for class_type in executed_types
        ), (name, executed_types)
