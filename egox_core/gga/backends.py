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
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ..errors import EgoXInputError, check_choice, is_oom
from ..finite import all_finite
from ..types import GgaGeometry
from .bias import keeps_graph, without_autocast
from .kernel_check import WRONG, Choosing, best_seconds, first_line, kernel_fault
from .kernel_table import KERNELS, KernelRequest, Limits, card_of, name_of
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
MATH_WORDS = "the mathematical form, in pieces that the scores' bytes set (slow: no kernel is left)"
STEADY = ("triton", "sdpa")
"""First kernels of ``steady``."""


@dataclass
class Choice:
    """Kernels that can compute one attention call, fastest first, and why others were refused."""

    names: list[str]
    refused: dict[str, str] = field(default_factory=dict)
    lost: bool = False  # one of them for another reason than the table's

    @property
    def needs_bias_rows(self) -> bool:
        """True if the kernel in use needs the bias rows of its queries in memory."""
        return not self.names or _limits(self.names[0]).needs_bias_rows

    def words(self) -> str:
        """Describe the kernel in use, and why other kernels are refused."""
        refusal_text = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        return (self.names[0] if self.names else MATH_WORDS) + (
            f" (not {refusal_text})" if refusal_text else ""
        )


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
        request = _kernel_request(
            BiasRows(geometry, options, dtype, reuse=True), 0, False, backend == "triton"
        )
        if backend in ("auto", "triton") and not _limits("triton").refusal(request):
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


_cached_choices: dict[tuple, Choice] = {}


def forget_lost() -> None:
    """Allow kernels that failed or gave wrong numbers to be tried again."""
    for key in [key for key, choice in _cached_choices.items() if choice.lost]:
        del _cached_choices[key]


def backend_choices(device: torch.device) -> tuple[str, ...]:
    """List the kernels that backend ``auto`` may choose from on this device.

    The table has nothing against them there. Those that need rows of bias are timed where there
    are two.
    """
    if device.type != "cuda":
        return ("sdpa",)
    has_measured_card = card_of(device) in (_limits("triton").measured_on or ())
    return ("triton", "sdpa") if has_measured_card else ("triton", "cudnn", "sdpa")


def _limits(name: str) -> Limits:
    return KERNELS.get(name, Limits())


def _kernel_request(
    bias_rows: BiasRows, head_size: int, gradients: bool, by_name: bool
) -> KernelRequest:
    return KernelRequest(
        device=bias_rows.geometry.key_dirs.device,
        dtype=bias_rows.dtype,
        head_size=head_size,
        gradients=gradients,
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
    choice = _choose_kernels(name, (q, k, v, heads, bias_rows), used)
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
                self.choice.refused[name] = f"failed: {first_line(error)}"
                self.choice.lost = True
                self.choice.names = [
                    remaining_name
                    for remaining_name in self.choice.names
                    if remaining_name not in self.choice.refused
                ]
                log.warning("EgoX: attention by %s from here on", self.choice.words())
                if not _limits(name).needs_bias_rows:
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
    return (
        _recomputed(BACKENDS[name])
        if recompute and _limits(name).needs_bias_rows
        else BACKENDS[name]
    )


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
    # Arguments of :func:`choose_backend`.
    attention_inputs: tuple[Tensor, Tensor, Tensor, int, BiasRows],
    kernels_used: KernelsUsed,
) -> Choice:
    """Choose kernels by comparing their results with a float32 reference, and cache the choice by
    shape.

    Where a number isn't finite, all of them, not compared and not remembered.
    """
    (q, k, v, heads, bias_rows) = attention_inputs
    resumed_name = kernels_used.resumed_name
    names = (name,) if name in BACKENDS else backend_choices(q.device)
    is_steady = name == "steady"
    if is_steady:
        resumed_name = resumed_name if resumed_name in BACKENDS else ""
        allowed_names = {resumed_name, "sdpa", *names} - {""}
        names = tuple(
            other_name
            for other_name in dict.fromkeys((resumed_name, *STEADY, *names))
            if other_name in allowed_names
        )
    keep_graph = is_steady or keeps_graph(q, k, v)  # one kernel for training and validation
    request = _kernel_request(bias_rows, q.shape[-1] // heads, keep_graph, name in BACKENDS)
    refusals = {
        other_name: reason
        for other_name in names
        if (reason := _limits(other_name).refusal(request))
    }
    names = tuple(other_name for other_name in names if other_name not in refusals)
    if is_steady:  # others were not meant to
        refusals = {
            other_name: reason
            for other_name, reason in refusals.items()
            if other_name == resumed_name
        }
    key = (name, name_of(q.device), q.dtype, tuple(q.shape), heads, bias_rows.geometry.grid, names)
    key += tuple(refusals.values())
    if key not in _cached_choices:
        frame_rows = max(1, min(TIMED_QUERIES, bias_rows.per_frame) // q.shape[2])
        with torch.no_grad():
            key_arguments = k.detach(), v.detach(), heads, bias_rows
            test_arguments = (
                q[:, :frame_rows].detach(),
                *key_arguments,
                slice(0, frame_rows * q.shape[2]),
            )
            reference = _float32_reference(*test_arguments)
            if not all_finite(q, k, v, reference):  # by no kernel's fault: nothing can be compared
                return Choice(names=list(names), refused=refusals)
            choice = _matching_kernels(names, test_arguments, reference, kernels_used)
            choice.refused = refusals | choice.refused
            timed_names = [
                other_name for other_name in choice.names if _limits(other_name).needs_bias_rows
            ]
            if name == "auto" and len(timed_names) > 1:
                with kernels_used.report_step("the fastest"):
                    kernel_seconds = {
                        other_name: best_seconds(BACKENDS[other_name], test_arguments)
                        for other_name in timed_names
                    }
                choice.names = [
                    other_name for other_name in choice.names if other_name not in kernel_seconds
                ]
                choice.names += sorted(kernel_seconds, key=kernel_seconds.__getitem__)
        is_settled = choice.names and WRONG not in choice.refused.values()
        (log.info if is_settled else log.warning)("EgoX: attention by %s", choice.words())
        kernels_used.report_line(f"attention by {choice.words()}")
        _cached_choices[key] = choice
    return _cached_choices[key]


def _matching_kernels(
    names: tuple[str, ...], test_arguments: tuple, reference: Tensor, progress_report: Choosing
) -> Choice:
    """Select the kernels that run and agree with the float32 reference."""
    choice = Choice(names=[])
    heads = test_arguments[3]
    for name in names:
        with progress_report.report_step(name):
            fault = kernel_fault(BACKENDS[name], test_arguments, reference, heads)
        if fault:
            choice.refused[name] = fault
            choice.lost = True
        else:
            choice.names.append(name)
    return choice


def _float32_reference(
    q: Tensor, k: Tensor, v: Tensor, heads: int, bias_rows: BiasRows, queries: slice
) -> Tensor:
    """Compute the attention of the same queries in float32, as the reference that kernels are
    compared with."""
    float32_rows = BiasRows(bias_rows.geometry, bias_rows.options, torch.float32, reuse=True)
    return math_rows(q, k, v, heads, float32_rows, queries)
