"""The network: depths of exo pixels as likelihoods, a walk along each ego ray, a picture of what
was met and a guess
where nothing was; then a second, finer look at the exo pictures at the depth that was found.

Views are joined by weighted means and variances alone, so that their order and copies of them
change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    grid_sample,
    interpolate,
    scaled_dot_product_attention,
    silu,
    softplus,
)

from .rays import (
    EXO_CHANNELS,
    ViewBatch,
    camera_rays,
    coarse_size,
    exo_maps,
    follow,
    ray_depths,
    upright,
)

HEAD_DIM = 16
GROUPS = 4
MOST_REFINED = 0.5
"""By which the second depth may differ from the first, in its logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorSize:
    """Of the network; widths are multiples of :data:`HEAD_DIM`, or of GROUPS in the first place."""

    exo: tuple[int, int, int] = (40, 64, 96)
    ego: tuple[int, int, int] = (48, 80, 128)
    bins: int = 32  # depths of an exo pixel
    steps: int = 32  # samples along an ego ray
    features: int = 12  # of an exo pixel, beside colour and depth
    hidden: int = 24  # of what is computed at each sample


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedView:
    """Ego pictures as the views let expect them."""

    rgb: Tensor  # [B, N, 3, h, w] about 0...1
    coarse: (
        Tensor  # [B, N, 3, r, c] the same at the size of the coarse rays, before the second look
    )
    composite: Tensor  # [B, N, 3, r, c] what the walk along the rays met
    log_variance: Tensor  # [B, N, r, c] of the colours' error, natural logarithm
    depth_m: Tensor  # [B, N, h, w] metres along the ray


