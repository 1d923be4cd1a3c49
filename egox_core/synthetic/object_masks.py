"""The things of a synthetic take, each tracked by name through the ego picture: masks, and what exo sees of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .covisible import covisible
from .take import SyntheticTake

GROUPS = ("object", "held")
"""What lies about and what the hands hold. Furniture and body are no objects: they fill the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeObjects:
    """Objects of one take, in the order in which the scene has them; those that ego never sees are left out."""

    ids: tuple[str, ...]  # N names, as "mug 2"
    masks: Tensor  # [N, T, S, S] bool, in the stored ego picture
    exo_pixels: Tensor  # [N, T] int64, px of the exo picture that show it
    seen_share: Tensor  # [N, T] float32, share of its ego pixels whose surface exo sees too; 0 where not asked for


def take_objects(take: SyntheticTake, least_share: float = 0.0) -> TakeObjects:
    """Masks of all objects.

    Args:
        least_share: what exo sees is only cast for objects that cover at least this share of the ego picture; the
            others keep 0 (casting is most of the work).
    """
    groups = solids_of_objects(take)
    size = take.ego_index.shape[1:]
    if not groups:
        none = torch.zeros(0, len(take.ego_index))
        return TakeObjects(ids=(), masks=torch.zeros(0, *take.ego_index.shape, dtype=torch.bool),
                           exo_pixels=none.long(), seen_share=none)
    table = torch.full((len(take.scene.solids) + 1,), -1, dtype=torch.int64)  # the last entry: a miss
    for number, solids in enumerate(groups.values()):
        table[list(solids)] = number
    ego, exo = table[take.ego_index.long()], table[take.exo_index.long()]
    masks = torch.stack([ego == number for number in range(len(groups))])
    exo_pixels = torch.stack([(exo == number).flatten(1).sum(1) for number in range(len(groups))])
    there = masks.flatten(2).sum(2)
    seen = torch.zeros(there.shape)
    wanted = (there > 0) & (there >= least_share * size[0] * size[1])
    for frame in wanted.any(0).nonzero().flatten().tolist():
        visible = covisible(take, frame).visible
        for number in wanted[:, frame].nonzero().flatten().tolist():
            seen[number, frame] = visible[masks[number, frame]].float().mean()
    kept = there.any(1)
    ids = tuple(name for name, keep in zip(groups, kept.tolist(), strict=True) if keep)
    return TakeObjects(ids=ids, masks=masks[kept], exo_pixels=exo_pixels[kept], seen_share=seen[kept])


def solids_of_objects(take: SyntheticTake) -> dict[str, tuple[int, ...]]:
    """Solids by object: a mug's handle belongs to the mug that it follows; equal things are numbered."""
    found: list[tuple[str, list[int]]] = []
    for index, solid in enumerate(take.scene.solids):
        if solid.group not in GROUPS:
            continue
        if found and found[-1][1][-1] == index - 1 and solid.name.startswith(found[-1][0] + " "):
            found[-1][1].append(index)
        else:
            found.append((solid.name, [index]))
    counts: dict[str, int] = {}
    named = {}
    for name, solids in found:
        counts[name] = counts.get(name, 0) + 1
        named[f"{name} {counts[name]}"] = tuple(solids)
    return named
