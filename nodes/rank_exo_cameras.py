"""Rank Exo Cameras: which of several takes of one event shows most of what the wearer saw."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..egox_core.prior.rank import ExoRank, rank_exo_cameras
from .exo_take import exo_candidates
from .host_progress import host_progress


class EgoXRankExoCameras(io.ComfyNode):
    """Take folders in, the best one and a table out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXRankExoCameras",
            display_name="Rank Exo Cameras",
            category="EgoX/input",
            description="Predicts for several exo takes how much of the ego view each would cover, and names the best. "
                        "With depth the renderer is asked at a small size; without it the poses alone are judged.",
            inputs=[
                io.String.Input("takes", default="", multiline=True,
                                tooltip="One take folder a line, in the input folder; each with a meta.json (exo and "
                                        "ego cameras) and, better, a depth file."),
                io.Boolean.Input("use_depth", default=True,
                                 tooltip="Judge by depth where all takes have it; off: by poses alone, faster."),
                io.Int.Input("frames", default=6, min=1, max=49,
                             tooltip="How many frames of each take to look at, spread over the clip."),
            ],
            outputs=[
                io.String.Output(display_name="best", tooltip="The folder of the best take."),
                io.Float.Output(display_name="coverage", tooltip="Its predicted share of the ego picture, 0 to 1."),
                io.String.Output(display_name="report", tooltip="All takes, best first."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, takes, use_depth, frames) -> io.NodeOutput:
        progress = host_progress()
        ranks = rank_exo_cameras(exo_candidates(takes, use_depth, progress), frames=frames, progress=progress)
        text = rank_table(ranks)
        return io.NodeOutput(ranks[0].name, ranks[0].coverage, text, ui=ui.PreviewText(text))


def rank_table(ranks: list[ExoRank]) -> str:
    """The ranking as lines of text."""
    lines = [f"{place}. {rank.name}: {100 * rank.coverage:.0f} % of the ego view "
             f"({100 * float(rank.by_frame.min()):.0f}-{100 * float(rank.by_frame.max()):.0f} % over the clip)"
             for place, rank in enumerate(ranks, 1)]
    return "\n".join((*lines, f"judged by {ranks[0].method}, frames {', '.join(map(str, ranks[0].frames))}"))
