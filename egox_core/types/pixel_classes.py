"""Define the classes of an ego pixel, and count and describe them."""

import torch
from torch import Tensor

UNOBSERVED, DOUBTFUL, EARLIER, NOW = 0, 64, 128, 255
"""Classes of an ego pixel, as seen.mkv has them: nothing landed; a point landed, but the way to it
is hidden in part; exo saw it at another time; exo sees it in this frame."""
SEEN_KINDS = {"now": NOW, "earlier": EARLIER, "doubtful": DOUBTFUL, "unobserved": UNOBSERVED}
"""Classes of a prior's pixel by name."""
REDRAWN, KEPT_EARLIER, KEPT_NOW = 192, 160, 224
"""Of a video alone: exo saw it, but the video shows it otherwise; observed pixels that were put
back."""


def video_classes(
    seen: Tensor,  # [...] uint8, of :data:`NOW` and the other classes of a prior
    redrawn: Tensor,  # [...] bool
    kept: Tensor,  # [...] bool, put back
) -> Tensor:  # [...] uint8
    """Classify the pixels of a video that was made from a prior."""
    put_back = torch.where(seen == NOW, KEPT_NOW, KEPT_EARLIER)
    observed = torch.where(redrawn, REDRAWN, torch.where(kept, put_back, seen))
    return torch.where(seen >= EARLIER, observed, seen).to(torch.uint8)


def seen_shares(
    seen: Tensor,  # [T, H, W] uint8, of :data:`NOW` and the other classes
) -> dict[str, Tensor]:  # [T] float64 each
    """Compute each frame's shares observed now, earlier, doubtfully and not at all."""
    return {
        name: torch.stack([(frame == kind).double().mean() for frame in seen])
        for name, kind in SEEN_KINDS.items()
    }


def seen_text(
    # The result of seen_shares.
    shares: dict[str, Tensor],
    # Parts of what exo sees, of a video.
    parts: str = "",
) -> str:
    """Describe in one sentence the shares of the pixel classes in the whole clip."""
    now, earlier, doubtful, unobserved = (100 * float(share.mean()) for share in shares.values())
    worst_frame = int(shares["unobserved"].argmax())
    return (
        f"Of the ego view exo sees {now:.0f} % now and {earlier:.0f} % at a different time"
        f"{f' ({parts})' if parts else ''}; {doubtful:.0f} % is doubtful and {unobserved:.0f} % "
        f"never seen (most in frame {worst_frame}: {100 * shares['unobserved'][worst_frame]:.0f} %)"
    )
