"""Map each depth socket of a node to the function that reads its payload.

To add one: an entry here.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ..errors import EgoXInputError
from .align import ADVICE, MISSING_METRIC
from .da3 import da3_depth
from .moge import moge_depth
from .sources import DepthSource, image_depth

DEPTH_ADAPTERS: Mapping[str, Callable[[Any], DepthSource]] = {
    "moge_geometry": moge_depth,
    "da3_geometry": da3_depth,
    "depth_image": image_depth,
}
"""Socket's name: what makes a source of the payload, as the host's node gives it. The order is the
priority: the first metric source gives the scale."""

WITHOUT_SCALE = frozenset({"da3_geometry", "depth_image"})
"""Of them, those that give no metres by themselves."""


def check_scale(
    # Names of the connected sockets.
    sockets: Collection[str],
    # Reason why there is no depth from elsewhere either; empty if there is some.
    otherwise: str = "",
) -> None:
    """Refuse depth sockets that give no metric scale, before any long work starts.

    Raises:
        EgoXInputError: only sockets without a scale; none, and no other depth.
    """
    if sockets and WITHOUT_SCALE.issuperset(sockets):
        raise EgoXInputError(
            MISSING_METRIC,
            got=f"no scale from {' and '.join(sockets)} alone",
            expected=(
                f"{' or '.join(DEPTH_ADAPTERS.keys() - WITHOUT_SCALE)}, or a depth file and no "
                "depth model"
            ),
            fix=ADVICE,
        )
    if not sockets and otherwise:
        raise EgoXInputError(
            MISSING_METRIC,
            got=f"no depth at all: {otherwise}",
            expected="a depth file, or a depth model",
            fix=ADVICE,
        )


def socket_sources(
    # Payloads of the connected sockets, by their names in DEPTH_ADAPTERS.
    sockets: Mapping[str, Any],
) -> Iterator[DepthSource]:
    """Yield the depth sources of the connected sockets, in order of priority.

    Raises:
        EgoXInputError: as the sockets' adapters.
    """
    for name, adapter in DEPTH_ADAPTERS.items():
        if name in sockets:
            yield adapter(sockets[name])
