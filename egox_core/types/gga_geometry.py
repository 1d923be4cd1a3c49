"""Define the directions that geometry-guided attention compares."""

from __future__ import annotations

from dataclasses import field, replace

import torch
from torch import Tensor

from ..frozen import frozen
from ..remarks import Remark


@frozen
class GgaGeometry:
    """Ray directions that geometry-guided attention compares.

    Computed once per sampling run; a few MB, float32.

    Tokens: t latent frames of h x (w_exo + w_ego) patches, token = f * h * w + r * w + c with w =
    w_exo + w_ego, exo columns first. A query's direction is its pixel's viewing ray, a key's
    the way from the ego camera (of the query's frame) to the exo point that it shows; both in
    world axes. Ego keys and keys without depth are the zero vector.
    """

    query_dirs: Tensor  # [t, h * w_ego, 3] float32, |dir| <= 1 (pooled, not renormalised)
    # [t (query frame), t * h * w, 3] float32, over all tokens; zero vectors as said above
    key_dirs: Tensor
    # [t * h * w] float32 0...1: share of the token whose depth is known and trusted; 0 for ego keys
    key_trust: Tensor
    grid: tuple[int, int, int, int]  # (t, h, w_exo, w_ego) in tokens
    rays: str = "released"  # a RayMode, or the trainer's
    cameras: tuple[Remark, ...] = ()  # on those that it is made of
    # True if every key_trust is 0 or 1; computed once, because a GPU has to wait for it.
    all_or_nothing: bool = field(init=False)
    # what kernels keep of it, by all else that it depends on; gone with this object
    made: dict[tuple, tuple[Tensor, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "all_or_nothing", bool(((self.key_trust == 0) | (self.key_trust == 1)).all())
        )

    def notes(self) -> list[str]:
        """Describe the share of exo tokens without depth, which guide nothing, and the cameras."""
        t, h, w_exo, w_ego = self.grid
        exo = self.key_trust.view(t, h, w_exo + w_ego)[..., :w_exo]
        missing_share = float((exo == 0).float().mean())
        sentences = [str(camera) for camera in self.cameras]
        if missing_share > 0:
            missing = f"{missing_share:.1%} of the exo tokens have no depth and guide nothing"
            sentences.insert(0, missing)
        return sentences

    @property
    def tokens(self) -> int:
        """Number of tokens of the canvas."""
        t, h, w_exo, w_ego = self.grid
        return t * h * (w_exo + w_ego)

    def to(self, device: torch.device | str) -> GgaGeometry:
        """Copy to a different device.

        The dtype stays float32, which the logarithm near cos = -1 needs.
        """
        return replace(
            self,
            query_dirs=self.query_dirs.to(device),
            key_dirs=self.key_dirs.to(device),
            key_trust=self.key_trust.to(device),
        )

    def select_frames(self, latent_frames: list[int]) -> GgaGeometry:
        """Select some latent frames, in order (for the context windows of a host)."""
        t, h, w_exo, w_ego = self.grid
        index = torch.as_tensor(latent_frames, dtype=torch.int64, device=self.query_dirs.device)
        per_frame = h * (w_exo + w_ego)
        keys = self.key_dirs[index].unflatten(1, (t, per_frame))[:, index].flatten(1, 2)
        return replace(
            self,
            query_dirs=self.query_dirs[index],
            key_dirs=keys,
            key_trust=self.key_trust.unflatten(0, (t, per_frame))[index].flatten(),
            grid=(len(latent_frames), h, w_exo, w_ego),
        )