class ViewPredictor(nn.Module):
    """Any number of exo views with their cameras, and ego cameras; see :class:`PredictedView`."""

    def __init__(self, size: PredictorSize | None = None) -> None:
        super().__init__()
        self.size = size = size or PredictorSize()
        met = 3 + size.features
        self.exo = UNet(EXO_CHANNELS, size.exo, stem=4, middle=2)
        self.exo_head = nn.Conv2d(size.exo[0], size.bins + size.features, 1)
        self.of_view = nn.Sequential(
            nn.Linear(4 + met, size.hidden), nn.SiLU(), nn.Linear(size.hidden, size.hidden + 1)
        )
        self.of_sample = nn.Sequential(
            nn.Linear(2 * size.hidden + 2, size.hidden + 8),
            nn.SiLU(),
            nn.Linear(size.hidden + 8, 1 + size.features),
        )
        self.token_norm = nn.LayerNorm(size.exo[2])
        self.token = nn.Linear(size.exo[2] + 6, size.ego[2])
        self.ego = UNet(met + 2 + 6, size.ego, stem=1, middle=3, reads=True)
        self.ego_head = nn.Conv2d(size.ego[0], 4, 1)
        self.finer = nn.Conv2d(size.ego[0], 24, 3, padding=1)
        self.depth = nn.Conv2d(24, 1, 1)
        self.of_warp = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))
        self.last = nn.Sequential(
            nn.Conv2d(24 + 3 + 3 + 3, 24, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(24, 24, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(24, 4, 3, padding=1),
        )
        for layer in (self.depth, self.last[-1], self.ego_head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, batch: ViewBatch, width: int, height: int) -> PredictedView:
        """Ego pictures of ``width`` x ``height`` px, multiples of 4."""
        b, n, v = batch.exo_from_ego.shape[:3]
        columns, rows = coarse_size(width, height)
        maps, middle = self.exo(exo_maps(batch).flatten(0, 1))
        answer = self.exo_head(maps)
        likely = answer[:, : self.size.bins].softmax(dim=1)
        volume = torch.stack(
            (likely * self.size.bins / 8, likely.cumsum(1)), dim=1
        )  # [BV, 2, bins, h, w]
        small = interpolate(batch.exo.flatten(0, 1), maps.shape[2:], mode="area")
        pictures = torch.cat((small, answer[:, self.size.bins :]), dim=1)

        rays = [
            camera_rays(camera, columns, rows, maps.device).flatten(0, 1)
            for camera in batch.ego_cameras
        ]
        depths = ray_depths(self.size.steps).to(maps)
        places, told = follow(batch, rays, depths.expand(b, n, rows * columns, -1))
        composite, depth = self._walk(pictures, volume, places, told, depths)
        own = torch.stack(
            [upright(r, camera) for r, camera in zip(rays, batch.ego_cameras, strict=True)]
        )
        ups = torch.stack(
            [upright(u, camera) for u, camera in zip(batch.ego_up, batch.ego_cameras, strict=True)]
        )
        shown = torch.cat(
            (
                composite,
                depth.log()[..., None],
                own[:, None].expand(b, n, -1, -1),
                ups[:, :, None].expand(b, n, rows * columns, 3),
            ),
            dim=-1,
        )
        shown = shown.unflatten(2, (rows, columns)).flatten(0, 1).movedim(-1, 1)
        features, _ = self.ego(shown, self._tokens(batch, middle))
        head = self.ego_head(features)
        met = composite[..., :3].unflatten(2, (rows, columns)).movedim(-1, 2)
        coarse = met + head[:, :3].unflatten(0, (b, n))
        finer = silu(self.finer(_scaled(features, 2 * rows, 2 * columns)))
        first = depth.log().unflatten(2, (rows, columns)).flatten(0, 1)[:, None]
        log_depth = _scaled(first, 2 * rows, 2 * columns) + MOST_REFINED * torch.tanh(
            self.depth(finer)
        )
        depth_m = _scaled(log_depth, height, width).exp()[:, 0].unflatten(0, (b, n))
        rgb = self._second_look(batch, volume, depth_m, coarse, finer)
        return PredictedView(
            rgb=rgb,
            coarse=coarse,
            composite=met,
            depth_m=depth_m,
            log_variance=head[:, 3].unflatten(0, (b, n)),
        )

    def _walk(
        self, pictures: Tensor, volume: Tensor, places: Tensor, told: Tensor, depths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Composite [B, N, R, 3 + features + 1] (the last: how much a view was inside) and mean
        depth [B, N, R]."""
        b, v, n, r, k = told.shape[:5]
        flat = places.flatten(0, 1).flatten(1, 2)  # [BV, NR, K, 3]
        met = grid_sample(pictures, flat[..., :2], padding_mode="border", align_corners=False)
        there = grid_sample(
            volume, flat[:, :, :, None], padding_mode="border", align_corners=False
        )[..., 0]
        seen = told[..., :1]
        given = torch.cat(
            (torch.cat((met, there), dim=1).movedim(1, -1).view(b, v, n, r, k, -1), told), dim=-1
        )
        answer = self.of_view(given)
        mean, spread, weights = weighted(answer[..., :-1], answer[..., -1:], seen)
        anywhere = seen.amax(1)
        place = (depths.log()[:, None] / 2).expand(*mean.shape[:-1], 1)
        sample = self.of_sample(torch.cat((mean, spread, anywhere, place), dim=-1))
        colour = (given[..., :3] * weights).sum(1)
        stopped = walk_weights(torch.sigmoid(sample[..., 0] - 2))
        known = torch.cat((colour, sample[..., 1:], anywhere), dim=-1)
        composite = torch.einsum("bnrk,bnrkc->bnrc", stopped, known)
        return composite, (stopped * depths.log()).sum(-1).exp()

    def _tokens(
        self, batch: ViewBatch, middle: Tensor
    ) -> Tensor:  # [BV, C, h, w] -> [BN, V * tokens, C]
        """What each view shows on the whole, with where in the ego camera's frame it lies."""
        b, n, v = batch.exo_from_ego.shape[:3]
        pooled = interpolate(middle, (middle.shape[2] // 2, middle.shape[3] // 2), mode="area")
        height, width = pooled.shape[2:]
        tokens = (
            self.token_norm(pooled.flatten(2).mT).unflatten(0, (b, 1, v)).expand(b, n, v, -1, -1)
        )
        rays = torch.stack(
            [
                torch.stack(
                    [camera_rays(camera, width, height, middle.device) for camera in cameras]
                )
                for cameras in batch.cameras
            ]
        ).flatten(2, 3)
        turn = batch.exo_from_ego[..., :3]
        rays = rays[:, None] @ turn  # into the ego frame: each row times its inverse
        centre = -(turn.mT @ batch.exo_from_ego[..., 3:])[..., 0]
        where = torch.cat((rays, centre[..., None, :].expand_as(rays) / 3), dim=-1).unflatten(
            -1, (2, 3)
        )
        where = torch.stack(
            [upright(w, camera) for w, camera in zip(where, batch.ego_cameras, strict=True)]
        )
        return (
            self.token(torch.cat((tokens, where.flatten(-2)), dim=-1)).flatten(2, 3).flatten(0, 1)
        )

    def _second_look(
        self, batch: ViewBatch, volume: Tensor, depth_m: Tensor, coarse: Tensor, finer: Tensor
    ) -> Tensor:  # [B, N, 3, h, w]
        b, n, height, width = depth_m.shape
        v = batch.exo.shape[1]
        rays = [
            camera_rays(camera, width, height, depth_m.device).flatten(0, 1)
            for camera in batch.ego_cameras
        ]
        places, told = follow(batch, rays, depth_m.flatten(2)[..., None])
        flat = places.flatten(0, 1).flatten(1, 2)  # [BV, N h w, 1, 3]
        colour = grid_sample(
            batch.exo.flatten(0, 1), flat[..., :2], padding_mode="border", align_corners=False
        )
        there = grid_sample(
            volume, flat[:, :, :, None], padding_mode="border", align_corners=False
        )[..., 0]
        colour = colour.movedim(1, -1).view(b, v, n, height, width, 3)
        told = torch.cat(
            (
                there.movedim(1, -1).view(b, v, n, height, width, 2),
                told.view(b, v, n, height, width, 2),
            ),
            dim=-1,
        )
        seen = told[..., 2:3]
        mean, spread, _ = weighted(colour, self.of_warp(told), seen)
        below = _scaled(coarse.flatten(0, 1), height, width)
        warped = mean.flatten(0, 1).movedim(-1, 1)
        beside = torch.cat(
            (spread.mean(-1, keepdim=True), seen.amax(1), depth_m.log()[..., None]), dim=-1
        )
        inputs = torch.cat(
            (_scaled(finer, height, width), below, warped, beside.flatten(0, 1).movedim(-1, 1)),
            dim=1,
        )
        answer = self.last(inputs)
        share = torch.sigmoid(answer[:, 3:] - 1) * seen.amax(1).flatten(0, 1).movedim(-1, 1)
        return (below + share * (warped - below) + answer[:, :3]).unflatten(0, (b, n))


def weighted(values: Tensor, logits: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, spread (both without axis 1, the views) and weights [B, V, ...]; zeros where no view
    is ``seen``."""
    if values.shape[1] == 1:  # the same without its cost
        mean = (
            values[:, 0] * seen[:, 0] + 0 * logits[:, 0]
        )  # all processes of a step need all gradients
        return mean, torch.zeros_like(mean), seen
    weights = (softplus(logits) + 1e-3) * seen
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)
    mean = (weights * values).sum(1)
    return mean, (weights * (values - mean[:, None]).square()).sum(1), weights


def walk_weights(opacity: Tensor) -> Tensor:  # [..., K] 0...1 -> [..., K], sum 1
    """The share of a ray that ends at each of its samples; the last takes what is left."""
    passed = torch.cumprod(1 - opacity, dim=-1)
    reached = torch.cat((torch.ones_like(passed[..., :1]), passed[..., :-1]), dim=-1)
    return torch.cat((reached[..., :-1] * opacity[..., :-1], reached[..., -1:]), dim=-1)


def _scaled(maps: Tensor, height: int, width: int) -> Tensor:
    return interpolate(maps, (height, width), mode="bilinear", align_corners=False)


class UNet(nn.Module):
    """Three sizes with skips; attention at the smallest. Answers (maps of the first width, maps
    of the smallest)."""

    def __init__(
        self,
        channels: int,
        widths: tuple[int, int, int],
        *,
        stem: int,
        middle: int,
        reads: bool = False,
    ) -> None:
        super().__init__()
        one, two, three = widths
        self.first = nn.Conv2d(channels, one, stem + 2, stride=stem, padding=1)
        self.down = nn.ModuleList(
            (
                Residual(one),
                nn.Conv2d(one, two, 2, stride=2),
                Residual(two),
                nn.Conv2d(two, three, 2, stride=2),
            )
        )
        self.middle = nn.ModuleList(Middle(three, reads) for _ in range(middle))
        self.up = nn.ModuleList(
            (nn.Conv2d(three, two, 1), Residual(two), nn.Conv2d(two, one, 1), Residual(one))
        )
        self.norm = nn.GroupNorm(GROUPS, one)

    def forward(self, maps: Tensor, read: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first = self.down[0](self.first(maps))
        second = self.down[2](self.down[1](first))
        smallest = self.down[3](second)
        for block in self.middle:
            smallest = block(smallest, read)
        second = self.up[1](second + interpolate(self.up[0](smallest), scale_factor=2))
        maps = self.up[3](first + interpolate(self.up[2](second), scale_factor=2))
        return silu(self.norm(maps)), smallest


class Residual(nn.Module):
    """Two convolutions beside the stream; the second begins at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        nn.init.zeros_(self.layers[-1].weight)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.layers(maps)


class Middle(nn.Module):
    """A residual block, attention within the picture, and attention to the views' tokens where it
    ``reads``."""

    def __init__(self, width: int, reads: bool) -> None:
        super().__init__()
        self.block, self.own = Residual(width), Attention(width)
        self.views = Attention(width) if reads else None

    def forward(self, maps: Tensor, read: Tensor | None) -> Tensor:
        maps = self.block(maps)
        tokens = maps.flatten(2).mT
        tokens = tokens + self.own(tokens, None)
        if self.views is not None:
            tokens = tokens + self.views(tokens, read)
        return tokens.mT.unflatten(2, maps.shape[2:])


class Attention(nn.Module):
    """Of tokens to others, or to themselves; it begins at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm_others = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.tell, self.join = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        nn.init.zeros_(self.join.weight)

    def forward(self, tokens: Tensor, others: Tensor | None) -> Tensor:
        q = self.ask(self.norm(tokens)).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)
        k, v = (
            self.tell(self.norm_others(tokens if others is None else others))
            .unflatten(-1, (2, -1, HEAD_DIM))
            .permute(2, 0, 3, 1, 4)
        )
        return self.join(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
