"""Shows the transformer the whole canvas while the sampler holds the ego half only.

torch.compile: the host's compile node drops every guard on transformer_options, so compiled code of an earlier run is
taken again although another wrapper, another strength or another window is in there. What changes from run to run and
from call to call therefore runs outside of compiled code (``torch.compiler.disable``); whether there is a canvas,
whether geometry guides and whether tokens have positions of their own shows in the names of keyword arguments, whose
guards stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...egox_core.wan.canvas import crop_ego, widen
from .calls import PatchCalls
from .override import OVERRIDE, GeometryGuidance
from .tokens import SLOTS, CanvasTokens
from .windows import window_frames

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor

CANVAS_MARK = "egox_canvas"
GUIDED_MARK = "egox_guided"
TOKENS_MARK = "egox_tokens"


def mark_canvas(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
    """An APPLY_MODEL wrapper: makes compiled code of a patched model another one than the plain model's."""
    return executor(*args, **kwargs, **{CANVAS_MARK: None})


class WideningWrapper:
    """A DIFFUSION_MODEL wrapper: ego input in, whole canvas to the model, ego half of what it returns out.

    A sampler that never sees the exo half can't change it: this equals a full-width loop whose exo velocity is zero.
    Holds the clean exo latent in model space; the host moves it with the model by calling :meth:`to`.
    """

    def __init__(
        self,
        exo: Tensor,  # [B, 16, t, h, w_exo] clean exo latent, model space
        mask_exo: Tensor,  # [B, 4, t, h, w_exo] 1 = known
        guidance: GeometryGuidance | None,
        cond_exo: Tensor | None = None,  # [B, 16, t, h, w_exo] condition latent of the exo half; None: the exo latent
        calls: PatchCalls | None = None,  # where forwards of a run are counted; None: nobody asks
        tokens: CanvasTokens | None = None,  # own positions, rays; None: EgoX's canvas as it is
    ) -> None:
        self.exo = exo
        self.cond_exo = exo if cond_exo is None else cond_exo
        self.mask_exo = mask_exo
        self.guidance = guidance
        self.calls = calls or PatchCalls()
        self.tokens = tokens

    def to(self, target: torch.device | torch.dtype) -> WideningWrapper:
        """Called by the host with a device, then a dtype. Only the device is followed: each call casts for itself."""
        if isinstance(target, torch.dtype):
            return self
        self.exo = self.exo.to(target)
        self.cond_exo = self.cond_exo.to(target)
        self.mask_exo = self.mask_exo.to(target)
        if self.guidance is not None:
            self.guidance.model_moved()
        if self.tokens is not None:
            self.tokens.to(target)
        return self

    @torch.compiler.disable(recursive=False)
    def __call__(
        self,
        executor: WrapperExecutor,
        x: Tensor,  # [B, 36, t, h, w_ego], cond and uncond stacked
        timestep: Tensor,  # [B]
        context: Tensor,  # [B, text tokens, text_dim]
        clip_fea: Tensor | None = None,  # [B, picture tokens, image_dim]
        time_dim_concat: Tensor | None = None,  # refused beforehand by check_conditioning
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:  # [B, 16, t, h, w_ego]
        self.calls.widened += 1
        options = dict(transformer_options or {})
        kwargs.pop(CANVAS_MARK, None)
        exo, mask_exo, cond_exo = self.exo, self.mask_exo, self.cond_exo
        frames = window_frames(options, exo.shape[2], x.shape[2])
        if frames is not None:
            exo, mask_exo, cond_exo = (part[:, :, frames] for part in (exo, mask_exo, cond_exo))
        if executor.class_obj.img_emb is None:
            clip_fea = None  # Wan 2.2 I2V takes no picture embedding, whatever the conditioning holds
        if self.guidance is not None:
            self.calls.guided += 1
            options[OVERRIDE] = self.guidance.override(x, options, context, clip_fea, frames,
                                                       self.calls)
            kwargs[GUIDED_MARK] = None
        wide = widen(x, exo, mask_exo, cond_exo)
        if self.tokens is not None:
            self.calls.slotted += 1
            options[SLOTS] = self.tokens.slots(executor.class_obj, wide, options, frames, self.calls)
            kwargs[TOKENS_MARK] = None
        out = executor(wide, timestep, context, clip_fea, time_dim_concat, options, **kwargs)
        return crop_ego(out, exo.shape[-1])
