"""List what each attention kernel supports, with the reasons for its limits.

:data:`KERNELS` is shown in the documentation, line by line; a test holds that page to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

import torch

from ..frozen import frozen

HALVES = (torch.bfloat16, torch.float16)
Card = tuple[int, int]
"""Compute capability of an NVIDIA card."""


@frozen
class KernelRequest:
    """Properties of an attention call that decide which kernels support it."""

    device: torch.device
    dtype: torch.dtype
    head_size: int
    gradients: bool = False
    any_weight: bool = False  # strengths or trust as a power of the weight
    by_name: bool = True  # not for ``auto`` or ``steady`` to choose


@frozen
class Limits:
    """Limits of one kernel, in which an empty field sets none."""

    dtypes: tuple[torch.dtype, ...] = ()
    widest_head: int | None = None
    least_card: Card | None = None
    least_triton: Card | None = None
    needs_bias_rows: bool = True  # of bias; without them a weight has to be a matrix product
    measured_on: tuple[Card, ...] | None = None  # cards where it may be tried unasked; None: all
    gradients_on: tuple[Card, ...] | None = None  # the same for a call that keeps a graph
    why: str = ""

    def refusal(self, request: KernelRequest) -> str:
        """Describe why the kernel doesn't support this call, or return "" if it does."""
        card = card_of(request.device)
        needed_triton = self.least_triton
        measured_cards = self.gradients_on if request.gradients else self.measured_on
        subject = "its gradients were" if request.gradients else "was"
        checks = (
            (self.dtypes and request.dtype not in self.dtypes, f"takes no {request.dtype}"),
            (
                self.widest_head and request.head_size > self.widest_head,
                f"takes heads of at most {self.widest_head} channels",
            ),
            (
                request.any_weight and not self.needs_bias_rows,
                "takes no mode power and no soft trust, whose weights are no matrix product",
            ),
            (
                self.least_card and (card is None or card < self.least_card),
                f"needs an NVIDIA card of {_version_words(self.least_card)} or higher",
            ),
            (
                needed_triton and triton_version() < needed_triton,
                f"needs Triton {_version_words(needed_triton)} or newer, without which an H200 "
                "takes 1.5 times as long for a guided layer",
            ),
            (
                not request.by_name and measured_cards is not None and card not in measured_cards,
                f"{subject} never measured on a card of {_version_words(card)}: choose it by name",
            ),
        )
        return next((reason for is_violated, reason in checks if is_violated), "")


KERNELS: Mapping[str, Limits] = {
    "triton": Limits(
        dtypes=(*HALVES, torch.float32),
        widest_head=128,
        least_card=(8, 0),
        least_triton=(3, 6),
        needs_bias_rows=False,
        measured_on=((9, 0),),
        gradients_on=((9, 0),),
        why="a wider head's tiles would spill registers; a wrong address would end the server, so "
        "no card is the first to try it unasked; older Triton was not compiled with",
    ),
    "cudnn": Limits(dtypes=HALVES, least_card=(8, 0), why="cuDNN's own limits"),
    "sdpa": Limits(why="torch's own choice, which takes all"),
}


def matrix() -> list[str]:
    """Format the kernels' limits as the lines of a Markdown table."""
    table_lines = [
        "| kernel | numbers | head | card | Triton | modes | unasked | gradients | why |"
    ]
    table_lines.append("|---|---|---|---|---|---|---|---|---|")
    for name, limits in KERNELS.items():
        row_cells = (
            name,
            ", ".join(str(dtype).removeprefix("torch.") for dtype in limits.dtypes) or "all",
            f"up to {limits.widest_head}" if limits.widest_head else "all",
            f"{_version_words(limits.least_card)} on" if limits.least_card else "any device",
            f"{_version_words(limits.least_triton)} on" if limits.least_triton else "",
            "all" if limits.needs_bias_rows else "released, paper",
            *map(_card_names, (limits.measured_on, limits.gradients_on)),
            limits.why,
        )
        table_lines.append(f"| {' | '.join(row_cells)} |")
    return table_lines


def _card_names(cards: tuple[Card, ...] | None) -> str:
    return "all" if cards is None else ", ".join(map(_version_words, cards)) or "by name alone"


def card_of(device: torch.device) -> Card | None:
    """Look up the compute capability of an NVIDIA GPU, or None for any other device."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return torch.cuda.get_device_capability(device) if is_nvidia else None


def name_of(device: torch.device) -> str:
    """Look up the name of a GPU, or the type of any other device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def triton_version() -> Card:
    """Read the version of the installed Triton, or (0, 0) without Triton."""
    if find_spec("triton") is None:
        return 0, 0
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def _version_words(pair: Card | None) -> str:
    return "another kind" if pair is None else ".".join(map(str, pair))
