"""Evaluate: a generated ego video against the true one, right on the canvas."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from comfy_api.latest import io, ui

from ..egox_core.errors import EgoXInputError
from ..egox_core.metrics.columns import METRICS
from ..egox_core.metrics.frame_metrics import frame_metrics
from ..egox_core.metrics.image import check_pair
from ..egox_core.types import ObjectMasks


class EgoXEvaluate(io.ComfyNode):
    """Two videos in, a table out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXEvaluate",
            display_name="EgoX Evaluate",
            category="EgoX/evaluation",
            description="Scores a generated ego video against the true one: PSNR, SSIM, flicker; inside and outside "
                        "the prior's coverage; one object's place and outline from masks. For whole sets, LPIPS and "
                        "CLIP-I use train_egox.py evaluate. Needs torchmetrics (pip install torchmetrics).",
            inputs=[
                io.Image.Input("generated", tooltip="The generated ego video, upright, as Decode Ego Half gives it."),
                io.Image.Input("truth", tooltip="The wearer's own video: same frames, same size."),
                io.Mask.Input("coverage", optional=True,
                              tooltip="From Render Ego Prior: quality inside and outside of it is told apart."),
                io.Mask.Input("generated_mask", optional=True,
                              tooltip="One object in the generated video, a mask a frame, as SAM3 Track to Mask gives "
                                      "it."),
                io.Mask.Input("true_mask", optional=True,
                              tooltip="The same object in the true video, tracked from the same first mask."),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="All values with their meaning."),
                io.Float.Output(display_name="psnr", tooltip="dB, mean over frames."),
                io.Float.Output(display_name="ssim", tooltip="Mean over frames, 1 is equal."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, generated, truth, coverage=None, generated_mask=None, true_mask=None) -> io.NodeOutput:
        check_pair(generated, truth)
        shape = tuple(truth.shape[:3])
        covered = None if coverage is None else _fitting(coverage, shape, "coverage")
        masks = _object(generated_mask, true_mask, shape)
        values = frame_metrics(_as_saved(generated), _as_saved(truth), covered, masks)
        text = _table(values)
        return io.NodeOutput(text, values["psnr"], values["ssim"], ui=ui.PreviewText(text))


def _as_saved(frames: torch.Tensor) -> torch.Tensor:
    """Rounded to 8 bits, as a video file is, so that node and command agree."""
    return (frames.detach().float().cpu().clamp(0, 1) * 255).round() / 255


def _fitting(mask: torch.Tensor, shape: tuple[int, int, int], name: str) -> torch.Tensor:
    """A MASK as [T, H, W] bool; it must have the videos' size, since a scaled one would move the edges."""
    if tuple(mask.shape) != shape:
        raise EgoXInputError(name, got=tuple(mask.shape), expected=f"{shape} (frames, height, width)",
                             fix="connect the mask that belongs to this video")
    return mask.cpu() >= 0.5


def _object(generated_mask, true_mask, shape: tuple[int, int, int]) -> ObjectMasks | None:
    if generated_mask is None and true_mask is None:
        return None
    if generated_mask is None or true_mask is None:
        raise EgoXInputError("object masks", got="one of the two", expected="generated_mask and true_mask",
                             fix="connect both, or none")
    found, there = (_fitting(m, shape, n).numpy()[None]
                    for m, n in ((generated_mask, "generated_mask"), (true_mask, "true_mask")))
    return ObjectMasks(ids=("object",), truth=there, generated=found)


def _table(values: Mapping[str, float | None]) -> str:
    return "\n".join(f"{m.heading}: {values[m.key]:.{m.digits}f}" + (f"  ({m.meaning})" if m.meaning else "")
                     for m in METRICS if values.get(m.key) is not None)
