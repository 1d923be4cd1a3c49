"""Nodes that look at what the exo cache holds in the server, and one that makes a run fail. For tests only."""

from __future__ import annotations

import gc

from comfy_api.latest import io

CATEGORY = "EgoX/tests"
most_bytes = 0
"""Largest sum seen inside forwards since it was last asked for."""


def kept_bytes() -> int:
    """Memory of all exo caches in this process."""
    return sum(found.kept_bytes for found in gc.get_objects() if type(found).__name__ == "ExoCache")


class WatchExo(io.ComfyNode):
    """MODEL to MODEL: notes what is kept before each forward, and fails at the one asked for."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXTestsWatchExo", display_name="Watch Exo (tests)", category=CATEGORY,
            inputs=[io.Model.Input("model", tooltip="Before or after the patch."),
                    io.Int.Input("fail_at", default=0, min=0, tooltip="Number of the forward; 0: none.")],
            outputs=[io.Model.Output()])

    @classmethod
    def execute(cls, model, fail_at: int) -> io.NodeOutput:
        calls = []

        def watched(executor, *args, **kwargs):
            global most_bytes
            calls.append(1)
            most_bytes = max(most_bytes, kept_bytes())
            if len(calls) == fail_at:
                raise RuntimeError("failed as asked")
            return executor(*args, **kwargs)

        other = model.clone()
        other.add_wrapper_with_key("apply_model", "watch_exo", watched)
        return io.NodeOutput(other)


class ExoMemory(io.ComfyNode):
    """Output: the most that was kept since it was last asked for, and what is kept now, in bytes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXTestsExoMemory", display_name="Exo Memory (tests)", category=CATEGORY, is_output_node=True,
            inputs=[io.Int.Input("number", tooltip="Another one each time, so that it runs.")], outputs=[])

    @classmethod
    def execute(cls, number: int) -> io.NodeOutput:
        global most_bytes
        seen, most_bytes = (most_bytes, kept_bytes()), 0
        return io.NodeOutput(ui={"bytes": seen})


EXO_MEMORY = (WatchExo, ExoMemory)
