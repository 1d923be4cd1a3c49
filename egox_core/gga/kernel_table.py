"""List what each attention kernel takes, with the reasons for its limits, and the cards on which
the kernels were timed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

import torch

from ..frozen import frozen

HALVES = (torch.bfloat16, torch.float16)
Card = tuple[int, int]
"""Compute capability of an NVIDIA card."""
MEASURED: tuple[Card, ...] = ((9, 0),)
"""Cards on which the kernels were timed. There ``triton`` may be taken unasked, cuDNN computes what
carries no bias, and both halves run at once (``benchmarks/results/constants.md``)."""


@frozen
class Limits:
    """Limits of one kernel, in which an empty field sets none."""

    dtypes: tuple[torch.dtype, ...] = ()
    widest_head: int | None = None
    least_card: Card | None = None
    least_triton: Card | None = None
    needs_bias_rows: bool = True  # of bias; without them a weight has to be a matrix product
    is_measured_first: bool = False  # taken unasked only on MEASURED cards

    def refusal(
        self,
        device: torch.device,
        dtype: torch.dtype,
        head_size: int,
        *,
        any_weight: bool = False,  # strengths or trust as a power of the weight
        by_name: bool = True,  # not for ``auto`` or ``steady`` to choose
    ) -> str:
        """Describe why the kernel doesn't support this call, or return "" if it does."""
        card = card_of(device)
        needed_triton = self.least_triton
        checks = (
            (self.dtypes and dtype not in self.dtypes, f"takes no {dtype}"),
            (
                self.widest_head and head_size > self.widest_head,
                f"takes heads of at most {self.widest_head} channels",
            ),
            (
                any_weight and not self.needs_bias_rows,
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
                self.is_measured_first and not by_name and card not in MEASURED,
                f"was never measured on a card of {_version_words(card)}: choose it by name",
            ),
        )
        return next((reason for is_violated, reason in checks if is_violated), "")


KERNELS: Mapping[str, Limits] = {
    # A wider head's tiles would spill registers; older Triton was not compiled with. A wrong
    # address would end the server, so no card is the first to try it unasked.
    "triton": Limits(
        dtypes=(*HALVES, torch.float32),
        widest_head=128,
        least_card=(8, 0),
        least_triton=(3, 6),
        needs_bias_rows=False,
        is_measured_first=True,
    ),
    "cudnn": Limits(dtypes=HALVES, least_card=(8, 0)),  # its own limits
    "sdpa": Limits(),  # torch's own choice, which takes all
}


def card_of(device: torch.device) -> Card | None:
    """Look up the compute capability of an NVIDIA GPU, or None for any other device."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return torch.cuda.get_device_capability(device) if is_nvidia else None


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
