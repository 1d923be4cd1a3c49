"""Choose among the kernels that compute biased attention of some ego queries, all called with the
same arguments.

``run(q [B, n, heads * d], k [B, N, heads * d], v, heads, bias_rows, queries) -> as q``, where
``bias_rows(queries)`` gives the bias [n, N] of those ego queries (a slice); ``q`` may be a view of
image rows, [B, rows, w_ego, heads * d].

``triton`` is our own (:mod:`.product`), which needs no rows; ``sdpa`` lets torch pick a kernel,
``cudnn`` names one. :mod:`.kernel_table` has what each takes. ``auto`` takes ``triton``, else
``sdpa``: each is compared once with the plain twin on the tensors at hand, and where one fails
later, the next goes on. On cards where ``triton`` was not measured, cuDNN's kernel and torch's own
choice are timed once per process and shape. ``steady``, for training, times none: it takes the
first that is right, before all the kernel of the run that is resumed
(``KernelsUsed.resumed_name``). A kernel that is named is compared too, and refused where it is
wrong: a run whose user asked for one kernel doesn't quietly take another. :class:`KernelsUsed`
keeps what ran, for the user's note.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ..errors import EgoXInputError, check_choice, is_oom
from ..types import GgaGeometry
from .bias import without_autocast
from .kernel_check import Choice, Choosing, first_line, forget_lost
from .kernel_table import KERNELS, MEASURED, Limits, card_of
from .options import GgaOptions
from .plain import plain_attention
from .product import weight_columns
from .product_gradient import differentiable_product
from .rows import BiasRows

BiasedAttention = Callable[..., Tensor]
log = logging.getLogger(__name__)


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice
) -> Tensor:
    return plain_attention(q.flatten(1, -2), k, v, heads, bias_rows(queries)).view(q.shape)


def _cudnn(*args) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return _sdpa(*args)


BACKENDS: Mapping[str, BiasedAttention] = {
    "sdpa": _sdpa,
    "cudnn": _cudnn,
    "triton": differentiable_product,
}

TIMED_QUERIES = 784  # as many rows as a chunk has at the released size; their bias is 44 MB
SCORE_BYTES = 32 * 2**20
SCORE_COPIES = 4
"""Working memory of the mathematical form, and so of the comparison: bias, scores, sum and softmax
in float32."""
STEADY = ("triton", "sdpa")
"""First kernels of ``steady``."""


class KernelsUsed(Choosing):
    """Record of the kernels that computed guided attention since :meth:`clear`.

    :func:`.attention.gga_attention` adds to it, and chooses by it.

    Args:
        tell: takes a line for people.
    """

    resumed_name = ""
    """Kernel of the run that is resumed, for ``steady``."""

    def __init__(self, tell: Callable[[str], None] = log.debug) -> None:
        super().__init__(tell)
        self._choices: list[Choice] = []

    def clear(self) -> None:
        """Empty the record, and allow kernels that failed to be tried again."""
        forget_lost()
        self.seconds = 0.0
        self._choices = []

    def add(self, choice: Choice) -> None:
        """Add the kernels of one attention call to the record."""
        if not any(choice is recorded_choice for recorded_choice in self._choices):
            self._choices.append(choice)

    @staticmethod
    def prepare(
        geometry: GgaGeometry, options: GgaOptions, dtype: torch.dtype, backend: str
    ) -> None:
        """Compute the query and key columns of the chosen kernel before its first call."""
        bias_rows = BiasRows(geometry, options, dtype, reuse=True)
        if backend in ("auto", "triton") and not _refusal(
            "triton", bias_rows, 0, backend == "triton"
        ):
            weight_columns(geometry, options, dtype)

    @property
    def name(self) -> str:
        """Name of the kernel in use, or "" if none was used.

        A resumed run starts with this kernel.
        """
        return next((name for choice in self._choices for name in choice.names), self.resumed_name)

    @property
    def lost(self) -> bool:
        """True if the preferred kernel failed or was refused."""
        return any(choice.refused for choice in self._choices)

    def words(self) -> str:
        """Describe in one line which kernels guided the attention so far, "" if none did."""
        if not self._choices:
            return ""
        kernel_text = "; ".join(dict.fromkeys(choice.words() for choice in self._choices))
        words = f"guided attention by {kernel_text}"
        time_note = f"; to choose kernels took {self.seconds:.0f} s" if self.seconds > 1 else ""
        return words + time_note


def backend_choices(device: torch.device) -> tuple[str, ...]:
    """List the kernels that backend ``auto`` may choose from on this device."""
    if device.type != "cuda":
        return ("sdpa",)
    return ("triton", "sdpa") if card_of(device) in MEASURED else ("triton", "cudnn", "sdpa")


def _needs_bias_rows(name: str) -> bool:
    return KERNELS.get(name, Limits()).needs_bias_rows


def _refusal(name: str, bias_rows: BiasRows, head_size: int, by_name: bool) -> str:
    return KERNELS.get(name, Limits()).refusal(
        bias_rows.geometry.key_dirs.device,
        bias_rows.dtype,
        head_size,
        any_weight=bias_rows.gain is not None,
        by_name=by_name,
    )


def choose_backend(
    name: str,
    q: Tensor,  # [B, rows, w_ego, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
    bias_rows: BiasRows,
    # For training: keeps nothing for backward, and runs the kernel again there.
    recompute: bool,
    used: KernelsUsed,
) -> tuple[BiasedAttention, Choice]:
    """Choose the kernel of this name, or the best kernel whose results agree with the float32
    reference.

    Raises:
        EgoXInputError: unknown name; a kernel asked for by name that doesn't run here or gives
            wrong numbers (also later, when it is called).
    """
    check_choice("attention backend", name, ("auto", "steady", "reference", *BACKENDS), "use auto")
    choice = _choose_kernels(name, q, k, v, heads, bias_rows, used)
    used.add(choice)
    by_name = name in BACKENDS
    if by_name and choice.refused:
        raise _unusable_kernel(name, choice.refused[name])
    return Chosen(choice, recompute, by_name), choice


@dataclass
class Chosen:
    """Attention function that runs the first kernel of a choice, and the next one if that raises.

    The next one takes the same queries. Where the kernel was asked for by name, the run ends
    with a word on what to choose.

    The mathematical form does the work once none is left, and in a call that gave the lost kernel
    more queries than others take. Memory that runs out is raised: no kernel's fault. Nor is what
    ends a forward that torch repeats for a backward pass."""

    choice: Choice
    recompute: bool
    by_name: bool

    def __call__(self, *args) -> Tensor:  # as any BiasedAttention
        while self.choice.names:
            name = self.choice.names[0]
            try:
                return _kernel(name, self.recompute)(*args)
            except Exception as error:  # compilers of kernels raise anything
                if is_oom(error) or type(error).__module__ == checkpoint.__module__:
                    raise
                if self.by_name:
                    raise _unusable_kernel(name, f"fails: {first_line(error)}") from error
                self.choice.refuse(name, f"failed: {first_line(error)}")
                log.warning("EgoX: attention by %s from here on", self.choice.words())
                if not _needs_bias_rows(name):
                    break  # these are more queries than the next one's bias has memory for
        return (_recomputed(math_rows) if self.recompute else math_rows)(*args)


def _unusable_kernel(name: str, why: str) -> EgoXInputError:
    return EgoXInputError(
        "attention backend",
        got=f"{name}, which {why}",
        expected="the numbers of the plain form",
        fix="set backend to auto: it takes the fastest kernel that is right on this device",
    )


def _kernel(name: str, recompute: bool) -> BiasedAttention:
    """Look up a kernel, wrapped in activation checkpointing if it keeps bias rows for the backward
    pass."""
    return _recomputed(BACKENDS[name]) if recompute and _needs_bias_rows(name) else BACKENDS[name]


def _recomputed(kernel: BiasedAttention) -> BiasedAttention:
    return functools.partial(checkpoint, kernel, use_reentrant=False, preserve_rng_state=False)


def math_rows(
    q: Tensor,  # [B, n, heads * d]
    k: Tensor,  # [B, N, heads * d]
    v: Tensor,  # [B, N, heads * d]
    heads: int,
    bias_rows: BiasRows,
    queries: slice,
) -> Tensor:  # [B, n, heads * d]
    """Compute biased attention in plain torch, a few queries at a time to bound memory.

    At least float32 also inside autocast, until the result is rounded to the type of ``q``.
    """
    query_shape = q.shape
    q = q.flatten(1, -2)
    step = max(1, SCORE_BYTES // (SCORE_COPIES * 4 * q.shape[0] * k.shape[1]))
    head_size = q.shape[-1] // heads
    result_parts = []
    for start in range(0, q.shape[1], step):
        stop = min(start + step, q.shape[1])
        bias = bias_rows(slice(queries.start + start, queries.start + stop))
        result_parts.append(
            torch.cat(
                [
                    _softmax_attention(q[:, start:stop, head], k[..., head], v[..., head], bias)
                    for head in (slice(i * head_size, (i + 1) * head_size) for i in range(heads))
                ],
                dim=-1,
            )
        )
    return torch.cat(result_parts, dim=1).view(query_shape)


def _softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor
) -> Tensor:  # [B, n, d], [B, N, d], -, [n, N]
    compute_dtype = torch.promote_types(q.dtype, torch.float32)
    with without_autocast(q.device):
        # Scaled afterwards: half precision as it is loses nothing where a host allows TF32.
        scores = (
            (q.to(compute_dtype) @ k.to(compute_dtype).transpose(1, 2))
            .mul_(q.shape[-1] ** -0.5)
            .add_(bias)
        )
        return (scores.softmax(-1) @ v.to(compute_dtype)).to(q.dtype)


def _choose_kernels(
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    bias_rows: BiasRows,
    used: KernelsUsed,
) -> Choice:
    """Choose among the kernels that the table allows by comparing them with the float32 form.

    Where a number isn't finite, all of them.
    """
    is_steady = name == "steady"
    if is_steady:
        listed_names = tuple(dict.fromkeys((used.resumed_name, *STEADY)))
    else:
        listed_names = (name,) if name in BACKENDS else backend_choices(q.device)
    kernels, refused = {}, {}
    for kernel_name in filter(BACKENDS.__contains__, listed_names):
        reason = _refusal(kernel_name, bias_rows, q.shape[-1] // heads, name in BACKENDS)
        if not reason:
            kernels[kernel_name] = BACKENDS[kernel_name]
        elif not is_steady or kernel_name == used.resumed_name:  # others were not meant to
            refused[kernel_name] = reason
    timed_names = list(filter(_needs_bias_rows, kernels)) if name == "auto" else []
    frame_rows = max(1, min(TIMED_QUERIES, bias_rows.per_frame) // q.shape[2])
    queries = slice(0, frame_rows * q.shape[2])
    grid = bias_rows.geometry.grid
    return used.choose(
        "attention",
        (name, q.device, q.dtype, tuple(q.shape), heads, grid, *kernels, *refused.items()),
        kernels,
        _float32_reference,
        (q[:, :frame_rows].detach(), k.detach(), v.detach(), heads, bias_rows, queries),
        timed=timed_names if len(timed_names) > 1 else (),
        refused=refused,
    ) or Choice(names=list(kernels), refused=refused)


def _float32_reference(
    q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice
) -> Tensor:
    """Compute the attention of the same queries in float32, as the reference that kernels are
    compared with."""
    float32_rows = BiasRows(bias_rows.geometry, bias_rows.options, torch.float32, reuse=True)
    return math_rows(q, k, v, heads, float32_rows, queries)
