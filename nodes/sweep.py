"""EgoX Sweep: lists of λ_g and LoRA strength, over which the host runs the rest of the graph."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..egox_core.metrics.sweep import read_numbers, sweep_points


class EgoXSweep(io.ComfyNode):
    """Every pair once; what is connected to the lists runs once for each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXSweep",
            display_name="EgoX Sweep",
            category="EgoX/study",
            description="Every λ_g with every LoRA strength, as lists: the nodes that are connected to them run once "
                        "for each pair. Labelled Video Grid puts the results beside each other.",
            inputs=[
                io.String.Input("lambda_g", display_name="λ_g", default="0, 1, 3",
                                tooltip="Values of λ_g, parted by commas: a column of the grid each."),
                io.String.Input("strength", default="0.5, 1",
                                tooltip="Values of the LoRA's strength, parted by commas: a row of the grid each."),
            ],
            outputs=[
                io.Float.Output(display_name="λ_g", is_output_list=True,
                                tooltip="For λ_g of Wan EgoX Sampler or EgoX Model Patch."),
                io.Float.Output(display_name="strength", is_output_list=True, tooltip="For strength of EgoX LoRA."),
                io.String.Output(display_name="label", is_output_list=True,
                                 tooltip="A name for each pair, for Labelled Video Grid."),
                io.Int.Output(display_name="columns", tooltip="How many λ_g there are, for Labelled Video Grid."),
            ],
        )

    @classmethod
    def execute(cls, lambda_g, strength) -> io.NodeOutput:
        lambdas = read_numbers(lambda_g, "λ_g")
        points = sweep_points(lambdas, read_numbers(strength, "LoRA strength"))
        return io.NodeOutput([point.lambda_g for point in points], [point.strength for point in points],
                             [point.label for point in points], len(lambdas),
                             ui=ui.PreviewText(f"{len(points)} runs:\n" + "\n".join(p.label for p in points)))
