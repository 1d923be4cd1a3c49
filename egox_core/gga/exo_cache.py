"""Cache the exo half's keys and values between sampling steps.

Exo is clean at every step and what the model says of it is thrown away, yet it is 64 % of the
tokens. In a kept step only ego tokens go through the model; their self-attention sees exo's keys
and values (after norm and RoPE) of the last full step. Kept are these, exactly; or, where they have
no room and in a quarter of it, what came into each block, in 8 bits, from which each kept step
projects them anew.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Grid = tuple[int, int, int, int]
"""(t, h, w_exo, w_ego) in tokens."""
TOLERANCE = 1e-6
"""Relative rounding of sigmas that a sampler hands on in another precision."""


class Memory(Protocol):
    """Interface to the memory manager of the program that runs the model, such as ComfyUI."""

    def available_bytes(self, device: torch.device) -> int:
        """Count the free bytes on ``device`` that are not needed for a full forward pass."""

    def reserve(self, device: torch.device, size: int) -> None:
        """Reserve ``size`` bytes on ``device``, for which other models may be unloaded."""

    def pin(self, tensor: Tensor) -> bool:
        """Pin a tensor in main memory, so that a GPU can copy it while it computes.

        False where it can't be locked.
        """

    def unpin(self, tensor: Tensor) -> None:
        """Unpin a tensor that :meth:`pin` pinned."""


class UnlimitedMemory:
    """Memory manager without limits, for samplers that have none: tensors stay on the device that
    made them, or wait on the one that is given."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device

    def available_bytes(self, device: torch.device) -> int:
        """Report unlimited free memory, or none on another device than the given one."""
        return 2**63 if self.device in (None, device) else 0

    def reserve(self, device: torch.device, size: int) -> None:
        """Do nothing, as memory is unlimited."""

    def pin(self, tensor: Tensor) -> bool:
        """Leave the tensor unpinned."""
        return False

    def unpin(self, tensor: Tensor) -> None:
        """Do nothing, as no tensor is pinned."""


def exo_tokens(x: Tensor, grid: Grid) -> Tensor:  # [B, tokens, D] -> [B, t * h, w_exo, D]
    """Select the exo tokens of a whole canvas, as a view."""
    t, h, w_exo, w_ego = grid
    return x.unflatten(1, (t * h, w_exo + w_ego))[:, :, :w_exo]


def ego_tokens(x: Tensor, grid: Grid, dim: int) -> Tensor:
    """Select the ego tokens of a whole canvas, whose tokens lie in dimension ``dim`` of ``x``."""
    t, h, w_exo, w_ego = grid
    ego_columns = x.unflatten(dim, (t * h, w_exo + w_ego)).narrow(dim + 1, w_exo, w_ego)
    return ego_columns.flatten(dim, dim + 1)


def join_tokens(
    exo: Tensor,  # [B, t * h, w_exo, D]
    ego: Tensor,  # [B, t * h * w_ego, D]
) -> Tensor:  # [B, tokens, D]
    """Join exo and ego tokens to the tokens of a whole canvas."""
    return torch.cat((exo, ego.unflatten(1, (exo.shape[1], -1))), dim=2).flatten(1, 2)


GROUP = 64
"""Channels that share a scale in 8 bits."""


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise ``x`` [..., D] to 8-bit integers with one scale for each group of channels.

    The integers are [..., D], the scales [..., groups, 1] with :data:`GROUP` channels each.

    A few channels of a video model are a hundred times the others.
    """
    channel_groups = x.unflatten(-1, (-1, math.gcd(GROUP, x.shape[-1])))
    float16_limits = torch.finfo(torch.float16)
    scale = channel_groups.abs().amax(-1, keepdim=True).float() / 127
    scale = scale.clamp(float16_limits.smallest_normal, float16_limits.max).half()
    codes = (channel_groups / scale.float()).round_().clamp_(-127, 127).to(torch.int8)
    return codes.flatten(-2), scale


def dequantise(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Dequantise the 8-bit integers and scales that :func:`quantise` returns.

    The result is exact to half a scale step."""
    channel_groups = codes.unflatten(-1, (scale.shape[-2], -1))
    return (channel_groups * scale.float()).flatten(-2).to(dtype)


