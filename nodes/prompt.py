"""EgoX Prompt: the two sections, joined and cleaned for the text encoder."""

from __future__ import annotations

from comfy_api.latest import io

from ..egox_core.wan.text import DEFAULT_NEGATIVE, clean_prompt, escape_emphasis, join_sections, split_sections


class EgoXPrompt(io.ComfyNode):
    """The take's prompt, either section of it rewritten by hand, and a negative prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXPrompt",
            display_name="EgoX Prompt",
            category="EgoX/model",
            description="Joins what the exo camera sees and what the wearer sees into the prompt that the model was "
                        "trained on. Parentheses stay plain characters.",
            inputs=[
                io.String.Input("prompt", default="", multiline=True, optional=True,
                                tooltip="The take's prompt (from Ego Pose Input), with both sections."),
                io.String.Input("exo_view", default="", multiline=True,
                                tooltip="What the exo camera sees. Not empty: replaces the take's [Exo view] section."),
                io.String.Input("ego_view", default="", multiline=True,
                                tooltip="What the wearer sees and does. Not empty: replaces the [Ego view] section."),
                io.String.Input("negative", default=DEFAULT_NEGATIVE, multiline=True,
                                tooltip="What should not be seen; without effect at cfg 1."),
            ],
            outputs=[
                io.String.Output(display_name="positive", tooltip="For the text encoder."),
                io.String.Output(display_name="negative", tooltip="For the other text encoder."),
            ],
        )

    @classmethod
    def execute(cls, exo_view, ego_view, negative, prompt="") -> io.NodeOutput:
        exo, ego = split_sections(prompt)
        positive = join_sections(exo_view.strip() or exo, ego_view.strip() or ego)
        return io.NodeOutput(*(escape_emphasis(clean_prompt(text)) for text in (positive, negative)))
