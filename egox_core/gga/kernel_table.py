"""Limits of each attention kernel, with their reasons, which choice, refusals, notes and tests read
here.

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
class Asked:
    """Request to a kernel: what it is to compute, and where."""

    device: torch.device
    dtype: torch.dtype
    head_size: int
    gradients: bool = False
    any_weight: bool = False  # strengths or trust as a power of the weight
    by_name: bool = True  # not for ``auto`` or ``steady`` to choose


@frozen
class Limits:
    """List what a kernel can take, where an empty field sets no limit."""

    dtypes: tuple[torch.dtype, ...] = ()
    widest_head: int | None = None
    least_card: Card | None = None
    least_triton: Card | None = None
    makes_rows: bool = True  # of bias; without them a weight has to be a matrix product
    measured_on: tuple[Card, ...] | None = None  # cards where it may be tried unasked; None: all
    gradients_on: tuple[Card, ...] | None = None  # the same for a call that keeps a graph
    why: str = ""

    def refusal(self, asked: Asked) -> str:
        """Say why the kernel can't or won't take this call, or nothing where it does."""
        card, triton = card_of(asked.device), self.least_triton
        measured = self.gradients_on if asked.gradients else self.measured_on
        subject = "its gradients were" if asked.gradients else "was"
        checks = (
            (self.dtypes and asked.dtype not in self.dtypes, f"takes no {asked.dtype}"),
            (
                self.widest_head and asked.head_size > self.widest_head,
                f"takes heads of at most {self.widest_head} channels",
            ),
            (
                asked.any_weight and not self.makes_rows,
                "takes no mode power and no soft trust, whose weights are no matrix product",
            ),
            (
                self.least_card and (card is None or card < self.least_card),
                f"needs an NVIDIA card of {_dotted(self.least_card)} or higher",
            ),
            (
                triton and triton_version() < triton,
                f"needs Triton {_dotted(triton)} or newer, without which an H200 takes 1.5 times as "
                "long for a guided layer",
            ),
            (
                not asked.by_name and measured is not None and card not in measured,
                f"{subject} never measured on a card of {_dotted(card)}: choose it by name",
            ),
        )
        return next((words for wrong, words in checks if wrong), "")


KERNELS: Mapping[str, Limits] = {
    "triton": Limits(
        dtypes=(*HALVES, torch.float32),
        widest_head=128,
        least_card=(8, 0),
        least_triton=(3, 6),
        makes_rows=False,
        measured_on=((9, 0),),
        gradients_on=((9, 0),),
        why="a wider head's tiles would spill registers; a wrong address would end the server, so "
        "no card is the first to try it unasked; older Triton was not compiled with",
    ),
    "cudnn": Limits(dtypes=HALVES, least_card=(8, 0), why="cuDNN's own limits"),
    "sdpa": Limits(why="torch's own choice, which takes all"),
}


def matrix() -> list[str]:
    """Write the table as lines of Markdown."""
    lines = ["| kernel | numbers | head | card | Triton | modes | unasked | gradients | why |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for name, limits in KERNELS.items():
        cells = (
            name,
            ", ".join(str(kind).removeprefix("torch.") for kind in limits.dtypes) or "all",
            f"up to {limits.widest_head}" if limits.widest_head else "all",
            f"{_dotted(limits.least_card)} on" if limits.least_card else "any device",
            f"{_dotted(limits.least_triton)} on" if limits.least_triton else "",
            "all" if limits.makes_rows else "released, paper",
            *map(_cards, (limits.measured_on, limits.gradients_on)),
            limits.why,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cards(known: tuple[Card, ...] | None) -> str:
    return "all" if known is None else ", ".join(map(_dotted, known)) or "by name alone"


def card_of(device: torch.device) -> Card | None:
    """Ask for the NVIDIA card's compute capability, None of all else."""
    nvidia = device.type == "cuda" and torch.version.hip is None
    return torch.cuda.get_device_capability(device) if nvidia else None


def name_of(device: torch.device) -> str:
    """Name the card, or the kind of all else."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def triton_version() -> Card:
    """Read the version of the installed Triton, (0, 0) without one."""
    if find_spec("triton") is None:
        return 0, 0
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def _dotted(pair: Card | None) -> str:
    return "another kind" if pair is None else ".".join(map(str, pair))
