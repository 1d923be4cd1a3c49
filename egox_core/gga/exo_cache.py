"""The exo half, kept between sampling steps.

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
    """Memory management of whoever samples."""

    def room(self, device: torch.device) -> int:
        """Count the bytes that may be taken on ``device`` beside what a full forward needs."""

    def take(self, device: torch.device, size: int) -> None:
        """Have so many bytes of :meth:`room` be free: others give theirs up."""

    def pin(self, tensor: Tensor) -> bool:
        """Lock a tensor in main memory so that a GPU can fetch it while it computes.

        False where it can't be locked.
        """

    def unpin(self, tensor: Tensor) -> None:
        """Undo a :meth:`pin` that was done."""


class UnlimitedMemory:
    """Memory of a sampler that nobody manages: everything stays where it was made."""

    def room(self, device: torch.device) -> int:
        """Set no limit."""
        return 2**63

    def take(self, device: torch.device, size: int) -> None:
        """Free nothing, as nobody holds anything."""

    def pin(self, tensor: Tensor) -> bool:
        """Pin nothing, as nothing is kept elsewhere."""
        return False

    def unpin(self, tensor: Tensor) -> None:
        """Unpin nothing, as nothing was pinned."""


def exo_tokens(x: Tensor, grid: Grid) -> Tensor:  # [B, tokens, D] -> [B, t * h, w_exo, D]
    """Take the exo part (a view) of the tokens of a whole canvas."""
    t, h, w_exo, w_ego = grid
    return x.unflatten(1, (t * h, w_exo + w_ego))[:, :, :w_exo]


def ego_tokens(x: Tensor, grid: Grid, dim: int) -> Tensor:
    """Take the ego part of ``x``, whose dimension ``dim`` holds the tokens of a whole canvas."""
    t, h, w_exo, w_ego = grid
    rows = x.unflatten(dim, (t * h, w_exo + w_ego)).narrow(dim + 1, w_exo, w_ego)
    return rows.flatten(dim, dim + 1)


def join_tokens(
    exo: Tensor,  # [B, t * h, w_exo, D]
    ego: Tensor,  # [B, t * h * w_ego, D]
) -> Tensor:  # [B, tokens, D]
    """Join both halves to the tokens of a whole canvas."""
    return torch.cat((exo, ego.unflatten(1, (exo.shape[1], -1))), dim=2).flatten(1, 2)


GROUP = 64
"""Channels that share a scale in 8 bits."""


def pack(x: Tensor) -> tuple[Tensor, Tensor]:
    """Pack ``x`` [..., D] into 8 bits: whole numbers [..., D] and the scale [..., groups, 1] of
    each :data:`GROUP` channels.

    A few channels of a video model are a hundred times the others.
    """
    groups = x.unflatten(-1, (-1, math.gcd(GROUP, x.shape[-1])))
    half = torch.finfo(torch.float16)
    scale = groups.abs().amax(-1, keepdim=True).float() / 127
    scale = scale.clamp(half.smallest_normal, half.max).half()
    codes = (groups / scale.float()).round_().clamp_(-127, 127).to(torch.int8)
    return codes.flatten(-2), scale


def unpack(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Give back the input of :func:`pack`, to half a scale."""
    groups = codes.unflatten(-1, (scale.shape[-2], -1))
    return (groups * scale.float()).flatten(-2).to(dtype)


