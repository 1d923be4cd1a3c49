"""A Wan transformer of random weights in plain torch: time and memory where neither host nor diffusers is installed.

Every matrix product, norm and attention of Wan 2.1 I2V 14B at its size (``tools.rigs.wan_shapes``), written plainly.
Where not all blocks fit into memory, fewer are kept and gone through in turn: the same time, and the caller says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from egox_core.gga.attention import plain_attention
from egox_core.sizes import CHANNELS, MODEL_CHANNELS
from tools.rigs.wan_shapes import IMAGE_FEATURES, SIZES, TEXT_TOKENS

EPS = 1e-6
PATCH = 4  # latents of a token: 1 x 2 x 2
Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How weights are kept and computed with; ``lora_rank`` > 0 trains a LoRA on both attentions' q, k, v, o."""

    weights: torch.dtype
    compute: torch.dtype
    device: torch.device
    lora_rank: int = 0


class StoredLinear(nn.Module):
    """A frozen linear layer, 8-bit weights with one scale; a LoRA beside it where one is trained."""

    def __init__(self, n_in: int, n_out: int, storage: Storage, *, trained: bool = False) -> None:
        super().__init__()
        weight = torch.randn(n_out, n_in, device=storage.device, dtype=storage.compute) / math.sqrt(n_in)
        scale = torch.ones((), device=storage.device, dtype=storage.compute)
        if storage.weights.itemsize == 1:
            scale = weight.abs().max() / torch.finfo(storage.weights).max
            weight = weight / scale
        self.register_buffer("weight", weight.to(storage.weights))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", torch.zeros(n_out, device=storage.device, dtype=storage.compute))
        self.a = self.b = None
        if trained and storage.lora_rank:
            self.a = nn.Parameter(torch.randn(storage.lora_rank, n_in, device=storage.device) / math.sqrt(n_in))
            self.b = nn.Parameter(torch.zeros(n_out, storage.lora_rank, device=storage.device))

    def forward(self, x: Tensor) -> Tensor:  # [..., n_in] -> [..., n_out]
        weight = self.weight if self.weight.dtype == x.dtype else self.weight.to(x.dtype) * self.scale
        out = F.linear(x, weight, self.bias)
        return out if self.a is None else out + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))


class WanBlock(nn.Module):
    """Self-attention, cross-attention to text and picture, feed-forward; modulated by the time."""

    def __init__(self, dim: int, ffn_dim: int, heads: int, storage: Storage) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v", "o", "text_q", "text_k", "text_v", "text_o"):
            setattr(self, name, StoredLinear(dim, dim, storage, trained=True))
        for name in ("image_k", "image_v"):
            setattr(self, name, StoredLinear(dim, dim, storage))
        self.wider, self.narrower = StoredLinear(dim, ffn_dim, storage), StoredLinear(ffn_dim, dim, storage)
        made = {"device": storage.device, "dtype": storage.compute}
        self.register_buffer("modulation", torch.randn(1, 6, dim, **made) / math.sqrt(dim))
        for name in ("q_norm", "k_norm", "text_q_norm", "text_k_norm", "image_k_norm", "cross_norm"):
            self.register_buffer(name, torch.ones(dim, **made))
        self.register_buffer("cross_shift", torch.zeros(dim, **made))

    def forward(self, x: Tensor, time: Tensor, text: Tensor, image: Tensor, rope: tuple[Tensor, Tensor],
                attend: Attention) -> Tensor:
        # x [B, tokens, dim], time [B, 6, dim], text [B, 512, dim], image [B, 257, dim]
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.modulation + time).chunk(6, dim=1)
        width, heads = x.shape[-1:], self.heads
        y = F.layer_norm(x, width, eps=EPS) * (1 + scale) + shift
        q, k = (rotate(F.rms_norm(made, width, norm, EPS), rope, heads)
                for made, norm in ((self.q(y), self.q_norm), (self.k(y), self.k_norm)))
        x = x + self.o(attend(q, k, self.v(y), heads)) * gate
        q = F.rms_norm(self.text_q(F.layer_norm(x, width, self.cross_norm, self.cross_shift, EPS)), width,
                       self.text_q_norm, EPS)
        seen = (plain_attention(q, F.rms_norm(self.text_k(text), width, self.text_k_norm, EPS), self.text_v(text),
                                heads)
                + plain_attention(q, F.rms_norm(self.image_k(image), width, self.image_k_norm, EPS),
                                  self.image_v(image), heads))
        x = x + self.text_o(seen)
        y = F.layer_norm(x, width, eps=EPS) * (1 + ffn_scale) + ffn_shift
        return x + self.narrower(F.gelu(self.wider(y), approximate="tanh")) * ffn_gate


