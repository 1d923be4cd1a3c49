"""Count the memory of cached exo tokens."""

from egox_core.gga.exo_cache import ExoCache


def count_cached_bytes(exo_cache: ExoCache) -> int:
    """Count the bytes of all cached tensors."""
    tensors = (
        tensor
        for entry in exo_cache._entries.values()
        for pair in (*entry.blocks.values(), entry.block_constants or ())
        for tensor in pair
    )
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