def kept_size(
    blocks: int,
    batch: int,
    grid: Grid,
    width: int,
    # Bytes per number; None: packed, the inputs of the blocks in 8 bits.
    itemsize: int | None,
) -> int:
    """Count the bytes that the exo keys and values of all blocks take."""
    t, h, w_exo, _ = grid
    token_count = blocks * batch * t * h * w_exo
    if itemsize is None:
        return token_count * (width + 2 * (width // math.gcd(GROUP, width)))
    return 2 * token_count * width * itemsize


def step_index_of(sigma: float, sigmas: Sequence[float]) -> int:
    """Find the index of the sampling step that a noise level belongs to.

    A step lasts from its own sigma to above the next one, so that a solver's second call within a
    step counts with the step, and its call at the next sigma with the next one.
    """
    return max(0, sum(sigma <= later_sigma * (1 + TOLERANCE) for later_sigma in sigmas) - 1)


@dataclass(slots=True)
class _Entry:
    """Cached exo keys and values of one condition."""

    cache_device: torch.device  # where all is kept
    packed: bool  # in 8 bits (:func:`quantise`), what came into each block
    step: int = 0
    sigma: float = 0.0
    weights: Hashable = None  # of the model
    blocks: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # k, v; or 8 bits, scale
    block_constants: tuple[Tensor, Tensor] | None = (
        None  # modulation and rotations, the same in all blocks
    )
    pinned: list[Tensor] = field(default_factory=list)
    is_complete: bool = False  # every block was stored at this step


class ExoCache:
    """Cache of the exo half in one sampling run, with an entry for each condition.

    Each condition's part of a stacked batch has an entry of its own, so that it serves in every
    other stacking, and goes when nobody asks for that condition any more. Whether a condition is
    computed or kept never depends on those beside it: :meth:`alike` says which ones of a stack one
    forward can serve.

    ``every``: a full forward at every n-th step; 0: at the first step alone. ``alone``: exo attends
    to exo at time step 0, so a full forward is one of the exo half, and what it gives is exact for
    all steps. ``kept_on``: the one device to keep on; None: that of the forward.
    """

    def __init__(
        self, every: int, *, alone: bool = False, kept_on: torch.device | None = None
    ) -> None:
        self.every = every
        self.exo_is_alone = alone
        self.memory: Memory = UnlimitedMemory(kept_on)
        self.full_count = self.reused_count = 0  # forwards of this run
        self.refused_bytes = 0  # largest request that found no room
        # Names of code that needs the whole canvas in each forward, and whether it wouldn't if it
        # stood before the patch.
        self.whole_canvas_code: dict[str, bool] = {}
        self._entries: dict[tuple[Hashable, Hashable], _Entry] = {}
        # Condition -> sigma of its last forward, and all conditions that were asked for with it.
        self._last_requests: dict[Hashable, tuple[float, frozenset]] = {}
        self._copy_stream: torch.cuda.Stream | None = None

    def clear(self) -> None:
        """Empty the cache and free its memory."""
        for entry in self._entries.values():
            self._free(entry)
        self._entries.clear()
        self._last_requests.clear()
        self._copy_stream = None

    def begin_run(self, memory: Memory) -> None:
        """Empty the cache and its counters at the start of a sampling run."""
        self.clear()
        self.memory = memory
        self.full_count = 0
        self.reused_count = 0
        self.refused_bytes = 0
        self.whole_canvas_code.clear()

    def note_whole_canvas_code(self, name: str, *, may_be_early: bool) -> None:
        """Note code that needs the whole canvas in each forward."""
        self.whole_canvas_code[name] = may_be_early and self.whole_canvas_code.get(name, True)

    def alike(
        self,
        key: Hashable,
        conditions: tuple,
        sigma: float,
        sigmas: Sequence[float],
        weights: Hashable = None,
    ) -> list[list[int]]:
        """Group the indices of stacked conditions that one forward pass can compute together.

        Those that are kept stand together by where and how, and so do all others. The arguments are
        those of :meth:`forward`.
        """
        groups = defaultdict[Hashable, list[int]](list)
        for index, condition in enumerate(conditions):
            entry = self._entries.get((key, condition))
            is_valid = entry and self._is_valid(entry, step_index_of(sigma, sigmas), sigma, weights)
            groups[(entry.cache_device, entry.packed) if entry and is_valid else None].append(index)
        return list(groups.values())

    def forward(
        self,
        # Window, shape and skipped layers: everything but condition, step and weights.
        key: Hashable,
        # Names of the stacked conditions, in their order.
        conditions: tuple,
        sigma: float,
        sigmas: Sequence[float],
        grid: Grid,
        # Memory for the keys and values of all blocks.
        exact_bytes: int,
        device: torch.device,
        # Memory for the blocks' inputs in 8 bits; None: they must not be kept.
        packed_bytes: int | None = None,
        # Names the model's weights, if they change within a run.
        weights: Hashable = None,
        # Conditions that are asked for together, by this forward or another one; empty: not known.
        asked: Collection = (),
    ) -> ExoForward | None:
        """Prepare the cache for one forward pass, or return None if nothing can be cached.

        ``conditions`` are such as :meth:`alike` puts together.
        """
        step_index = step_index_of(sigma, sigmas)
        self._last_requests |= dict.fromkeys(conditions, (sigma, frozenset(asked)))
        for entry_key in [*self._entries]:
            last_sigma, joint_conditions = self._last_requests[entry_key[1]]
            if entry_key[1] not in asked and last_sigma != sigma and joint_conditions & set(asked):
                self._free(self._entries.pop(entry_key))
        entry_keys = [(key, condition) for condition in conditions]
        entries = [
            self._entries[entry_key] for entry_key in entry_keys if entry_key in self._entries
        ]
        is_one_place = len({(entry.cache_device, entry.packed) for entry in entries}) == 1
        blocks_stored = len(entries) == len(entry_keys) and is_one_place
        if blocks_stored and all(
            self._is_valid(entry, step_index, sigma, weights) for entry in entries
        ):
            self.reused_count += 1
            return ExoForward(self, entries, grid, device, reuses_exo=True)
        self.full_count += 1
        if not blocks_stored:
            for entry in entries:
                self._free(entry)
            device_and_precision = self._choose_place(exact_bytes, packed_bytes, device)
            if device_and_precision is None:
                for entry_key in entry_keys:
                    self._entries.pop(entry_key, None)
                self.refused_bytes = max(self.refused_bytes, packed_bytes or exact_bytes)
                return None
            entries = [_Entry(*device_and_precision) for _ in entry_keys]
            self._entries |= dict(zip(entry_keys, entries, strict=True))
        for entry in entries:
            entry.step, entry.sigma, entry.weights = step_index, sigma, weights
            entry.is_complete = False
        return ExoForward(self, entries, grid, device, reuses_exo=False)

    def _is_valid(self, entry: _Entry, step: int, sigma: float, weights: Hashable) -> bool:
        if not entry.is_complete or weights != entry.weights:
            return False
        if sigma > entry.sigma * (1 + TOLERANCE):
            return False  # a restart: the sampler went back to more noise
        return self.every == 0 or step // self.every == entry.step // self.every

    def _choose_place(
        self, exact_bytes: int, packed_bytes: int | None, device: torch.device
    ) -> tuple[torch.device, bool] | None:
        """Choose device and precision to cache a condition in, or return None without room.

        Exact ones stay on the device that computes: they need no projection, but four times as
        much would have to be brought there in each kept step.
        """
        can_pack = packed_bytes is not None
        needed_bytes = packed_bytes if can_pack else exact_bytes
        for cache_device, is_packed, size in (
            (device, False, exact_bytes),
            (device, can_pack, needed_bytes),
            (torch.device("cpu"), can_pack, needed_bytes),
        ):
            if self.memory.available_bytes(cache_device) >= size:
                self.memory.reserve(cache_device, size)
                return cache_device, is_packed
        return None

    def _free(self, entry: _Entry) -> None:
        if entry.pinned:
            torch.cuda.synchronize()  # copies to and from pinned memory may still be under way
        for x in entry.pinned:
            self.memory.unpin(x)
        entry.pinned.clear()
        entry.blocks.clear()
        entry.block_constants = None

    def store(self, entry: _Entry, block: int, pair: tuple[Tensor, Tensor]) -> None:
        """Copy a block's pair [B, t * h, w_exo, ...] to the device of its cache entry."""
        if block in entry.blocks:
            for stored_tensor, tensor in zip(entry.blocks[block], pair, strict=True):
                stored_tensor.copy_(tensor, non_blocking=True)
            return
        keys, values = (
            torch.empty(x.shape, dtype=x.dtype, device=entry.cache_device) for x in pair
        )
        stored_pair = keys, values
        for stored_tensor, tensor in zip(stored_pair, pair, strict=True):
            if (
                tensor.is_cuda
                and entry.cache_device.type == "cpu"
                and self.memory.pin(stored_tensor)
            ):
                entry.pinned.append(stored_tensor)
            stored_tensor.copy_(tensor, non_blocking=True)
        entry.blocks[block] = stored_pair

    def fetch(self, entry: _Entry, block: int, device: torch.device) -> Transfer:
        """Start to copy a block's cached pair to a device, on a stream beside the computation."""
        stored_first, second = entry.blocks[block]
        if entry.cache_device == device or device.type != "cuda":
            return Transfer((stored_first.to(device), second.to(device)), None)
        if self._copy_stream is None:
            self._copy_stream = torch.cuda.Stream(device)
        self._copy_stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._copy_stream):
            device_pair = (
                stored_first.to(device, non_blocking=True),
                second.to(device, non_blocking=True),
            )
            return Transfer(device_pair, self._copy_stream.record_event())


@dataclass(frozen=True, slots=True)
class Transfer:
    """Cached pair of tensors that is being copied to a device."""

    tensors: tuple[Tensor, Tensor]
    copy_event: torch.cuda.Event | None

    def wait(self) -> tuple[Tensor, Tensor]:
        """Wait for the copy in the current stream, and return its tensors."""
        if self.copy_event is not None:
            stream = torch.cuda.current_stream(self.tensors[0].device)
            stream.wait_event(self.copy_event)
            for x in self.tensors:
                x.record_stream(stream)
        return self.tensors


class ExoForward:
    """Cached exo keys and values, as one forward pass of the model reads and writes them.

    It stores what is kept of exo, or puts exo's keys and values next to ego's.
    """

    def __init__(
        self,
        cache: ExoCache,
        # Entries of the stacked conditions, in their order.
        entries: list[_Entry],
        grid: Grid,
        device: torch.device,
        *,
        reuses_exo: bool,
    ) -> None:
        self.cache, self.entries, self.grid = cache, entries, grid
        self.device, self.reuses_exo = device, reuses_exo
        self._transfers: dict[int, list[Transfer]] = {}
        self._projected: dict[int, tuple[Tensor, ...]] = {}
        self._kept_inputs: set[int] = set()  # blocks whose input is kept
        self._stored_blocks: set[int] = set()  # those of them that went on to their self-attention

    @property
    def packed(self) -> bool:
        """True if blocks' inputs are cached in 8 bits by :meth:`keep_input`."""
        return self.entries[0].packed

    @property
    def tokens(self) -> int:
        """Number of tokens that go through the model in this forward pass."""
        t, h, w_exo, w_ego = self.grid
        return (
            t
            * h
            * (w_ego if self.reuses_exo else w_exo if self.cache.exo_is_alone else w_exo + w_ego)
        )

    def keys_and_values(
        self,
        block: int,
        k: Tensor,  # [B, tokens, D] after norm and RoPE
        v: Tensor,  # [B, tokens, D]
    ) -> tuple[Tensor, Tensor]:  # [B, tokens of the whole canvas, D] each
        """Return the keys and values of the whole canvas for one block's self-attention."""
        if not self.reuses_exo:
            if not self.packed:
                self._store_split(block, self._exo(k), self._exo(v))
            if not self.packed or block in self._kept_inputs:
                self._stored_blocks.add(block)
            return k, v
        stored_parts = [self._projected.pop(block)] if self.packed else self._wait_for_block(block)
        exo_k, exo_v = zip(*stored_parts, strict=True)
        return self._join_batch(exo_k, k), self._join_batch(exo_v, v)

    def keep_input(self, block: int, x: Tensor, modulation: Tensor, rotations: Tensor) -> None:
        """Cache the exo tokens that enter a block in a full forward pass.

        Args:
            x: [B, tokens, D].
            modulation: of all its tokens.
            rotations: [1, tokens, ...].
        """
        if not self._kept_inputs:
            exo_rotations = self._exo(rotations).flatten(1, 2).clone()
            for entry, entry_modulation in zip(
                self.entries, self._split_conditions(modulation), strict=True
            ):
                entry.block_constants = entry_modulation.clone(), exo_rotations
        self._store_split(block, *quantise(self._exo(x)))
        self._kept_inputs.add(block)

    def kept_input(
        self, block: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:  # [B, exo tokens, D], modulation, rotations
        """Return a block's exo input, cached by :meth:`keep_input`."""
        codes, scale = zip(*self._wait_for_block(block), strict=True)
        exo_inputs = dequantise(torch.cat(codes), torch.cat(scale), dtype).flatten(1, 2)
        stored_inputs = [
            entry.block_constants for entry in self.entries if entry.block_constants is not None
        ]
        if not stored_inputs:
            raise RuntimeError("a kept forward before a full one")
        modulation = torch.cat([entry_modulation for entry_modulation, _ in stored_inputs])
        return exo_inputs, modulation.to(self.device), stored_inputs[0][1].to(self.device)

    def put_projected(self, block: int, *pair: Tensor) -> None:
        """Store keys and values [B, exo tokens, D], projected from :meth:`kept_input`."""
        t, h, w_exo, _ = self.grid
        self._projected[block] = tuple(x.unflatten(1, (t * h, w_exo)) for x in pair)

    def _exo(self, x: Tensor) -> Tensor:  # [B, tokens, D] -> [B, t * h, w_exo, D]
        t, h, w_exo, _ = self.grid
        return (
            x.unflatten(1, (t * h, w_exo)) if self.cache.exo_is_alone else exo_tokens(x, self.grid)
        )

    def _split_conditions(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split a batch into the rows of each stacked condition."""
        return x.chunk(len(self.entries))

    def _store_split(self, block: int, *pair: Tensor) -> None:
        for entry, *entry_pair in zip(
            self.entries, *map(self._split_conditions, pair), strict=True
        ):
            self.cache.store(entry, block, (entry_pair[0], entry_pair[1]))

    def _join_batch(
        self,
        exo: Sequence[Tensor],  # [b, t * h, w_exo, D] of parts of the batch, in its order
        ego: Tensor,  # [B, t * h * w_ego, D]
    ) -> Tensor:  # [B, tokens, D]
        """Join exo and ego tokens as :func:`join_tokens` does, with the exo part in pieces."""
        t, h, w_exo, w_ego = self.grid
        joined_tokens = ego.new_empty(len(ego), t * h, w_exo + w_ego, ego.shape[-1])
        joined_tokens[:, :, w_exo:] = ego.unflatten(1, (t * h, w_ego))
        for row_chunk, exo_rows in zip(joined_tokens.chunk(len(exo)), exo, strict=True):
            row_chunk[:, :, :w_exo] = exo_rows
        return joined_tokens.flatten(1, 2)

    def _wait_for_block(self, block: int) -> list[tuple[Tensor, Tensor]]:
        transfers = self._transfers.pop(block, None) or self._start_transfers(block)
        if block + 1 in self.entries[0].blocks:
            self._transfers[block + 1] = self._start_transfers(block + 1)
        return [transfer.wait() for transfer in transfers]

    def _start_transfers(self, block: int) -> list[Transfer]:
        return [self.cache.fetch(entry, block, self.device) for entry in self.entries]

    def finish(self, blocks: int, skipped: Collection[int] = ()) -> None:
        """Mark the entries as complete if the forward pass stored every block that it ran.

        With ``alone`` the ego half is next.
        """
        if not self.reuses_exo:
            for entry in self.entries:
                entry.is_complete = self._stored_blocks == set(range(blocks)) - set(skipped)
            self.reuses_exo = self.cache.exo_is_alone