class RandomWan(nn.Module):
    """The whole transformer; ``held`` blocks are in memory, ``layers`` are gone through."""

    def __init__(self, shape: Mapping[str, int], storage: Storage, held: int | None = None) -> None:
        super().__init__()
        dim = shape["dim"]
        self.heads, self.layers, self.freq_dim = shape["num_heads"], shape["num_layers"], shape["freq_dim"]
        self.compute = storage.compute
        # As in every 8-bit file, what is small stays in 16 bits.
        wide = Storage(weights=storage.compute, compute=storage.compute, device=storage.device)
        self.ends = nn.ModuleDict({
            "patch": StoredLinear(MODEL_CHANNELS * PATCH, dim, wide),
            "text": nn.Sequential(StoredLinear(shape["text_dim"], dim, wide), nn.GELU("tanh"),
                                  StoredLinear(dim, dim, wide)),
            "image": nn.Sequential(StoredLinear(IMAGE_FEATURES, IMAGE_FEATURES, wide), nn.GELU(),
                                   StoredLinear(IMAGE_FEATURES, dim, wide)),
            "time": nn.Sequential(StoredLinear(self.freq_dim, dim, wide), nn.SiLU(), StoredLinear(dim, dim, wide)),
            "modulation": nn.Sequential(nn.SiLU(), StoredLinear(dim, 6 * dim, wide)),
            "head": StoredLinear(dim, CHANNELS * PATCH, wide)})
        self.blocks = nn.ModuleList(WanBlock(dim, shape["ffn_dim"], self.heads, storage)
                                    for _ in range(min(held or self.layers, self.layers)))

    def order(self) -> Iterator[WanBlock]:
        """The blocks as a forward meets them."""
        for number in range(self.layers):
            yield self.blocks[number % len(self.blocks)]

    def forward(
        self,
        x: Tensor,  # [B, 36, t, h, w]
        timestep: Tensor,  # [B] 0...1000
        text: Tensor,  # [B, 512, text_dim]
        image: Tensor,  # [B, 257, 1280]
        attend: Attention = plain_attention,
        order: Callable[[], Iterator[nn.Module]] | None = None,  # where the blocks come from; default: order()
    ) -> Tensor:  # [B, 16, t, h, w]
        batch, channels, t, h, w = x.shape
        patches = x.view(batch, channels, t, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
        hidden = self.ends["patch"](patches.flatten(1, 3).to(self.compute))
        half = self.freq_dim // 2
        angles = timestep[:, None] * torch.exp(-math.log(10000) * torch.arange(half, device=x.device) / half)
        time = self.ends["time"](torch.cat((angles.cos(), angles.sin()), dim=-1).to(self.compute))
        modulation = self.ends["modulation"](time).unflatten(-1, (6, -1)) / math.sqrt(hidden.shape[-1])
        text, image = self.ends["text"](text.to(self.compute)), self.ends["image"](image.to(self.compute))
        rope = rotations((t, h // 2, w // 2), hidden.shape[-1] // self.heads, x.device)
        for block in (order or self.order)():
            arguments = (hidden, modulation, text, image, rope, attend)
            trains = torch.is_grad_enabled() and any(p.requires_grad for p in block.parameters())
            hidden = checkpoint(block, *arguments, use_reentrant=False) if trains else block(*arguments)
        out = self.ends["head"](F.layer_norm(hidden, hidden.shape[-1:], eps=EPS))
        out = out.view(batch, t, h // 2, w // 2, CHANNELS, 2, 2).permute(0, 4, 1, 2, 5, 3, 6)
        return out.reshape(batch, CHANNELS, t, h, w)


class VisitingBlocks:
    """Blocks that stay in main memory: the next one's weights are copied over while this one computes.

    The copies are those of a forced offload; results are the same to the bit.
    """

    def __init__(self, model: RandomWan, device: torch.device) -> None:
        self.device, self.on_gpu, self.layers = device, device.type == "cuda", model.layers
        self.parked = [{name: self._parked(tensor) for name, tensor in block.state_dict().items()}
                       for block in model.blocks]
        self.seats = [model.blocks[0], deepcopy(model.blocks[0])]
        del model.blocks[1:]
        self.copies = torch.cuda.Stream(device) if self.on_gpu else None

    def order(self) -> Iterator[nn.Module]:
        free: list[torch.cuda.Event | None] = [None, None]
        there = self._fetch(0, free)
        for number in range(self.layers):
            arrived, there = there, (self._fetch(number + 1, free) if number + 1 < self.layers else None)
            if arrived is not None:
                torch.cuda.current_stream(self.device).wait_event(arrived)
            yield self.seats[number % 2]
            if self.on_gpu:
                free[number % 2] = torch.cuda.current_stream(self.device).record_event()

    def _fetch(self, number: int, free: list[torch.cuda.Event | None]) -> torch.cuda.Event | None:
        seat, weights = self.seats[number % 2].state_dict(), self.parked[number % len(self.parked)]
        if not self.on_gpu:
            for name, tensor in seat.items():
                tensor.copy_(weights[name])
            return None
        with torch.cuda.stream(self.copies):
            if free[number % 2] is not None:
                self.copies.wait_event(free[number % 2])
            for name, tensor in seat.items():
                tensor.copy_(weights[name], non_blocking=True)
            return self.copies.record_event()

    def _parked(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to("cpu", copy=True)
        return tensor.pin_memory() if self.on_gpu else tensor


def rotations(grid: tuple[int, int, int], dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [tokens, 1, dim / 2] of Wan's rotary embedding: a share of the channels each for t, h, w."""
    side = dim // 6 * 2
    angles = []
    for length, share, axis in zip(grid, (dim - 2 * side, side, side), range(3), strict=True):
        speed = 10000 ** -(torch.arange(0, share, 2, device=device) / share)
        places = torch.arange(length, device=device)[:, None] * speed
        angles.append(places.view(*(length if axis == a else 1 for a in range(3)), -1).expand(*grid, -1))
    angle = torch.cat(angles, dim=-1).flatten(0, 2)[:, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor], heads: int) -> Tensor:  # [B, tokens, heads * d] both
    """Rotary embedding of neighbouring pairs of channels, in float32."""
    cos, sin = rope
    even, odd = x.unflatten(-1, (heads, -1, 2)).float().unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-3).to(x.dtype)


def block_bytes(size: str, weights: torch.dtype) -> int:
    """Memory of one block's matrices."""
    dim, ffn = SIZES[size]["dim"], SIZES[size]["ffn_dim"]
    return (10 * dim * dim + 2 * dim * ffn) * weights.itemsize


def text_shape(size: str, batch: int = 1) -> tuple[int, int, int]:
    return batch, TEXT_TOKENS, SIZES[size]["text_dim"]