def kept_size(
    blocks: int,
    batch: int,
    grid: Grid,
    width: int,
    # Bytes per number; None: packed, the inputs of the blocks in 8 bits.
    itemsize: int | None,
) -> int:
    """Count the bytes of exo's keys and values of all blocks."""
    t, h, w_exo, _ = grid
    tokens = blocks * batch * t * h * w_exo
    if itemsize is None:
        return tokens * (width + 2 * (width // math.gcd(GROUP, width)))
    return 2 * tokens * width * itemsize


def step_of(sigma: float, sigmas: Sequence[float]) -> int:
    """Index of the sampling step that a noise level belongs to.

    A step lasts from its own sigma to above the next one, so that a solver's second call within a
    step counts with the step, and its call at the next sigma with the next one.
    """
    return max(0, sum(sigma <= later_sigma * (1 + TOLERANCE) for later_sigma in sigmas) - 1)


class ExoHalves:
    """Exo's keys and values with their graph, from a forward of each half: training with exo alone.

    Which half a call is about shows in its tokens, since checkpointed blocks run again in backward.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.kept = False  # True: the model sees the ego half
        self._blocks: dict[int, tuple[Tensor, Tensor]] = {}

    def keys_and_values(
        self,
        block: int,
        k: Tensor,  # [B, tokens, D] after norm and RoPE
        v: Tensor,  # [B, tokens, D]
    ) -> tuple[Tensor, Tensor]:
        """Choose exo's own keys and values for exo tokens, and the full canvas's for ego tokens."""
        t, h, w_exo, _ = self.grid
        if k.shape[1] == t * h * w_exo:
            self._blocks.setdefault(block, (k, v))  # not those of a repeated forward
            return k, v
        exo_k, exo_v = (x.unflatten(1, (t * h, w_exo)) for x in self._blocks[block])
        return join_tokens(exo_k, k), join_tokens(exo_v, v)


@dataclass(slots=True)
class _Entry:
    """Exo of one condition."""

    home: torch.device  # where all is kept
    packed: bool  # in 8 bits (:func:`pack`), what came into each block
    step: int = 0
    sigma: float = 0.0
    weights: Hashable = None  # of the model
    blocks: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # k, v; or 8 bits, scale
    beside: tuple[Tensor, Tensor] | None = None  # modulation and rotations, the same in all blocks
    pinned: list[Tensor] = field(default_factory=list)
    whole: bool = False  # every block was stored at this step


class ExoCache:
    """The exo half of one sampling run, by condition and whatever else makes a forward another.

    Each condition's part of a stacked batch has an entry of its own, so that it serves in every
    other stacking, and goes when nobody asks for that condition any more. Whether a condition is
    computed or kept never depends on those beside it: :meth:`alike` says which ones of a stack one
    forward can serve.

    ``every``: a full forward at every n-th step; 0: at the first step alone. ``alone``: exo attends
    to exo at time step 0, so a full forward is one of the exo half, and what it gives is exact for
    all steps.
    """

    def __init__(self, every: int, *, alone: bool = False) -> None:
        self.every = every
        self.alone = alone
        self.memory: Memory = UnlimitedMemory()
        self.full = self.kept = 0  # forwards of this run
        self.refused_bytes = 0  # largest request that found no room
        self.in_the_way: set[str] = set()  # code that needs the whole canvas in each forward
        self._entries: dict[tuple[Hashable, Hashable], _Entry] = {}
        # Condition -> sigma of its last forward, and all conditions that were asked for with it.
        self._used: dict[Hashable, tuple[float, frozenset]] = {}
        self._lane: torch.cuda.Stream | None = None

    def clear(self) -> None:
        """Give all memory back."""
        for entry in self._entries.values():
            self._free(entry)
        self._entries.clear()
        self._used.clear()
        self._lane = None

    def begin_run(self, memory: Memory) -> None:
        """Forget the run before."""
        self.clear()
        self.memory, self.full, self.kept, self.refused_bytes = memory, 0, 0, 0
        self.in_the_way.clear()

    @property
    def kept_bytes(self) -> int:
        """Memory of all that is kept."""
        tensors = (
            x
            for entry in self._entries.values()
            for pair in (*entry.blocks.values(), entry.beside or ())
            for x in pair
        )
        storages = (x.untyped_storage() for x in tensors)
        return sum({store.data_ptr(): store.nbytes() for store in storages}.values())

    def alike(
        self,
        key: Hashable,
        conditions: tuple,
        sigma: float,
        sigmas: Sequence[float],
        weights: Hashable = None,
    ) -> list[list[int]]:
        """Group the places of stacked conditions that one forward can serve.

        Those that are kept stand together by where and how, and so do all others. The arguments are
        those of :meth:`forward`.
        """
        places = defaultdict[Hashable, list[int]](list)
        for place, condition in enumerate(conditions):
            entry = self._entries.get((key, condition))
            good = entry and self._still_good(entry, step_of(sigma, sigmas), sigma, weights)
            places[(entry.home, entry.packed) if entry and good else None].append(place)
        return list(places.values())

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
        """Find the part of the cache that one forward uses, or None where nothing can be kept.

        ``conditions`` are such as :meth:`alike` puts together.
        """
        step = step_of(sigma, sigmas)
        self._used |= dict.fromkeys(conditions, (sigma, frozenset(asked)))
        for name in [*self._entries]:
            used_at, together = self._used[name[1]]
            if name[1] not in asked and used_at != sigma and together & set(asked):
                self._free(self._entries.pop(name))
        names = [(key, condition) for condition in conditions]
        entries = [self._entries[name] for name in names if name in self._entries]
        one_home = len({(entry.home, entry.packed) for entry in entries}) == 1
        blocks_stored = len(entries) == len(names) and one_home
        if blocks_stored and all(
            self._still_good(entry, step, sigma, weights) for entry in entries
        ):
            self.kept += 1
            return ExoForward(self, entries, grid, device, kept=True)
        self.full += 1
        if not blocks_stored:
            for entry in entries:
                self._free(entry)
            home = self._home(exact_bytes, packed_bytes, device)
            if home is None:
                for name in names:
                    self._entries.pop(name, None)
                self.refused_bytes = max(self.refused_bytes, packed_bytes or exact_bytes)
                return None
            entries = [_Entry(*home) for _ in names]
            self._entries |= dict(zip(names, entries, strict=True))
        for entry in entries:
            entry.step, entry.sigma, entry.weights = step, sigma, weights
            entry.whole = False
        return ExoForward(self, entries, grid, device, kept=False)

    def _still_good(self, entry: _Entry, step: int, sigma: float, weights: Hashable) -> bool:
        if not entry.whole or weights != entry.weights:
            return False
        if sigma > entry.sigma * (1 + TOLERANCE):
            return False  # a restart: the sampler went back to more noise
        return self.every == 0 or step // self.every == entry.step // self.every

    def _home(
        self, exact_bytes: int, packed_bytes: int | None, device: torch.device
    ) -> tuple[torch.device, bool] | None:
        """Choose a condition's device and whether it is kept in 8 bits, or None without room.

        Exact ones stay on the device that computes: they need no projection, but four times as
        much would have to be brought there in each kept step.
        """
        packed = packed_bytes is not None
        needed_bytes = packed_bytes if packed else exact_bytes
        for place, in_8_bits, size in (
            (device, False, exact_bytes),
            (device, packed, needed_bytes),
            (torch.device("cpu"), packed, needed_bytes),
        ):
            if self.memory.room(place) >= size:
                self.memory.take(place, size)
                return place, in_8_bits
        return None

    def _free(self, entry: _Entry) -> None:
        if entry.pinned:
            torch.cuda.synchronize()  # copies to and from pinned memory may still be under way
        for x in entry.pinned:
            self.memory.unpin(x)
        entry.pinned.clear()
        entry.blocks.clear()
        entry.beside = None

    def store(self, entry: _Entry, block: int, pair: tuple[Tensor, Tensor]) -> None:
        """Copy a block's pair, [B, t * h, w_exo, ...] each, to where it is kept."""
        if block in entry.blocks:
            for old, new in zip(entry.blocks[block], pair, strict=True):
                old.copy_(new, non_blocking=True)
            return
        keys, values = (torch.empty(x.shape, dtype=x.dtype, device=entry.home) for x in pair)
        stored_pair = keys, values
        for old, new in zip(stored_pair, pair, strict=True):
            if new.is_cuda and entry.home.type == "cpu" and self.memory.pin(old):
                entry.pinned.append(old)
            old.copy_(new, non_blocking=True)
        entry.blocks[block] = stored_pair

    def fetch(self, entry: _Entry, block: int, device: torch.device) -> Transfer:
        """Start to bring a block's pair to the device, beside what it computes."""
        first, second = entry.blocks[block]
        if entry.home == device or device.type != "cuda":
            return Transfer((first.to(device), second.to(device)), None)
        if self._lane is None:
            self._lane = torch.cuda.Stream(device)
        self._lane.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._lane):
            device_pair = first.to(device, non_blocking=True), second.to(device, non_blocking=True)
            return Transfer(device_pair, self._lane.record_event())


@dataclass(frozen=True, slots=True)
class Transfer:
    """A pair that is on its way to the device."""

    pair: tuple[Tensor, Tensor]
    arrived: torch.cuda.Event | None

    def wait(self) -> tuple[Tensor, Tensor]:
        """Return the tensors once the stream that computes may use them."""
        if self.arrived is not None:
            stream = torch.cuda.current_stream(self.pair[0].device)
            stream.wait_event(self.arrived)
            for x in self.pair:
                x.record_stream(stream)
        return self.pair


class ExoForward:
    """Access of one forward pass to the cache.

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
        kept: bool,
    ) -> None:
        self.cache, self.entries, self.grid = cache, entries, grid
        self.device, self.kept = device, kept
        self._next: dict[int, list[Transfer]] = {}
        self._projected: dict[int, tuple[Tensor, ...]] = {}
        self._given: set[int] = set()  # blocks whose input is kept
        self._stored: set[int] = set()  # those of them that went on to their self-attention

    @property
    def packed(self) -> bool:
        """True where :meth:`keep_input` is called for each block."""
        return self.entries[0].packed

    @property
    def tokens(self) -> int:
        """Tokens that go through the model."""
        t, h, w_exo, w_ego = self.grid
        return t * h * (w_ego if self.kept else w_exo if self.cache.alone else w_exo + w_ego)

    def keys_and_values(
        self,
        block: int,
        k: Tensor,  # [B, tokens, D] after norm and RoPE
        v: Tensor,  # [B, tokens, D]
    ) -> tuple[Tensor, Tensor]:  # [B, tokens of the whole canvas, D] each
        """Collect the keys and values of the whole canvas for one self-attention."""
        if not self.kept:
            if not self.packed:
                self._store(block, self._exo(k), self._exo(v))
            if not self.packed or block in self._given:
                self._stored.add(block)
            return k, v
        parts = [self._projected.pop(block)] if self.packed else self._fetched(block)
        exo_k, exo_v = zip(*parts, strict=True)
        return self._joined(exo_k, k), self._joined(exo_v, v)

    def keep_input(self, block: int, x: Tensor, modulation: Tensor, rotations: Tensor) -> None:
        """Keep what comes into a block of a full forward.

        Args:
            x: [B, tokens, D].
            modulation: of all its tokens.
            rotations: [1, tokens, ...].
        """
        if not self._given:
            exo_rotations = self._exo(rotations).flatten(1, 2).clone()
            for entry, entry_modulation in zip(self.entries, self._parts(modulation), strict=True):
                entry.beside = entry_modulation.clone(), exo_rotations
        self._store(block, *pack(self._exo(x)))
        self._given.add(block)

    def kept_input(
        self, block: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:  # [B, exo tokens, D], modulation, rotations
        """Give back the input kept by :meth:`keep_input`."""
        codes, scale = zip(*self._fetched(block), strict=True)
        x = unpack(torch.cat(codes), torch.cat(scale), dtype).flatten(1, 2)
        stored_inputs = [entry.beside for entry in self.entries if entry.beside is not None]
        if not stored_inputs:
            raise RuntimeError("a kept forward before a full one")
        modulation = torch.cat([entry_modulation for entry_modulation, _ in stored_inputs])
        return x, modulation.to(self.device), stored_inputs[0][1].to(self.device)

    def put_projected(self, block: int, *pair: Tensor) -> None:
        """Store keys and values [B, exo tokens, D] of what :meth:`kept_input` gave."""
        t, h, w_exo, _ = self.grid
        self._projected[block] = tuple(x.unflatten(1, (t * h, w_exo)) for x in pair)

    def _exo(self, x: Tensor) -> Tensor:  # [B, tokens, D] -> [B, t * h, w_exo, D]
        t, h, w_exo, _ = self.grid
        return x.unflatten(1, (t * h, w_exo)) if self.cache.alone else exo_tokens(x, self.grid)

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split a batch into each condition's rows."""
        return x.chunk(len(self.entries))

    def _store(self, block: int, *pair: Tensor) -> None:
        for entry, *entry_pair in zip(self.entries, *map(self._parts, pair), strict=True):
            self.cache.store(entry, block, (entry_pair[0], entry_pair[1]))

    def _joined(
        self,
        exo: Sequence[Tensor],  # [b, t * h, w_exo, D] of parts of the batch, in its order
        ego: Tensor,  # [B, t * h * w_ego, D]
    ) -> Tensor:  # [B, tokens, D]
        """Join tokens as :func:`join_tokens` does, each part written where it belongs."""
        t, h, w_exo, w_ego = self.grid
        out = ego.new_empty(len(ego), t * h, w_exo + w_ego, ego.shape[-1])
        out[:, :, w_exo:] = ego.unflatten(1, (t * h, w_ego))
        for rows, exo_rows in zip(out.chunk(len(exo)), exo, strict=True):
            rows[:, :, :w_exo] = exo_rows
        return out.flatten(1, 2)

    def _fetched(self, block: int) -> list[tuple[Tensor, Tensor]]:
        transfers = self._next.pop(block, None) or self._fetch(block)
        if block + 1 in self.entries[0].blocks:
            self._next[block + 1] = self._fetch(block + 1)
        return [transfer.wait() for transfer in transfers]

    def _fetch(self, block: int) -> list[Transfer]:
        return [self.cache.fetch(entry, block, self.device) for entry in self.entries]

    def finish(self, blocks: int) -> None:
        """Accept what a full forward stored, if it passed through every block's attention.

        With ``alone`` the ego half is next.
        """
        if not self.kept:
            for entry in self.entries:
                entry.whole = self._stored == set(range(blocks))
            self.kept = self.cache.alone
