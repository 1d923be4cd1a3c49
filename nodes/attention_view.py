"""EgoX Attention View: where in the exo video an ego pixel looks, with geometry and without."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from ..egox_core.errors import EgoXInputError
from ..egox_core.gga.record import AttentionRecord, AttentionRows, attention_rows, ego_query
from ..egox_core.previews.attention import attention_grid, exo_share, frame_of_latent, heat_picture, heats
from ..egox_core.sizes import FRAMES_PER_LATENT
from .clip_preview import Stream, preview_ui
from .host_progress import host_progress
from .io_types import EgoXAttention

ALL_HEADS = -1
SAME_FRAME, ALL_FRAMES = "same frame", "all frames"
TOKEN = 16  # px of a token's side
PICK = {"x": "ego_x", "y": "ego_y", "frame": "frame"}


class EgoXAttentionView(io.ComfyNode):
    """Draws what EgoX Attention Capture kept; a click in the ego picture chooses another pixel, without sampling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXAttentionView",
            display_name="EgoX Attention View",
            category="EgoX/attention",
            description="For one ego pixel, over the exo frame: the geometry's weight g, and the model's real "
                        "attention with the geometry and without (the paper's Figure 7). Another pixel needs no new "
                        "sampling.",
            inputs=[
                EgoXAttention.Input("attention", tooltip="From EgoX Attention Capture, whose model was sampled."),
                io.Image.Input("exo_images", tooltip="The exo video's frames, from Load Exo Video."),
                io.Image.Input("ego_images", tooltip="The sampled ego video, upright, from Decode Ego Half. The pixel "
                                                     "is chosen in it."),
                io.Int.Input("ego_x", default=224, min=0, max=4095,
                             tooltip="Column of the ego pixel. Clicking into the ego picture on this node sets it."),
                io.Int.Input("ego_y", default=224, min=0, max=4095, tooltip="Row of the ego pixel."),
                io.Int.Input("frame", default=0, min=0, max=100000, tooltip="Frame of the ego pixel."),
                io.Boolean.Input("all_frames", default=False,
                                 tooltip="The same pixel in every latent frame (0, 4, 8, ...), one picture each, "
                                         "instead of the one frame."),
                io.Combo.Input("exo_frames", options=[SAME_FRAME, ALL_FRAMES], default=SAME_FRAME,
                               tooltip="Which exo frames the attention goes to: the one of the same time, or the sum "
                                       "over the whole clip (g: the mean)."),
                io.Int.Input("head", default=ALL_HEADS, min=ALL_HEADS, max=999, advanced=True,
                             tooltip="One attention head, or -1 for the mean over all."),
            ],
            outputs=[
                io.Image.Output(display_name="view", tooltip="The pictures with their legends."),
                io.String.Output(display_name="report", tooltip="Step, block, and the exo half's share of attention."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, attention, exo_images, ego_images, ego_x, ego_y, frame, all_frames, exo_frames,
                head) -> io.NodeOutput:
        record = attention.record
        if record is None:
            raise EgoXInputError("captured attention", got="nothing", expected="a block of a sampled step",
                                 fix="connect the model of EgoX Attention Capture to the sampler whose video is "
                                     "connected to ego_images; if it is, ComfyUI dropped the capture to save memory: "
                                     "change the seed and run again")
        check_pictures(record, exo_images, ego_images)
        shown = [frame_of_latent(n) for n in record.latent_frames] if all_frames else [frame]
        queries = [ego_query(record, ego_x, ego_y, at) for at in shown]
        _check_shown(shown, exo_images, ego_images)
        progress = host_progress()
        rows = attention_rows(record, queries, None if head == ALL_HEADS else head, progress)
        per_frame = record.grid[1] * record.grid[3]
        views, maps = [], {}
        for place, (at, query) in enumerate(zip(shown, queries, strict=True)):
            keys = range(record.grid[0]) if exo_frames == ALL_FRAMES else [query // per_frame]
            caption = f"ego frame {at}, pixel {ego_x}, {ego_y}"
            found = heats(record, rows, place, keys)
            views.append(attention_grid(exo_images[at], ego_images[at], (ego_x, ego_y), found, caption))
            for heat in found:
                maps.setdefault(heat.name, []).append((heat_picture(exo_images[at], heat), heat.legend()))
            progress(place + 1, len(shown), "attention view")
        view, text = torch.stack(views), report(record, rows, head)
        ego = ego_images[shown, ..., :3] if all_frames else ego_images[..., :3]
        every = FRAMES_PER_LATENT if all_frames else 1
        streams = [Stream(name="ego", label="ego", frames=ego, pick=PICK, every=every)]
        for name, drawn in maps.items():
            # Each frame has its own scale of attention; the legend is the first one's where they are played.
            streams.append(Stream(name=name, label=name, frames=torch.stack([picture for picture, _ in drawn]),
                                  legend=drawn[0][1], max_side=max(exo_images.shape[1:3]), every=every))
        mark = {"x": ego_x, "y": ego_y, "frame": shown[0]}
        return io.NodeOutput(view, text, ui=preview_ui("attention", streams, text=text, mark=mark))


def check_pictures(record: AttentionRecord, exo_images: Tensor, ego_images: Tensor) -> None:
    """Refuse pictures that aren't those of the captured canvas.

    Raises:
        EgoXInputError: other sizes.
    """
    _, h, w_exo, w_ego = record.grid
    for name, pictures, w in (("exo_images", exo_images, w_exo), ("ego_images", ego_images, w_ego)):
        if tuple(pictures.shape[1:3]) != (TOKEN * h, TOKEN * w):
            raise EgoXInputError(name, got=f"{pictures.shape[2]}x{pictures.shape[1]} px",
                                 expected=f"{TOKEN * w}x{TOKEN * h} px, as on the canvas",
                                 fix="connect Load Exo Video and Decode Ego Half (view fisheye) of the same graph")


def _check_shown(shown: list[int], exo_images: Tensor, ego_images: Tensor) -> None:
    have = min(len(exo_images), len(ego_images))
    if max(shown) >= have:
        raise EgoXInputError("frame", got=max(shown), expected=f"0 to {have - 1}",
                             fix="connect as many exo and ego frames as were sampled")


def report(record: AttentionRecord, rows: AttentionRows, head: int) -> str:
    """Where the record is from, and how much of the attention the exo half gets."""
    heads = f"mean of {record.heads} heads" if head == ALL_HEADS else f"head {head}"
    lines = [f"step {record.step} of {record.steps} (sigma {record.sigma:.3f}), block {record.block} of "
             f"{record.blocks}, {heads}"]
    for name, row in (("with GGA", rows.guided), ("without GGA", rows.without)):
        if row is not None:
            lines.append(f"{name}: exo half {sum(exo_share(r, record.grid) for r in row) / len(row):.1%} of the "
                         "attention")
    if rows.guided is None:
        lines.append("The model is patched without geometry (λ_g 0 or mode off): nothing to compare with.")
    elif not record.guided:
        lines.append("The geometry does not act in this step and block: 'with GGA' is what it would do.")
    return "\n".join(lines)
