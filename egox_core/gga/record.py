"""Record rows of the model's own attention for display: one query against all keys.

A row is softmax(q.k / sqrt(d) + bias) of the tensors that the model's attention got; times the
values it is what the model computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..sizes import FRAMES_PER_LATENT, PIXEL_STEP
from ..types import GgaGeometry
from .options import GgaOptions
from .rows import BiasRows


@frozen
class AttentionRecord:
    """Queries and keys of one self-attention call, as the model's attention received them.

    They are as the model's attention got them (normed, rotated).

    Holds all keys and the ego queries, so that any pixel can be looked at afterwards: 0.4 GB for
    the 14B model at the released size, on the CPU.
    """

    q_ego: Tensor  # [t * h * w_ego, heads * d], in the model's dtype
    k: Tensor  # [tokens, heads * d]
    heads: int
    grid: tuple[int, int, int, int]  # (t, h, w_exo, w_ego) in tokens
    block: int
    blocks: int
    step: int
    steps: int
    sigma: float
    geometry: GgaGeometry | None  # None: the model is patched without geometry
    options: GgaOptions | None
    latent_frames: tuple[int, ...]  # of the clip; all of them, or those of a context window

    @classmethod
    def of_call(
        cls,
        q: Tensor,  # [tokens of the canvas or of the ego half, heads, d]
        k: Tensor,  # [tokens of the canvas, heads, d] or [..., heads * d]
        grid: tuple[int, int, int, int],  # (t, h, w_exo, w_ego) in tokens
        # The other fields except heads.
        **fields: Any,
    ) -> AttentionRecord:
        """Copy queries and keys of a call to the CPU, apart from the model's tensors."""
        t, h, w_exo, w_ego = grid
        q_ego = q.unflatten(0, (t * h, -1))[:, -w_ego:].flatten(0, 1)
        q_ego, keys = (x.flatten(1).detach().to("cpu", copy=True).contiguous() for x in (q_ego, k))
        return cls(q_ego=q_ego, k=keys, heads=q.shape[1], grid=grid, **fields)

    @property
    def has_bias(self) -> bool:
        """True if the recorded call has a geometric bias."""
        return self.geometry is not None and self.options is not None and self.options.biases

    def query(self, x: int, y: int, frame: int) -> int:
        """Find the index of an ego pixel's query in :attr:`q_ego`.

        x and y are in px of the stored (upright) image.

        Raises:
            EgoXInputError: outside the picture or the clip, or in a frame that the captured context
                window didn't hold.
        """
        _, h, _, w_ego = self.grid
        for name, value, size in (
            ("ego pixel x", x, w_ego * PIXEL_STEP),
            ("ego pixel y", y, h * PIXEL_STEP),
        ):
            if not 0 <= value < size:
                raise EgoXInputError(
                    name,
                    got=value,
                    expected=f"0 to {size - 1}",
                    fix="choose a pixel inside the ego image",
                )
        if frame < 0:
            raise EgoXInputError(
                "frame", got=frame, expected="0 or more", fix="choose a frame of the clip"
            )
        latent_frame = math.ceil(frame / FRAMES_PER_LATENT)
        if latent_frame not in self.latent_frames:
            first_frame, last_frame = (
                FRAMES_PER_LATENT * n for n in (self.latent_frames[0], self.latent_frames[-1])
            )
            raise EgoXInputError(
                "frame",
                got=frame,
                expected=f"{max(0, first_frame - FRAMES_PER_LATENT + 1)} to {last_frame}",
                fix="choose a frame of the clip (with context windows: of the first window)",
            )
        return (
            self.latent_frames.index(latent_frame) * h + y // PIXEL_STEP
        ) * w_ego + x // PIXEL_STEP

    def rows(
        self,
        # They are numbered as in :meth:`query`.
        queries: Sequence[int],
        progress: Progress = no_progress,
    ) -> AttentionRows:
        """Compute the attention rows of a few ego queries, with and without the geometric bias.

        Needs memory for ``queries`` rows per head.
        """
        query_indices = torch.as_tensor(list(queries), dtype=torch.int64)
        head_size = self.k.shape[1] // self.heads
        geometry, options = self.geometry, self.options
        bias = weight = None
        if geometry is not None and options is not None and options.biases:
            bias_rows = BiasRows(geometry, options, torch.float32, reuse=False)
            bias = torch.cat(
                [bias_rows(slice(query, query + 1)) for query in query_indices.tolist()]
            )
        if geometry is not None:
            weight = torch.stack([_weight(geometry, query) for query in query_indices.tolist()])
        plain_attention = torch.zeros(len(query_indices), self.k.shape[0])
        guided = None if bias is None else torch.zeros_like(plain_attention)
        for head in range(self.heads):
            channels = slice(head * head_size, (head + 1) * head_size)
            scores = (
                self.q_ego[query_indices, channels].float()
                @ self.k[:, channels].float().T
                / math.sqrt(head_size)
            )
            plain_attention += scores.softmax(-1)
            if bias is not None and guided is not None:
                guided += (scores + bias).softmax(-1)
            progress(head + 1, self.heads, "attention")
        return AttentionRows(
            without=plain_attention / self.heads,
            guided=None if guided is None else guided / self.heads,
            weight=weight,
        )

    def exo_part(self, row: Tensor) -> Tensor:  # [..., tokens] -> [..., t, h, w_exo]
        """Select the exo keys of attention rows over all tokens."""
        t, h, w_exo, w_ego = self.grid
        return row.unflatten(-1, (t, h, w_exo + w_ego))[..., :w_exo]


@frozen
class AttentionRows:
    """Attention rows of some queries, averaged over heads, each with a sum of 1."""

    without: Tensor  # [n, tokens] float32, plain
    # Rows [n, tokens] float32 with the geometry's bias; None without geometry.
    guided: Tensor | None
    weight: Tensor | None  # [n, tokens] float32, g = 1 + cos; NaN where a key has no geometry


def _weight(geometry: GgaGeometry, query: int) -> Tensor:  # [tokens]
    """Compute the geometric attention weight 1 + cos of one ego query for each key."""
    _, h, _, w_ego = geometry.grid
    frame, query_of_frame = divmod(query, h * w_ego)
    cos = (geometry.key_dirs[frame] @ geometry.query_dirs[frame, query_of_frame]).clamp(-1, 1)
    return torch.where(geometry.key_trust > 0, 1 + cos, torch.nan)
